"""Servers that ``--remote`` names, as devices beside the local ones."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from rankine.certification.plan import variant_digest
from rankine.compilation.compile import read_binding_plan
from rankine.compilation.verify import score_errors
from rankine.models.columns import Batch, Columns, take
from rankine.models.variant import Numeric, load_model
from rankine.serving.config import ServeConfig
from rankine.serving.devices import PoolDevice
from rankine.serving.model import ServedModel
from rankine.serving.protocols.batch_tensors import BATCH_SUFFIX
from rankine.serving.remote.lost import RemoteMismatch
from rankine.serving.remote.server import RemoteServer
from rankine.serving.rungs import ServedRung
from rankine.serving.warm import warm_works
from rankine.serving.work import join

__all__ = ["ENGINE", "RemoteRunner", "open_remotes"]

ENGINE = "remote"
"""What replies and metrics call the engine; which one it is, the other server tells."""
_PROBE_ROWS = 512


class RemoteRunner:
    """A :class:`~rankine.compilation.engine.Runner` whose batches another server runs."""

    def __init__(self, server: RemoteServer) -> None:
        self._server = server

    def run(self, batch: Batch, out: np.ndarray) -> None:
        """See :meth:`rankine.serving.remote.server.RemoteServer.run`."""
        if batch.rows:
            self._server.run(batch, out)

    def complete(self, items: Columns) -> Columns:
        """Items go out as they are: what is computed of them ahead is the other server's own affair."""
        return items

    def close(self) -> None:
        self._server.close()


def open_remotes(model: ServedModel, config: ServeConfig) -> tuple[PoolDevice, ...]:
    """A device for each server of ``config.remote``; one that cannot be reached is left out until it can.

    Raises:
        RemoteMismatch: a server runs something else than ``model``, or computes other scores.
    """
    digest = bytes.fromhex(variant_digest(model.artifact, model.choice.variant))
    agree = _Agreement(model, config)
    found: list[PoolDevice] = []
    with ExitStack() as undo:
        for url in config.remote:
            server = RemoteServer(
                url,
                f"{model.name}{BATCH_SUFFIX}",
                model.schema,
                digest,
                timeout_s=config.remote_timeout_ms / 1000,
                agree=agree,
                allow_uncertified=config.allow_uncertified,
            )
            undo.callback(server.close)
            server.start()
            rung = ServedRung(model.choice.variant, ENGINE, RemoteRunner(server))
            found.append(PoolDevice(f"{ENGINE} {url}", (rung,), config.remote_workers, elsewhere=server))
        undo.pop_all()
    return tuple(found)


class _Agreement:
    """Holds the logits of another server to those of the local engine, which a certificate covers.

    In FP32 both may be off by the limit of an engine; where either rounds, the sanity bound of scores holds.
    """

    def __init__(self, model: ServedModel, config: ServeConfig) -> None:
        rows = min(_PROBE_ROWS, config.max_candidates)
        work = next(one for one in warm_works(model, config.max_candidates) if one.rows == rows)
        self._batch = _own(join([work], model.runner.complete))
        self._expected = np.empty((rows, len(model.schema.tasks)), np.float32)
        model.runner.run(self._batch, self._expected)
        exact = load_model(model.artifact, model.choice.variant).numeric == "fp32" and not _rounds(model)
        self._numeric: Numeric = "fp32" if exact else "int8"

    def __call__(self, server: RemoteServer) -> None:
        found = np.full(self._expected.shape, np.nan, np.float32)
        server.infer(self._batch, found)
        limit, errors = score_errors(self._numeric, found.astype(np.float64), self._expected.astype(np.float64))
        limit, error = (2 * limit if self._numeric == "fp32" else limit), float(errors.max())
        if not error <= limit:  # written so that NaN fails
            raise RemoteMismatch(
                "the server's scores are not those of the engine here", where=server.url,
                got=f"{error:.3g} apart", allowed=f"{limit:.3g}",
            )  # fmt: skip


def _own(batch: Batch) -> Batch:
    """The same with the items of its rows alone: it is kept, and a generation of the catalog is not to be with it."""
    used, index = np.unique(batch.item_index, return_inverse=True)
    return replace(batch, item=take(batch.item, used), item_index=index.astype(np.int32))


def _rounds(model: ServedModel) -> bool:
    """Whether parts of the variant store less of an item than FP32."""
    if model.rungs[0].form == "whole":
        return False
    stored = read_binding_plan(model.artifact, model.choice.variant).stored
    return any(one.storage != "float32" for one in stored)
