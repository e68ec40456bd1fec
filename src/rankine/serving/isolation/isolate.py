"""A pool's device with its engine calls in worker processes, which the pool need not know."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from rankine.artifact import Artifact
from rankine.compilation.engine import Runner
from rankine.errors import UsageError
from rankine.models.columns import Batch, Columns
from rankine.serving.config import PoolDeviceConfig, ServeConfig
from rankine.serving.devices import PoolDevice
from rankine.serving.isolation.crew import Crew, CrewLimits, Lost
from rankine.serving.isolation.messages import RungToOpen, WorkerSpec
from rankine.serving.isolation.tables import Tables
from rankine.serving.model import ServedModel
from rankine.serving.rungs import VariantRunner

__all__ = ["IsolatedRunner", "isolate", "isolate_devices", "spec_of"]


class IsolatedRunner:
    """A :class:`~rankine.compilation.engine.Runner` whose batches run in the worker process of the calling thread.

    What is computed of items ahead of time is still computed here, where they are read.

    Args:
        local: the same variant, opened here.
        rung: its number among those that the processes open.
    """

    def __init__(self, local: Runner, rung: int, crew: Crew) -> None:
        self._local, self._rung, self._crew = local, rung, crew

    def run(self, batch: Batch, out: np.ndarray) -> None:
        """See :meth:`rankine.serving.isolation.crew.Crew.run`."""
        self._crew.run(self._rung, batch, out)

    def complete(self, items: Columns) -> Columns:
        return self._local.complete(items)

    def close(self) -> None:
        self._local.close()


def isolate_devices(model: ServedModel, config: ServeConfig, lost: Lost) -> tuple[PoolDevice, ...]:
    """The devices on which ``config`` serves ``model``, each with worker processes for its workers.

    Args:
        lost: told why a process was lost.

    Raises:
        UsageError: this system lacks what it takes.
    """
    if sys.platform != "linux":
        message = "worker processes need Linux"
        raise UsageError(message, where="isolate", got=sys.platform, hint="Serve without --isolate: in threads.")
    only = PoolDevice(model.choice.engine, model.rungs, config.workers, config.cores)
    asked: Sequence[PoolDeviceConfig | ServeConfig] = config.device_pool or (config,)
    tables = Tables()
    if model.catalog is not None:
        model.catalog.before(lambda items: tables.publish(items.view.segments[0].columns))
    return tuple(
        isolate(
            device,
            spec_of(
                model.artifact,
                device,
                device=one.device,
                threads=one.threads,
                split=config.split,
                options=one.options if isinstance(one, PoolDeviceConfig) else {},
            ),
            CrewLimits(device.workers, config.spare_workers, config.worker_hang_s),
            tables,
            lost,
        )
        for device, one in zip(model.devices or (only,), asked, strict=True)
    )


def isolate(device: PoolDevice, spec: WorkerSpec, limits: CrewLimits, tables: Tables, lost: Lost) -> PoolDevice:
    """``device`` with worker processes that open ``spec``; its own runners go on to complete items."""
    crew = Crew(spec, limits, tables, lost)
    rungs = tuple(
        replace(rung, runner=IsolatedRunner(rung.runner, number, crew)) for number, rung in enumerate(device.rungs)
    )
    return replace(device, rungs=rungs, seats=crew)


def spec_of(
    artifact: Artifact,
    on: PoolDevice,
    *,
    device: str | None,
    threads: int,
    split: bool,
    options: Mapping[str, str] = MappingProxyType({}),
) -> WorkerSpec:
    """What a worker process opens so that it computes what the runners of a pool's device ``on`` do."""
    rungs = tuple(
        RungToOpen(variant=rung.variant, engine=rung.engine, named=isinstance(rung.runner, VariantRunner))
        for rung in on.rungs
    )
    return WorkerSpec(
        artifact=str(artifact.path.resolve()),
        digest=artifact.digest,
        rungs=rungs,
        device=device,
        threads=threads,
        split=split,
        cores=on.cores,
        options=options,
        parent_pid=os.getpid(),
    )
