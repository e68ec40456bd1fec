"""A catalog as one table of all its items: what is enough for whoever reads it once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankine.artifact import Artifact, refuse_existing
from rankine.catalog.change import Change
from rankine.catalog.derive import Deriver
from rankine.catalog.durable import sync_folder
from rankine.catalog.prepare import Preparer
from rankine.catalog.reader import CatalogReader
from rankine.catalog.record import FIRST_GENERATION, SnapshotRecord
from rankine.catalog.segment import check_kind, find, segment_of
from rankine.catalog.snapshot import write_snapshot
from rankine.catalog.storable import as_ids, refuse_twice, storable_column
from rankine.catalog.view import View
from rankine.models.columns import Columns
from rankine.models.schema import Schema

__all__ = ["Catalog", "build_catalog", "catalog_beside", "write_catalog"]


@dataclass(frozen=True)
class Catalog:
    """All items of the generation that was the newest when it was opened, row by row in the order of their ids.

    Attributes:
        artifact: the folder that holds it.
        item_ids: ``(items,)`` external ids, sorted and distinct: int64, or UTF-8 bytes. Row ``i`` is item ``i``.
        columns: raw static item features, one row an item, in the order of ``item_ids``; mapped from the snapshot
            where no record of the log came after it, else copied.
        generation: of the store.
    """

    artifact: Artifact
    item_ids: np.ndarray
    columns: Columns
    generation: int = FIRST_GENERATION

    @classmethod
    def open(cls, path: Path | str) -> Catalog:
        """Open the catalog at ``path``.

        Raises:
            ArtifactError: it is not there, not a catalog, damaged, or its columns do not fit together.
        """
        reader = CatalogReader(path)
        view = reader.view
        if len(view.segments) == 1:
            columns: Columns = {name: view.segments[0].columns[name] for name in view.features}
        else:
            columns = view.take(view.item_rows)
        return cls(reader.artifact, view.item_ids, columns, view.generation)

    def __len__(self) -> int:
        return len(self.item_ids)

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Rows of external ids.

        Args:
            ids: ``(n,)`` int64, or UTF-8 bytes, as the catalog's own.

        Returns:
            int32 ``(n,)``; -1 where the catalog has no such item.

        Raises:
            DataError: ``ids`` are of the other kind than the catalog's.
        """
        check_kind(ids, self.item_ids)
        return find(self.item_ids, ids).astype(np.int32)


def catalog_beside(artifact: Path | str) -> Path:
    """Where an artifact's catalog lies unless another place is given: ``<artifact>.catalog``."""
    path = Path(artifact)
    return path.parent / f"{path.name}.catalog"


def write_catalog(path: Path | str, schema: Schema, item_ids: np.ndarray, columns: Columns) -> Catalog:
    """Write a catalog of these items, without derived columns.

    Args:
        path: of the new folder; nothing may be there yet.
        schema: names the static item features that ``columns`` must hold; other columns are left out.
        item_ids: ``(items,)`` external ids in any order, distinct: integers, strings or UTF-8 bytes.
        columns: raw features, one row an item, in the order of ``item_ids``.

    Raises:
        DataError: an id is given twice or has the wrong type, a feature is missing, or lengths differ.
        ArtifactError: something is already at ``path``.
    """
    ids = as_ids(schema, item_ids)
    refuse_twice(schema, np.sort(ids))
    raw = {feature.name: storable_column(feature, columns, len(ids)) for feature in schema.catalog_features}
    return _create(path, schema, Change(ids, raw), ())


def build_catalog(path: Path | str, preparer: Preparer, item_ids: np.ndarray, columns: Columns) -> Catalog:
    """Write a catalog of these items with their derived columns; arguments and errors as those of
    :func:`write_catalog` and :meth:`Preparer.prepare`."""
    change = preparer.prepare(item_ids, columns)
    return _create(path, preparer.transforms.schema, change, preparer.derivers)


def _create(path: Path | str, schema: Schema, change: Change, derivers: Sequence[Deriver]) -> Catalog:
    path = Path(path)
    refuse_existing(path)
    features = tuple(feature.name for feature in schema.catalog_features)
    derived = {deriver.key: deriver.widths for deriver in derivers}
    view = View(FIRST_GENERATION, (segment_of(change),), features, derived)
    record = SnapshotRecord(items=len(view), item_id=schema.item_id, item_id_dtype=schema.item_id_dtype, features={})
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        write_snapshot(building, view, record, name=f"{path.name.removesuffix('.catalog')}.catalog")
        building.chmod(0o755)
        refuse_existing(path)
        building.rename(path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return Catalog.open(path)
