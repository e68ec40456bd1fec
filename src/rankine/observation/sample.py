"""Batches to time engines with: one request and N items drawn from the catalog, as a ranking request has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rankine.artifact import Artifact
from rankine.catalog import Catalog
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.schema import DenseFeature, Feature, MultiHotFeature
from rankine.models.transforms import Transforms, table_of

__all__ = ["sample_batches"]

_MULTI_HOT_VALUES = 3


def sample_batches(artifact: Artifact, catalog: Catalog, sizes: Sequence[int], seed: int = 0) -> dict[int, Batch]:
    """One encoded batch for each number of rows.

    Items come from the catalog; the values of request, pair and live features are drawn evenly from what the model
    knows, since an artifact holds no user's data.
    """
    transforms = Transforms.read(artifact)
    generator = np.random.default_rng(seed)
    items = transforms.encode(transforms.schema.catalog_features, catalog.columns, unseen="row")
    return {rows: _batch(transforms, items, len(catalog), rows, generator) for rows in sizes}


def _batch(
    transforms: Transforms, items: Mapping[str, Column], item_count: int, rows: int, generator: np.random.Generator
) -> Batch:
    tables = transforms.table_rows()
    schema = transforms.schema
    return Batch(
        request={f.name: _draw(f, tables, 1, generator) for f in schema.request_features},
        item=items,
        pair={f.name: _draw(f, tables, rows, generator) for f in schema.row_features},
        request_index=np.zeros(rows, np.int32),
        item_index=generator.integers(0, item_count, rows, dtype=np.int32),
    )


def _draw(feature: Feature, tables: Mapping[str, int], rows: int, generator: np.random.Generator) -> Column:
    if isinstance(feature, DenseFeature):
        return generator.normal(size=(rows, feature.width)).astype(np.float32)
    known = tables[table_of(feature)]
    if isinstance(feature, MultiHotFeature):
        values = generator.integers(0, known, rows * _MULTI_HOT_VALUES, dtype=np.int32)
        return Ragged(values, np.arange(0, len(values) + 1, _MULTI_HOT_VALUES, dtype=np.int32))
    return generator.integers(0, known, rows, dtype=np.int32)
