"""A batch as a lane takes it: checked, looked up where that is the host's, the rest as entries of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankine.compilation.engines.triton_lang.inputs import InputPlan, Looked
from rankine.compilation.engines.triton_lang.packet import Bags
from rankine.compilation.engines.triton_lang.tables import DeviceTables
from rankine.compilation.gather import bad_index, stored_array
from rankine.compilation.lookup import HostLookup
from rankine.errors import EngineError
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.graph_inputs import REQUEST_COLUMN
from rankine.models.lookup_plan import bad_row, wrong_lists

__all__ = ["Feed", "Given"]


@dataclass(frozen=True)
class Given:
    """What a call brings to the device beside what the host has looked up.

    Attributes:
        bags: of the features that the device looks up, as :attr:`Feed.numbers` has them.
        requests: float32 ``(requests, width)``; None where rows share nothing.
        request_index: int32 ``(rows,)``, in range.
    """

    bags: list[Bags]
    requests: np.ndarray | None
    request_index: np.ndarray | None


class Feed:
    """Of a model's inputs; thread-safe, since it keeps nothing of a batch.

    Args:
        lookup: of what the host fills.

    Attributes:
        numbers: of each feature that the device looks up: which of a call's features it is. Categorical ones of a side
            are looked up together.
    """

    def __init__(self, plan: InputPlan, lookup: HostLookup | None, tables: DeviceTables) -> None:
        self.plan, self.tables, self._lookup = plan, tables, lookup
        plain = [
            (at, tables.whole(one.table))
            for at, one in enumerate(plan.looked)
            if one.source.pooling is None and one.source.length is None
        ]
        self._groups: list[_Group] = []
        for side in ("request", "item", "pair"):
            own = [(at, held) for at, held in plain if held is not None and plan.looked[at].source.side == side]
            if own:
                counts, starts, strides, forms = zip(
                    *((held.table.count, held.start, held.stride, held.form) for _, held in own), strict=True
                )
                self._groups.append(
                    _Group(
                        tuple(at for at, _ in own),
                        np.array(counts, np.int64)[:, None],
                        (np.array(starts, np.int64) + np.array(forms, np.int64))[:, None],
                        np.array(strides, np.int64)[:, None],
                    )
                )
        grouped = [at for group in self._groups for at in group.places]
        self._single = tuple(at for at in range(len(plan.looked)) if at not in set(grouped))
        self.numbers = {at: number for number, at in enumerate([*grouped, *self._single])}

    def fill(self, batch: Batch, arrays: Sequence[np.ndarray]) -> Given:
        """Fill the host's arrays, and give the rest.

        Raises:
            BadRequest: an index or id is out of range, or a column is missing; names the feature. Nothing of a batch
                like that reaches the device.
            EngineError: an array has a wrong type, shape or order.
        """
        if self._lookup is not None:
            self._lookup.run_each(batch, arrays)
        return Given(self._bags(batch), *self._requests(batch))

    def _requests(self, batch: Batch) -> tuple[np.ndarray | None, np.ndarray | None]:
        if not self.plan.request_width:
            return None, None
        requests, index = stored_array(batch.request, REQUEST_COLUMN), batch.request_index
        if requests.ndim != 2 or requests.dtype != np.float32 or requests.shape[1] < self.plan.request_width:
            got, allowed = f"{requests.dtype} {requests.shape}", f"float32 (requests, {self.plan.request_width})"
            raise EngineError(
                "what requests share does not fit the model", where=REQUEST_COLUMN, got=got, allowed=allowed
            )
        wrong = (index < 0) | (index >= len(requests))
        if wrong.any():
            raise bad_index(int(np.argmax(wrong)), batch, None, len(requests))
        return requests[:, : self.plan.request_width], index

    def _bags(self, batch: Batch) -> list[Bags]:
        sides = _Sides(batch)
        grouped = [group.bags(self.plan.looked, batch, sides) for group in self._groups]
        return [*grouped, *(self._one(self.plan.looked[at], batch, sides) for at in self._single)]

    def _one(self, looked: Looked, batch: Batch, sides: _Sides) -> Bags:
        source, column = looked.source, looked.source.values(batch)
        sides.check(looked, column)
        used, back = sides.used(looked)
        count = self.tables.count(looked.table)
        if not isinstance(column, Ragged):
            ids = column[used]
            _check(looked, column, batch, (ids < 0) | (ids >= count), back)
            entries, spilled = self.tables.entries(looked.table, ids)
            return Bags(entries[None], index=back, spilled=spilled)
        _check(looked, column, batch, wrong_lists(source, column, used), back)
        bags = column.take(used)
        wrong = (bags.values < 0) | (bags.values >= count)
        if wrong.any():
            bag_of = np.repeat(np.arange(len(bags)), np.diff(bags.offsets))
            _check(looked, column, batch, np.bincount(bag_of[wrong], minlength=len(bags)) > 0, back)
        entries, spilled = self.tables.entries(looked.table, bags.values)
        return Bags(entries[None], bags.offsets, back, bags.weights, spilled)


class _Sides:
    """Of each side of a batch: which row of its columns each row of the batch reads, and which rows that are."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._bounds: dict[str, tuple[np.ndarray, int, int]] = {}
        self._requests: tuple[np.ndarray, np.ndarray] | None = None

    def check(self, looked: Looked, column: Column) -> None:
        """Refuse what holds no ids, and indices that are out of its range."""
        ragged, ids = isinstance(column, Ragged), column.values if isinstance(column, Ragged) else column
        weights = column.weights if isinstance(column, Ragged) else None
        is_ragged = looked.source.pooling is not None or looked.source.length is not None
        fits = weights is None or (weights.dtype == np.float32 and weights.shape == ids.shape)
        if ragged is not is_ragged or ids.ndim != 1 or ids.dtype != np.int32 or not fits:
            raise _wrong_column(looked, column)
        index, low, high = self._of(looked)
        if low < 0 or high >= len(column):
            wrong = (index < 0) | (index >= len(column))
            raise bad_row(looked.source, column, index, int(np.argmax(wrong)))

    def used(self, looked: Looked) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows of a column that are looked up, and which of them each row of the batch reads; None for one each."""
        index, low, high = self._of(looked)
        if looked.source.side != "request":
            return index, None
        if self._requests is None:
            if low == high:
                self._requests = index[:1], np.zeros(len(index), np.int32)
            else:
                found, back = np.unique(index, return_inverse=True)
                self._requests = found, back.astype(np.int32)
        return self._requests

    def _of(self, looked: Looked) -> tuple[np.ndarray, int, int]:
        side = looked.source.side
        if side not in self._bounds:
            index = looked.source.index(self._batch)
            self._bounds[side] = index, int(index.min()), int(index.max())
        return self._bounds[side]


@dataclass(frozen=True)
class _Group:
    """Categorical features of one side, whose tables are there in full: one matrix of ids for all.

    Attributes:
        places: in the plan.
        counts, starts, strides: int64 ``(features, 1)``, of their tables; the form is in ``starts``.
    """

    places: tuple[int, ...]
    counts: np.ndarray
    starts: np.ndarray
    strides: np.ndarray

    def bags(self, looked: Sequence[Looked], batch: Batch, sides: _Sides) -> Bags:
        columns = [looked[at].source.values(batch) for at in self.places]
        for at, column in zip(self.places, columns, strict=True):
            sides.check(looked[at], column)
        used, back = sides.used(looked[self.places[0]])
        ids = np.empty((len(columns), len(used)), np.int32)
        for column, row in zip(columns, ids, strict=True):
            np.asarray(column).take(used, out=row, mode="clip")
        wrong = (ids < 0) | (ids >= self.counts)
        if wrong.any():
            at = int(np.argmax(wrong.any(axis=1)))
            _check(looked[self.places[at]], columns[at], batch, wrong[at], back)
        return Bags(ids * self.strides + self.starts, index=back)


def _check(looked: Looked, column: Column, batch: Batch, wrong: np.ndarray, back: np.ndarray | None) -> None:
    """Refuse the first row of a batch that reads what is wrong."""
    rows = wrong if back is None else wrong[back]
    if rows.any():
        raise bad_row(looked.source, column, looked.source.index(batch), int(np.argmax(rows)))


def _wrong_column(looked: Looked, column: Column) -> EngineError:
    got = f"lists of {column.values.dtype}" if isinstance(column, Ragged) else f"{column.dtype} {column.shape}"
    return EngineError(
        "the batch does not have the arrays that the lookup reads",
        where=looked.source.name,
        got=got,
        allowed="int32 ids, offsets and indices, float32 values, all contiguous",
    )
