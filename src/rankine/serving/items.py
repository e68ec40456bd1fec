"""The items of a server: one generation of the catalog, encoded, and the newest one in its place while requests run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankine._native import check_ids
from rankine.catalog import CatalogReader, View
from rankine.catalog.segment import ABSENT, gather_rows
from rankine.errors import ArtifactError, BadRequest
from rankine.models.columns import Columns, concat
from rankine.models.transforms import Transforms
from rankine.serving.completion import Advance, Complete, complete_all, nobody_waits

__all__ = ["Items", "ServedCatalog"]

_NOTHING: Mapping[str, str] = {}
_MOST_ROWS = 2**31 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """Items of one generation, in the columns that the engine reads. A request keeps those it was prepared with.

    Attributes:
        view: finds them; a row is a position in it.
        unknown: columns of the one item that stands for ids that the catalog does not have, of row -1; None where
            they are refused.
    """

    view: View
    unknown: Columns | None

    @property
    def generation(self) -> int:
        return self.view.generation

    def __len__(self) -> int:
        return len(self.view)

    def rows_of(self, ids: np.ndarray, where: str) -> np.ndarray:
        """Rows of external ids, int32 ``(n,)``; -1 for those that the unknown item stands for.

        Raises:
            BadRequest: the catalog does not have an id, and unknown items are refused.
        """
        rows = self.view.rows_of(ids).astype(np.int32)
        first = check_ids(rows, _MOST_ROWS) if self.unknown is None else -1
        if first >= 0:
            got = ids[first]
            raise BadRequest(
                "unknown item: the catalog does not have it",
                where=f"{where}[{first}]",
                got=got.decode(errors="replace") if isinstance(got, bytes) else int(got),
                hint="Give its static features inline, or start the server with --unknown-item row.",
            )
        return rows

    def table(self, rows: np.ndarray) -> tuple[Columns, np.ndarray]:
        """Columns that hold what ``rows (n,)`` need, and the place of each in them, int32 ``(n,)``.

        Where all rows are of the snapshot these are its columns as they lie, which may be large and are never copied;
        else the rows are taken.
        """
        snapshot = self.view.segments[0]
        if self._all_in(snapshot.length, rows):
            return snapshot.columns, rows
        return self.taken(rows)

    def taken(self, rows: np.ndarray) -> tuple[Columns, np.ndarray]:
        """Columns of ``rows (n,)`` alone, and the place of each in them, int32 ``(n,)``."""
        known = rows != ABSENT
        if self.unknown is None or known.all():
            return self._gathered(rows)
        columns, index = self._gathered(rows[known])
        places = np.full(len(rows), len(index), np.int32)  # the unknown item comes last, once
        places[known] = index
        return concat([columns, self.unknown]), places

    def _gathered(self, rows: np.ndarray) -> tuple[Columns, np.ndarray]:
        segments = self.view.segments
        columns, places = gather_rows(segments, rows, tuple(segments[0].columns))
        return columns, np.arange(len(rows), dtype=np.int32) if places is None else places.astype(np.int32)

    def _all_in(self, length: int, rows: np.ndarray) -> bool:
        """Whether all rows are below ``length``, and none is of the unknown item."""
        if len(self.view.segments) == 1 and self.unknown is None:
            return True
        return bool(rows.max(initial=ABSENT) < length and rows.min(initial=0) != ABSENT)


class ServedCatalog:
    """A catalog that is served while somebody may write it: items are encoded, and completed, when they are read.

    Args:
        path: of the catalog.
        transforms: of the artifact.
        unknown: one encoded item that stands for ids that the catalog does not have; None where they are refused.
        complete: adds what the engine computes of an item ahead of time.
        stored: where the catalog may hold that already: names of its columns, to what the engine calls them.
        advance: told how many items of the snapshot are completed.

    Attributes:
        path: of the catalog.
        items: of the newest generation that was read; another object after :meth:`refresh` found one. Whoever needs one
            generation for several steps takes it once.
        computed_bytes: of what was computed of items so far when they were read, because the catalog does not hold it.

    Raises:
        ArtifactError: there is no catalog, it is damaged, or it does not fit the artifact.
    """

    items: Items

    def __init__(
        self,
        path: Path,
        transforms: Transforms,
        *,
        unknown: Columns | None,
        complete: Complete,
        stored: Mapping[str, str] = _NOTHING,
        advance: Advance = nobody_waits,
    ) -> None:
        self.path, self._transforms = path, transforms
        self._complete, self._stored, self._advance = complete, stored, advance
        self.computed_bytes = 0
        self._before: Callable[[Items], object] = _nothing
        self._reader = CatalogReader(path, encode=self._held)
        self._unknown = None if unknown is None else complete(unknown)
        self.items = self._checked(self._reader.view)

    def refresh(self, advance: Advance = nobody_waits) -> bool:
        """Take up what was committed since; whether there was anything. Called by one thread.

        Args:
            advance: told how many items are completed, now and then where there are many. What it raises ends the
                refresh, and ``items`` stay.

        Raises:
            ArtifactError, DataError: the catalog is damaged or does not fit the artifact any more; ``items`` stay.
        """
        self._advance = advance
        view = self._reader.refresh()
        if view is self.items.view:
            return False
        items = self._checked(view)
        self._before(items)
        self.items = items
        return True

    def before(self, do: Callable[[Items], object]) -> None:
        """Have ``do`` called with the items that are held now, and with newer ones before any request sees them."""
        do(self.items)
        self._before = do

    def _held(self, columns: Columns) -> Columns:
        """Stored columns of items as the engine reads them; what the catalog holds ahead of time stays as it lies."""
        self._refuse_missing(columns)
        encoded = self._transforms.encode(self._transforms.schema.catalog_features, columns, unseen="row")
        if self._stored and all(name in columns for name in self._stored):
            return encoded | {name: columns[column] for column, name in self._stored.items()}
        completed = complete_all(self._complete, encoded, self._advance)
        self.computed_bytes += sum(np.asarray(completed[name]).nbytes for name in completed.keys() - encoded.keys())
        return completed

    def _checked(self, view: View) -> Items:
        self._refuse_missing(view.features)
        dtype, ids = self._transforms.schema.item_id_dtype, view.segments[0].ids
        if ids.dtype.kind != ("i" if dtype == "int64" else "S"):
            where, got = str(self.path), str(ids.dtype)
            raise ArtifactError("the catalog's ids are of another type", where=where, got=got, allowed=dtype)
        return Items(view, self._unknown)

    def _refuse_missing(self, names: Collection[str]) -> None:
        missing = [feature.name for feature in self._transforms.schema.catalog_features if feature.name not in names]
        if missing:
            raise ArtifactError(
                "the catalog lacks item features that the model reads",
                where=str(self.path),
                got=f"without {', '.join(missing)}",
                hint="Write the catalog again with the artifact's schema.",
            )


def _nothing(items: Items) -> None:
    """Where nobody has to know of items before requests see them."""
