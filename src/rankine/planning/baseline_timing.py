"""How long the baseline takes, before anything is compiled: what a target of latency refers to."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from rankine.artifact import Artifact, read_record
from rankine.compilation.engine import Capabilities, Target
from rankine.compilation.engines import installed, load_engine
from rankine.compilation.fastest import task_count
from rankine.compilation.probe_graphs import call_ms
from rankine.config import Frozen
from rankine.errors import ArtifactError, EngineMissing
from rankine.models.columns import Batch
from rankine.models.variant import BASELINE, load_model
from rankine.planning.latency_table import write_table

__all__ = ["BaselineTiming", "baseline_ms", "remembered_baseline_ms"]

_ROWS = 512


class BaselineTiming(Frozen):
    """Kept beside a table of latencies, so that a second search is held to the same figure."""

    baseline: str
    p50_ms_512: float


def remembered_baseline_ms(artifact: Artifact, batch: Batch, table: Path) -> float:
    """As :func:`baseline_ms`; taken from beside the table of latencies where it was measured before.

    Raises:
        ArtifactError: what lies there is no timing.
    """
    place = table.with_name(f"{table.stem}.baseline-{artifact.digest[:16]}.json")
    if place.is_file():
        return _read(place).p50_ms_512
    timing = BaselineTiming(baseline=artifact.digest, p50_ms_512=baseline_ms(artifact, batch))
    try:
        write_table(timing, place)
    except OSError:
        return timing.p50_ms_512  # as with the table itself, which has told so
    return timing.p50_ms_512


def _read(place: Path) -> BaselineTiming:
    try:
        return read_record(place, BaselineTiming)
    except ArtifactError as error:
        raise ArtifactError(
            error.message, where=str(place), got=error.got, hint="Remove the file, and the baseline is timed again."
        ) from None


def baseline_ms(artifact: Artifact, batch: Batch) -> float:
    """Milliseconds of a call of 512 rows in PyTorch eager, one thread; of a model that came as a graph on the first
    engine that runs it and is not ours. Timed as the table of latencies is, with which it is compared.

    Raises:
        EngineMissing: no engine is installed that runs it.
    """
    model = load_model(artifact, BASELINE)
    able = [
        (not found.needs_checkpoint, found.own, name)
        for name, found in installed()
        if isinstance(found, Capabilities)
        and not (found.oracle or found.on_request)
        and not (found.needs_checkpoint and model.checkpoint is None)
    ]
    if not able:
        raise EngineMissing("no engine is installed that runs the baseline", hint="pip install 'rankine[openvino]'")
    engine = load_engine(min(able)[-1])
    with tempfile.TemporaryDirectory(prefix="rankine-baseline-") as scratch:
        engine.build(model, Target(), Path(scratch))
        runner = engine.open(model, Path(scratch))
        try:
            some = batch.select(slice(0, _ROWS))
            out = np.empty((some.rows, task_count(artifact)), np.float32)
            return call_ms(partial(runner.run, some, out))
        finally:
            runner.close()
