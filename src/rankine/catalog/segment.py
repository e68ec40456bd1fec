"""A segment: items with their columns, found by id. The snapshot is one, and so is what a record of the log brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankine.catalog.change import Change
from rankine.catalog.places import ABSENT, Places
from rankine.errors import DataError
from rankine.models.columns import Column, Columns, Ragged, concat, take

__all__ = ["ABSENT", "Segment", "check_kind", "find", "gather_rows", "merge", "newest", "segment_of", "take_rows"]


@dataclass(frozen=True, slots=True)
class Segment:
    """Items of one or more generations in a row.

    Attributes:
        ids: ``(n,)`` sorted and distinct: int64, or UTF-8 bytes.
        rows: ``(n,)`` int64, the row of each id in ``columns``; -1 where it is deleted. None where id ``i`` is
            row ``i``, as in a snapshot, of which nothing is held in memory.
        columns: raw and derived, ``length`` rows each; may lie in mapped files.
        length: rows in ``columns``.
        places: of ``ids``; None where they are searched.
    """

    ids: np.ndarray
    rows: np.ndarray | None
    columns: Columns
    length: int
    places: Places | None = None

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Positions of ``ids (m,)`` in its own, int64 ``(m,)``; -1 where one is not there."""
        return find(self.ids, ids) if self.places is None else self.places.find(ids)

    @property
    def count(self) -> int:
        """Ids that are not deleted."""
        return len(self.ids) if self.rows is None else int((self.rows != ABSENT).sum())

    def rows_at(self, positions: np.ndarray, start: int = 0) -> np.ndarray:
        """Rows of the ids at ``positions (m,)``, int64 ``(m,)``, counted from ``start``; -1 where one is deleted."""
        if self.rows is None:
            return positions + start
        rows = self.rows[positions]
        return np.where(rows == ABSENT, ABSENT, rows + start)


def check_kind(ids: np.ndarray, known: np.ndarray) -> None:
    """Refuse ids that cannot be among those that are known.

    Raises:
        DataError: one is of integers, the other of strings.
    """
    if ids.dtype.kind != known.dtype.kind:
        allowed = "int64" if known.dtype.kind == "i" else "string"
        raise DataError("item ids are of the wrong type", where="ids", got=str(ids.dtype), allowed=allowed)


def find(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Positions of ``ids (m,)`` in ``known``, which is sorted, int64 ``(m,)``; -1 where it is not there."""
    if not len(known):
        return np.full(len(ids), ABSENT, np.int64)
    # Cut or pad to the known ones' width first: searchsorted would else copy all of them to the wider type.
    wanted = ids.astype(known.dtype, copy=False)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == ids, at, ABSENT)


def segment_of(change: Change) -> Segment:
    """The segment that a change brings."""
    order = np.argsort(change.ids, kind="stable")
    if change.columns is None:
        return Segment(change.ids[order], np.full(len(order), ABSENT, np.int64), {}, 0)
    return Segment(change.ids[order], order.astype(np.int64), change.columns, len(order))


def merge(segments: Sequence[Segment]) -> Segment:
    """One segment that says what ``segments``, the oldest first, say together."""
    if len(segments) == 1:
        return segments[0]
    ids, rows = newest(segments)
    kept = rows[rows != ABSENT]
    filled = [segment.columns for segment in segments if segment.length]
    columns = take(concat(filled), kept) if filled and len(kept) else {}
    rows[rows != ABSENT] = np.arange(len(kept))
    return Segment(ids, rows, columns, len(kept))


def newest(segments: Sequence[Segment]) -> tuple[np.ndarray, np.ndarray]:
    """All ids of ``segments``, sorted and distinct, and the row that the last segment with each gives it.

    Rows count through the columns of all segments, one after the other: int64, -1 where the id is deleted.
    """
    starts = np.cumsum([0, *(segment.length for segment in segments)])
    ids = np.concatenate([segment.ids for segment in segments])
    rows = np.concatenate(
        [
            segment.rows_at(np.arange(len(segment.ids)), int(start))
            for segment, start in zip(segments, starts, strict=False)
        ]
    )
    order = np.argsort(ids, kind="stable")  # of equal ids, the last is the newest
    ids, rows = ids[order], rows[order]
    last = np.concatenate((ids[1:] != ids[:-1], np.ones(min(len(ids), 1), bool)))
    return ids[last], rows[last]


def take_rows(segments: Sequence[Segment], rows: np.ndarray, names: Sequence[str]) -> dict[str, Column]:
    """Columns ``names`` at ``rows (n,)``, which count through the columns of all segments, one after the other."""
    columns, places = gather_rows(segments, rows, names)
    return columns if places is None else take(columns, places)


def gather_rows(
    segments: Sequence[Segment], rows: np.ndarray, names: Sequence[str]
) -> tuple[dict[str, Column], np.ndarray | None]:
    """As :func:`take_rows`, but segment by segment, copied once.

    Returns:
        ``n`` rows, and the place of each of ``rows`` in them, int64 ``(n,)``; None where they are in order.
    """
    starts = np.cumsum([0, *(segment.length for segment in segments)])
    owner = np.searchsorted(starts, rows, side="right") - 1
    parts, places = [], []
    for number in np.unique(owner):
        place = np.flatnonzero(owner == number)
        columns = segments[number].columns
        parts.append(take({name: columns[name] for name in names}, rows[place] - starts[number]))
        places.append(place)
    if not parts:
        return {name: _none(segments[0].columns[name]) for name in names}, None
    if len(parts) == 1:
        return parts[0], None
    return concat(parts), np.argsort(np.concatenate(places))


def _none(column: Column) -> Column:
    """No rows of a column."""
    nothing = np.zeros(0, np.int64)
    return column.take(nothing) if isinstance(column, Ragged) else column[nothing]
