"""Columns: what data sets, requests, the catalog and engines exchange. A column is an array or a ragged array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from rankine.errors import DataError

__all__ = ["Batch", "Column", "Columns", "Ragged", "concat", "row_count", "take"]


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of varying length: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes:
        values: ``(m,)``.
        offsets: ``(rows + 1,)`` int32, from 0 to ``m``, non-decreasing.
        weights: ``(m,)`` float32, or None where every value weighs one.
    """

    values: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, index: np.ndarray) -> Ragged:
        """The rows at ``index``, in that order."""
        starts = self.offsets[index].astype(np.int64)
        lengths = self.offsets[np.asarray(index) + 1].astype(np.int64) - starts
        offsets = np.zeros(len(lengths) + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        positions = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        weights = None if self.weights is None else self.weights[positions]
        return Ragged(self.values[positions], offsets, weights)

    def truncated(self, length: int, *, keep_last: bool) -> Ragged:
        """The same with the last (else the first) ``length`` values of every longer row."""
        lengths = np.diff(self.offsets)
        if not len(lengths) or lengths.max() <= length:
            return self
        kept = np.minimum(lengths, length).astype(np.int64)
        starts = (self.offsets[1:] - kept) if keep_last else self.offsets[:-1].astype(np.int64)
        offsets = np.zeros(len(self.offsets), np.int32)
        np.cumsum(kept, out=offsets[1:])
        positions = np.repeat(starts - offsets[:-1], kept) + np.arange(offsets[-1])
        return Ragged(self.values[positions], offsets, None if self.weights is None else self.weights[positions])

    @staticmethod
    def from_lists(lists: Sequence[Sequence[object]], dtype: np.dtype | type | None = None) -> Ragged:
        """A ragged column from a list of lists."""
        offsets = np.zeros(len(lists) + 1, np.int32)
        np.cumsum([len(row) for row in lists], out=offsets[1:])
        flat = [value for row in lists for value in row]
        return Ragged(np.array(flat, dtype=dtype if flat or dtype else np.int64), offsets)


Column = np.ndarray | Ragged
Columns = Mapping[str, Column]


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded rows for a model: (request, candidate) pairs that refer to their request and item by index.

    Attributes:
        request: columns of the request side, ``(requests, ...)``.
        item: columns of static item features, ``(items, ...)``: the whole catalog, or the items given inline.
        pair: columns that differ per row (pair features, live item features), ``(rows, ...)``.
        request_index: ``(rows,)`` int32 into ``request``; non-decreasing when served.
        item_index: ``(rows,)`` int32 into ``item``.
    """

    request: Columns
    item: Columns
    pair: Columns
    request_index: np.ndarray
    item_index: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.request_index)

    def select(self, rows: np.ndarray | slice) -> Batch:
        """The batch of these rows; request and item columns are shared, not copied."""
        index = np.arange(self.rows)[rows]
        return Batch(self.request, self.item, take(self.pair, index), self.request_index[index], self.item_index[index])


def take(columns: Columns, index: np.ndarray) -> dict[str, Column]:
    """Rows at ``index`` of every column."""
    return {
        name: column.take(index) if isinstance(column, Ragged) else column[index] for name, column in columns.items()
    }


def concat(parts: Sequence[Columns]) -> dict[str, Column]:
    """Rows of all parts, one after the other; all parts have the same columns."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: _concat_column([part[name] for part in parts]) for name in parts[0]}


def row_count(columns: Columns) -> int:
    """Number of rows, which all columns must share.

    Raises:
        DataError: columns differ in length.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError("columns differ in length", got=", ".join(f"{name}: {n}" for name, n in lengths.items()))
    return next(iter(lengths.values()), 0)


def _concat_column(parts: Sequence[Column]) -> Column:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(cast("Sequence[np.ndarray]", parts))
    ragged = [part for part in parts if isinstance(part, Ragged)]
    starts = np.cumsum([0, *(int(part.offsets[-1]) for part in ragged)])
    offsets = np.concatenate(
        [ragged[0].offsets[:1], *(part.offsets[1:] + start for part, start in zip(ragged, starts, strict=False))]
    ).astype(np.int32)
    values = np.concatenate([part.values for part in ragged])
    if all(part.weights is None for part in ragged):
        return Ragged(values, offsets)
    weights = [np.ones(len(part.values), np.float32) if part.weights is None else part.weights for part in ragged]
    return Ragged(values, offsets, np.concatenate(weights))
