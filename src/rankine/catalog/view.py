"""One generation of the catalog: what a reader holds, and what nothing changes any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rankine.catalog.derive import DerivedKey, column_names, tables_of
from rankine.catalog.segment import ABSENT, Segment, check_kind, merge, newest, take_rows
from rankine.errors import ArtifactError, did_you_mean
from rankine.models.columns import Column
from rankine.models.tables import Table

__all__ = ["View"]


@dataclass(frozen=True)
class View:
    """The items of one generation. A row is a position that this view gave: another view numbers otherwise.

    Attributes:
        generation: of the store.
        segments: the oldest first; the first is the snapshot, whose arrays are mapped.
        features: names of the raw static item features.
        derived: by key, the width of every derived column.
    """

    generation: int
    segments: tuple[Segment, ...]
    features: tuple[str, ...]
    derived: Mapping[DerivedKey, Mapping[str, int]]

    def __len__(self) -> int:
        """Items; the first call looks up what changed since the snapshot."""
        return self._count

    @cached_property
    def _count(self) -> int:
        first, *later = self.segments
        count = first.count
        for number, segment in enumerate(later, 1):
            before = replace(self, segments=self.segments[:number]).rows_of(segment.ids)
            count += segment.count - int((before != ABSENT).sum())
        return count

    @property
    def item_ids(self) -> np.ndarray:
        """External ids of all items, sorted, ``(items,)``: int64, or UTF-8 bytes; the first call sorts them."""
        return self._items[0]

    @property
    def item_rows(self) -> np.ndarray:
        """The row of each of ``item_ids``, int64 ``(items,)``."""
        return self._items[1]

    @cached_property
    def _items(self) -> tuple[np.ndarray, np.ndarray]:
        if len(self.segments) == 1:
            only = self.segments[0]
            return only.ids, only.rows_at(np.arange(len(only.ids)))
        ids, rows = newest(self.segments)
        return ids[rows != ABSENT], rows[rows != ABSENT]

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Rows of external ids.

        Args:
            ids: ``(n,)`` int64, or UTF-8 bytes, as the catalog's own.

        Returns:
            int64 ``(n,)``; -1 where the catalog has no such item.

        Raises:
            DataError: ``ids`` are of the other kind than the catalog's.
        """
        first, *later = self.segments
        check_kind(ids, first.ids)
        found = first.find(ids)
        if first.rows is not None:
            known = np.flatnonzero(found != ABSENT)
            found[known] = first.rows[found[known]]
        start = first.length
        for segment in later:  # the oldest first: what a later one says replaces it, also that it is deleted
            at = segment.find(ids)
            known = np.flatnonzero(at != ABSENT)
            found[known] = segment.rows_at(at[known], start)
            start += segment.length
        return found

    def take(self, rows: np.ndarray, names: Sequence[str] | None = None) -> dict[str, Column]:
        """Raw features at ``rows (n,)``, all of them or those of ``names``; the columns as the catalog keeps them."""
        return take_rows(self.segments, rows, self.features if names is None else names)

    def take_derived(self, key: DerivedKey, rows: np.ndarray) -> dict[str, Table]:
        """Derived columns of ``key`` at ``rows (n,)``: tables of ``n`` rows in their storage type.

        Raises:
            ArtifactError: the catalog does not hold them.
        """
        if key not in self.derived:
            raise ArtifactError(
                "the catalog does not hold what this variant reads of an item",
                where=str(key),
                hint=did_you_mean(str(key), map(str, self.derived)) or "Run `rankine catalog build`.",
            )
        names = [name for column in self.derived[key] for name in column_names(key, column)]
        return tables_of(key, self.derived[key], take_rows(self.segments, rows, names))

    def after(self, changes: Sequence[Segment], generation: int) -> View:
        """The view after ``changes``, the oldest first: one more segment, merged with those before it of its size.

        So there are only as many segments as the number of changed items has digits (base two), and an item is copied
        only as often. (The logarithmic method: Bentley & Saxe, "Decomposable Searching Problems I", 1980.)
        """
        if not changes:
            return replace(self, generation=generation)
        segments = [*self.segments, merge(changes)]
        while len(segments) > 2 and len(segments[-2].ids) <= 2 * len(segments[-1].ids):
            segments[-2:] = [merge(segments[-2:])]
        return replace(self, generation=generation, segments=tuple(segments))
