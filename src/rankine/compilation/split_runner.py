"""A variant run in parts: the request's once, the candidate's for every row, and of items what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from rankine.compilation.binding.storage import stored
from rankine.compilation.engine import Engine, PartsEngine, Runner, Target
from rankine.compilation.lookup import open_lookup
from rankine.compilation.product_runner import ProductRunner
from rankine.compilation.split_model import SplitModels
from rankine.errors import BadRequest
from rankine.models.columns import Batch, Columns, row_count, take
from rankine.models.graph_inputs import REQUEST_COLUMN, stored_column
from rankine.models.variant import Model

__all__ = ["SplitRunner", "build_split", "derive_items", "open_split_runner"]

_FIRST = np.zeros(1, np.int32)
_DERIVED_AT_ONCE = 4096
"""Items: what is computed of them is cut up and stored while it is still in the cache."""


class SplitRunner:
    """A :class:`~rankine.compilation.engine.Runner` over the runners of the parts.

    Args:
        models: the parts.
        catalog, request: None where there is no such part.
    """

    def __init__(
        self, models: SplitModels, *, catalog: Runner | None, request: Runner | None, candidate: Runner
    ) -> None:
        self._models = models
        self._catalog, self._request, self._candidate = catalog, request, candidate
        self._names = frozenset(stored_column(value.name) for value in models.stored)

    @property
    def candidate(self) -> Runner:
        """Of the candidate's part; where an engine runs both in one call, of the request's too."""
        return self._candidate

    def run(self, batch: Batch, out: np.ndarray) -> None:
        """See :meth:`rankine.compilation.engine.Runner.run`.

        Items that :meth:`complete` has not seen are completed here, those that the batch uses.
        """
        if batch.rows and not self._names.issubset(batch.item):
            batch = self._with_stored(batch)
        if batch.rows and self._request is not None:
            batch = self._with_request(batch, self._request)
        self._candidate.run(batch, out)

    def complete(self, items: Columns) -> Columns:
        """See :meth:`rankine.compilation.engine.Runner.complete`; no item is refused for its values."""
        if self._catalog is None:
            return items
        models = self._models
        found: dict[str, np.ndarray] = {}
        for name, values in derive_items(models, self._catalog, items).items():
            where = f"{models.candidate.name}: {name}"
            parts = stored(values, models.storage, where, strict=False)
            found |= {stored_column(name) + part: array for part, array in parts.items()}
        return {**items, **found}

    def close(self) -> None:
        for runner in (self._catalog, self._request, self._candidate):
            if runner is not None:
                runner.close()

    def _with_stored(self, batch: Batch) -> Batch:
        _check_given(batch.item, self._models.catalog, "item")
        used, index = np.unique(batch.item_index, return_inverse=True)
        _check_index(used, row_count(batch.item), "item")
        items = self.complete(take(batch.item, used))
        return replace(batch, item=items, item_index=index.astype(np.int32))

    def _with_request(self, batch: Batch, runner: Runner) -> Batch:
        """With what the request's part gives; of more requests than rows, those that the batch uses."""
        _check_given(batch.request, self._models.request, "request")
        requests = len(next(iter(batch.request.values()), ()))
        if requests > batch.rows:
            used, index = np.unique(batch.request_index, return_inverse=True)
            _check_index(used, requests, "request")
            batch = replace(batch, request=take(batch.request, used), request_index=index.astype(np.int32))
            requests = len(used)
        shared = np.empty((requests, self._models.request_width), np.float32)
        every = _FIRST if requests == 1 else np.arange(requests, dtype=np.int32)
        runner.run(Batch(batch.request, {}, {}, every, every), shared)
        columns = {**batch.request, REQUEST_COLUMN: shared}
        return Batch(columns, batch.item, batch.pair, batch.request_index, batch.item_index)


def derive_items(models: SplitModels, runner: Runner, items: Columns) -> Mapping[str, np.ndarray]:
    """What is to be stored of items, as it is computed: float32 ``(items, width)`` by the value's name.

    Args:
        runner: of the catalog's part.
    """
    count = row_count(items)
    found = {value.name: np.empty((count, value.width), np.float32) for value in models.stored}
    ends = np.cumsum([value.width for value in models.stored])
    for start in range(0, count, _DERIVED_AT_ONCE):
        rows = slice(start, min(start + _DERIVED_AT_ONCE, count))
        index = np.arange(rows.start, rows.stop, dtype=np.int32)
        block = np.empty((len(index), int(ends[-1])), np.float32)
        runner.run(Batch({}, items, {}, index, index), block)
        for value, part in zip(models.stored, np.split(block, ends[:-1], axis=1), strict=True):
            found[value.name][rows] = part
    return found


def build_split(engine: Engine, models: SplitModels, target: Target, folder: Path) -> None:
    """Write an engine's forms of the request's and the candidate's part into the empty ``folder``.

    Raises:
        EngineError: names the operator or type that the engine does not support.
    """
    request = models.request if models.product is None or isinstance(engine, PartsEngine) else None
    for name, part in (("request", request), ("candidate", models.candidate)):
        if part is not None:
            (folder / name).mkdir()
            engine.build(part, target, folder / name)


def open_split_runner(
    engine: Engine, models: SplitModels, folder: Path, catalog: Runner | None, *, device: str = "cpu", threads: int = 1
) -> SplitRunner:
    """Open what :func:`build_split` wrote.

    Args:
        catalog: of the catalog's part; it is the same for all engines.
    """
    request: Runner | None = None
    place = folder / "candidate"
    if models.request is not None and isinstance(engine, PartsEngine):
        early = folder / "request"
        candidate = engine.open_parts(models.request, early, models.candidate, place, device=device, threads=threads)
        return SplitRunner(models, catalog=catalog, request=None, candidate=candidate)
    if models.request is not None and models.product is not None:
        request = ProductRunner(open_lookup(models.request), models.product)
    elif models.request is not None:
        request = engine.open(models.request, folder / "request", device=device, threads=threads)
    return SplitRunner(
        models,
        catalog=catalog,
        request=request,
        candidate=engine.open(models.candidate, place, device=device, threads=threads),
    )


def _check_given(columns: Columns, part: Model | None, side: str) -> None:
    """Refuse columns of nothing, of which no rows can be counted; where but some lack, the lookup says which."""
    if part is not None and not columns:
        raise BadRequest(f"the {side} columns lack this feature", where=part.schema.features[0].name)


def _check_index(used: np.ndarray, count: int, side: str) -> None:
    """Refuse sorted indices that are out of range."""
    if len(used) and not 0 <= used[0] <= used[-1] < count:
        wrong = int(used[0] if used[0] < 0 else used[-1])
        where = f"{side}_index"
        allowed = f"0..{count - 1}" if count else "nothing: there is none"
        raise BadRequest(f"the row's {side} index is out of range", where=where, got=wrong, allowed=allowed)
