"""Batches to time engines with: one request and N items drawn from the catalog, as a ranking request has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rankine.artifact import Artifact
from rankine.catalog import Catalog
from rankine.errors import UsageError
from rankine.models.columns import Batch, Column, Columns, Ragged
from rankine.models.schema import DenseFeature, Feature, MultiHotFeature, SequenceFeature
from rankine.models.transforms import Transforms, table_of

__all__ = ["sample_batches"]

_MULTI_HOT_VALUES = 3


def sample_batches(
    artifact: Artifact, catalog: Catalog | None, sizes: Sequence[int], seed: int = 0
) -> dict[int, Batch]:
    """One encoded batch for each number of rows.

    Items come from the catalog, which only a model without static item features can do without; the values of request,
    pair and live features are drawn evenly from what the model knows, since an artifact holds no user's data. Sequences
    are full: the work of a model does not depend on their length, but that of a lookup does.

    Raises:
        UsageError: the model reads item features, and there are no items.
    """
    transforms = Transforms.read(artifact)
    generator = np.random.default_rng(seed)
    items: Columns = {}
    if transforms.schema.catalog_features:
        if catalog is None or not len(catalog):
            raise UsageError("there are no items to draw from", where=str(artifact.path), hint="Name its catalog.")
        items = transforms.encode(transforms.schema.catalog_features, catalog.columns, unseen="row")
    item_count = len(catalog) if items and catalog is not None else 1
    return {rows: _batch(transforms, items, item_count, rows, generator) for rows in sizes}


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
    if isinstance(feature, MultiHotFeature | SequenceFeature):
        length = feature.max_length if isinstance(feature, SequenceFeature) else _MULTI_HOT_VALUES
        values = generator.integers(0, known, rows * length, dtype=np.int32)
        return Ragged(values, np.arange(0, len(values) + 1, length, dtype=np.int32))
    return generator.integers(0, known, rows, dtype=np.int32)
