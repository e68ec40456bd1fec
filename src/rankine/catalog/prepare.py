"""Items on their way into the catalog: ids and raw features checked, derived columns computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rankine.catalog.change import Change
from rankine.catalog.derive import DerivedKey, Deriver, derive
from rankine.catalog.storable import as_ids, refuse_twice, storable_column
from rankine.errors import DataError
from rankine.models.columns import Columns
from rankine.models.transforms import Transforms

__all__ = ["Preparer"]


@dataclass(frozen=True, slots=True)
class Preparer:
    """Makes a change of items that are to be added or replaced.

    Attributes:
        transforms: of the artifact: they say what static item features there are, and encode them.
        derivers: compute what is stored of an item for each variant.
    """

    transforms: Transforms
    derivers: Sequence[Deriver] = ()

    def only(self, keys: Collection[DerivedKey]) -> Preparer:
        """The same for a catalog that holds the derived columns of ``keys`` alone: no others are computed."""
        return replace(self, derivers=tuple(deriver for deriver in self.derivers if deriver.key in keys))

    def prepare(self, item_ids: np.ndarray, columns: Columns) -> Change:
        """The change that adds or replaces items.

        Args:
            item_ids: ``(n,)`` external ids, distinct: integers, strings or UTF-8 bytes.
            columns: raw static item features, one row an item; other columns are left out.

        Raises:
            DataError: an id is given twice, or names the feature that is missing or that the transforms refuse.
            EngineError: a derived column is not what its deriver says.
        """
        schema = self.transforms.schema
        ids = as_ids(schema, item_ids)
        if not len(ids):
            raise DataError("there are no items", where=schema.item_id, got="0 rows")
        refuse_twice(schema, np.sort(ids))
        raw = {f.name: storable_column(f, columns, len(ids)) for f in schema.catalog_features}
        return Change(ids, {**raw, **self.derived(raw, len(ids))})

    def derived(self, raw: Columns, count: int) -> Columns:
        """Derived columns of ``count`` items with these raw features, which are encoded even where nothing is derived:
        what the transforms refuse must never be in a catalog, where it would keep every server from opening it."""
        encoded = self.transforms.encode(self.transforms.schema.catalog_features, raw, unseen="row")
        return derive(self.derivers, encoded, count)
