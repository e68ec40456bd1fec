"""A program, or the two of a model in parts, on the native engine: one call a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rankine import _native
from rankine.compilation.fused.sources import Sources
from rankine.compilation.host_runner import check_out
from rankine.errors import BadRequest, EngineError
from rankine.models.columns import Batch, Columns, take

__all__ = ["FusedRunner", "Part"]


@dataclass(frozen=True, slots=True)
class Part:
    """A program and what fills its inputs."""

    program: _native.Program
    sources: Sources


class FusedRunner:
    """A :class:`~rankine.compilation.engine.Runner`; lookups, requests and rows are done in one native call.

    Args:
        candidate: gives the logits of a row.
        request: gives what the rows of a request share; None where there is nothing, or the batch holds it.
        threads: that share a large call.
        instruction_set: one of ``_native.instruction_sets()``; empty for the best.
        tile_rows: that go through all layers together; 0: as many as fit the cache.
    """

    def __init__(
        self,
        candidate: Part,
        request: Part | None = None,
        *,
        threads: int = 1,
        instruction_set: str = "",
        tile_rows: int = 0,
    ) -> None:
        self._request, self._candidate, self._tasks = request, candidate, candidate.program.tasks
        try:
            self._native: _native.FusedRunner | None = _native.FusedRunner(
                None if request is None else request.program,
                [] if request is None else request.sources.native,
                candidate.program,
                candidate.sources.native,
                tile_rows,
                threads,
                instruction_set,
            )
        except (TypeError, ValueError) as error:
            raise EngineError("the program does not fit the model", got=str(error)) from None

    def run(self, batch: Batch, out: np.ndarray) -> None:
        """See :meth:`rankine.compilation.engine.Runner.run`; a batch without rows runs nothing."""
        native = self._native
        if native is None:
            raise EngineError("the runner is closed", hint="Open the artifact's runner again.")
        check_out(out, batch, self._tasks)
        if batch.rows == 0:
            return
        batch, requests = self._used(batch)
        early, late = self._arrays(batch)
        try:
            bad = native.run(early, requests, late, batch.request_index, batch.item_index, out)
        except (TypeError, ValueError) as error:
            raise EngineError(
                "the batch does not have the arrays that the engine reads",
                got=str(error),
                allowed="int32 ids, offsets and indices, float32 values, all contiguous",
            ) from None
        if bad is not None:
            raise self._error(bad, batch, requests)

    def timed(self, batch: Batch, out: np.ndarray, repeats: int) -> np.ndarray:
        """Seconds ``(repeats,)`` of calls one after the other, as a caller in C++ has them.

        Raises:
            EngineError: the runner is closed.
        """
        if self._native is None:
            raise EngineError("the runner is closed", hint="Open the artifact's runner again.")
        self.run(batch, out)  # which checks the batch
        batch, requests = self._used(batch)
        early, late = self._arrays(batch)
        spent = self._native.timed(early, requests, late, batch.request_index, batch.item_index, out, repeats)
        return np.array(spent) * 1e-9

    def complete(self, items: Columns) -> Columns:
        return items

    def close(self) -> None:
        """Free what the engine holds; calls under way keep it until they end."""
        self._native = None

    def _arrays(self, batch: Batch) -> tuple[list[object], list[object]]:
        early = [] if self._request is None else self._request.sources.arrays_of(batch)
        return early, self._candidate.sources.arrays_of(batch)

    def _used(self, batch: Batch) -> tuple[Batch, int]:
        """The batch and its number of requests; of more requests than rows, those that it uses."""
        if self._request is None:
            return batch, 0
        requests = self._request.sources.rows(batch)
        if requests <= batch.rows:
            return batch, requests
        used, index = np.unique(batch.request_index, return_inverse=True)
        if not 0 <= used[0] <= used[-1] < requests:
            wrong = int(used[0] if used[0] < 0 else used[-1])
            allowed = f"0..{requests - 1}"
            message = "the row's request index is out of range"
            raise BadRequest(message, where="request_index", got=wrong, allowed=allowed)
        batch = replace(batch, request=take(batch.request, used), request_index=index.astype(np.int32))
        return batch, len(used)

    def _error(self, bad: Sequence[int], batch: Batch, requests: int) -> BadRequest:
        in_request, number, row = bad
        if not in_request or self._request is None:
            return self._candidate.sources.error(number, row, batch, requests)
        every = np.arange(requests, dtype=np.int32)
        return self._request.sources.error(number, row, Batch(batch.request, {}, {}, every, every), requests)
