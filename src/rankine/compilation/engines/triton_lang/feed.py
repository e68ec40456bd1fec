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
        bags: of the features that the device looks up, in the order of the plan; categorical ones of one side in one.
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
        grouped = {at for group in self._groups for at in group.places}
        self._single = tuple(at for at in range(len(plan.looked)) if at not in grouped)

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
        found: dict[int, Bags] = {}
        sides = _Sides(batch)
        for group in self._groups:
            found |= group.bags(self.plan.looked, batch, sides)
        for at in self._single:
            found[at] = self._one(self.plan.looked[at], batch, sides)
        return [found[at] for at in range(len(self.plan.looked))]

    def _one(self, looked: Looked, batch: Batch, sides: _Sides) -> Bags:
        source, column, index = looked.source, looked.source.values(batch), looked.source.index(batch)
        used, back = _used(looked, column, index, batch, sides)
        count = self.tables.count(looked.table)
        if not isinstance(column, Ragged):
            ids = column[used]
            _check(looked, column, batch, (ids < 0) | (ids >= count), back)
            entries, spilled = self.tables.entries(looked.table, ids)
            return Bags(entries, index=back, spilled=spilled)
        _check(looked, column, batch, wrong_lists(source, column, used), back)
        bags = column.take(used)
        wrong = (bags.values < 0) | (bags.values >= count)
        if wrong.any():
            bag_of = np.repeat(np.arange(len(bags)), np.diff(bags.offsets))
            _check(looked, column, batch, np.bincount(bag_of[wrong], minlength=len(bags)) > 0, back)
        entries, spilled = self.tables.entries(looked.table, bags.values)
        return Bags(entries, bags.offsets, back, bags.weights, spilled)


class _Sides:
    """The requests that a batch uses, and which of them each row is of: found once for all features."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._found: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def requests(self) -> tuple[np.ndarray, np.ndarray]:
        if self._found is None:
            used, back = np.unique(self._batch.request_index, return_inverse=True)
            self._found = used, back.astype(np.int32)
        return self._found


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

    def bags(self, looked: Sequence[Looked], batch: Batch, sides: _Sides) -> dict[int, Bags]:
        first = looked[self.places[0]]
        index = first.source.index(batch)
        columns = [looked[at].source.values(batch) for at in self.places]
        used, back = _used(first, columns[0], index, batch, sides)
        ids = np.empty((len(columns), len(used)), np.int32)
        for at, column, row in zip(self.places, columns, ids, strict=True):
            _check_column(looked[at], column, batch, index)
            np.asarray(column).take(used, out=row, mode="clip")
        wrong = (ids < 0) | (ids >= self.counts)
        if wrong.any():
            at = int(np.argmax(wrong.any(axis=1)))
            _check(looked[self.places[at]], columns[at], batch, wrong[at], back)
        entries = ids * self.strides + self.starts
        return {at: Bags(own, index=back) for at, own in zip(self.places, entries, strict=True)}


def _used(
    looked: Looked, column: Column, index: np.ndarray, batch: Batch, sides: _Sides
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows of a column that are looked up, and which of them each row of the batch reads; None for one each."""
    _check_column(looked, column, batch, index)
    return sides.requests if looked.source.side == "request" else (index, None)


def _check_column(looked: Looked, column: Column, batch: Batch, index: np.ndarray) -> None:
    """Refuse what holds no ids, and indices that are out of its range."""
    ragged, ids = isinstance(column, Ragged), column.values if isinstance(column, Ragged) else column
    weights = column.weights if isinstance(column, Ragged) else None
    is_ragged = looked.source.pooling is not None or looked.source.length is not None
    fits = weights is None or (weights.dtype == np.float32 and weights.shape == ids.shape)
    if ragged is not is_ragged or ids.ndim != 1 or ids.dtype != np.int32 or not fits:
        raise _wrong_column(looked, column)
    if len(index) and not 0 <= index.min() <= index.max() < len(column):
        wrong = (index < 0) | (index >= len(column))
        raise bad_row(looked.source, column, index, int(np.argmax(wrong)))


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
