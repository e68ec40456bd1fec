"""Random encoded rows of a schema: what models from elsewhere are traced and proved with, beside real rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rankine.models.columns import Batch, Column, Ragged
from rankine.models.schema import CategoricalFeature, DenseFeature, Feature, MultiHotFeature, Schema
from rankine.models.transforms import table_of

__all__ = ["random_batch"]

_LONGEST_BAG = 6


def random_batch(schema: Schema, table_rows: Mapping[str, int], rows: int, *, seed: int = 0) -> Batch:
    """``rows`` rows, each with a request and an item of its own, in random order.

    The first row has the largest id of every table, the second id 0; of ten rows or more, some lists are empty. With
    fewer rows every list has two values or more, so that nothing that is traced is taken for a constant. A sequence
    never holds the id that pads it: a model could not tell the two apart.

    Args:
        table_rows: rows of every table, as :meth:`rankine.models.transforms.Transforms.table_rows` gives them.
    """
    random = np.random.default_rng(seed)
    padding = schema.padding
    sides: dict[str, dict[str, Column]] = {"request": {}, "item": {}, "pair": {}}
    for feature in schema.features:
        side = "pair" if feature.per_row else feature.side
        size = 0 if isinstance(feature, DenseFeature) else table_rows[table_of(feature)]
        sides[side][feature.name] = _column(feature, size, rows, random, padding.get(feature.name))
    index = np.arange(rows, dtype=np.int32)
    return Batch(**sides, request_index=index, item_index=index)


def _column(feature: Feature, size: int, rows: int, random: np.random.Generator, padding: int | None) -> Column:
    if isinstance(feature, DenseFeature):
        return random.normal(size=(rows, feature.width)).astype(np.float32)
    if isinstance(feature, CategoricalFeature):
        ids = random.integers(0, size, rows, dtype=np.int32)
        ids[:2] = [size - 1, 0][:rows]
        return ids
    longest = min(_LONGEST_BAG, feature.max_length) if isinstance(feature, MultiHotFeature) else feature.max_length
    lengths = random.integers(0 if rows >= 10 else min(2, longest), longest + 1, rows)
    lengths[:2] = longest
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = random.integers(0, size, offsets[-1], dtype=np.int32)
    values[:1] = size - 1
    if padding is not None and size > 1:
        values[values == padding] = size - 1 if padding < size - 1 else 0
    weighted = isinstance(feature, MultiHotFeature) and feature.weights is not None
    weights = random.random(len(values), dtype=np.float32) + np.float32(0.5) if weighted else None
    return Ragged(values, offsets, weights)
