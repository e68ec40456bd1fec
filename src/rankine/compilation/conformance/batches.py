"""Random rows as ranking requests have them: few requests, many rows, items that several rows share."""

from __future__ import annotations

import numpy as np

from rankine.models.columns import Batch, Column, Ragged
from rankine.models.schema import CategoricalFeature, DenseFeature, Feature, SequenceFeature
from rankine.models.transforms import table_of
from rankine.models.variant import Model

__all__ = ["ITEMS", "ranking_batch"]

ITEMS = 37
"""Items of a batch."""
_ROWS_A_REQUEST = 100
_LONGEST_BAG = 5


def ranking_batch(model: Model, rows: int, *, seed: int = 0) -> Batch:
    """``rows`` random rows of a request for each hundred, over a catalog of 37 items; lists may be empty, and those
    of multi-hot features are weighted in every other batch."""
    random = np.random.default_rng([rows, seed])
    requests = 1 + rows // _ROWS_A_REQUEST
    counts = {"request": requests, "item": ITEMS, "pair": rows}
    sides: dict[str, dict[str, Column]] = {"request": {}, "item": {}, "pair": {}}
    for feature in model.schema.features:
        side = "pair" if feature.per_row else feature.side
        sides[side][feature.name] = _column(model, feature, counts[side], random, weighted=bool(seed % 2))
    return Batch(
        **sides,
        request_index=np.sort(random.integers(0, requests, rows, dtype=np.int32)),
        item_index=random.integers(0, ITEMS, rows, dtype=np.int32),
    )


def _column(model: Model, feature: Feature, count: int, random: np.random.Generator, *, weighted: bool) -> Column:
    if isinstance(feature, DenseFeature):
        return random.normal(size=(count, feature.width)).astype(np.float32)
    size = model.tables[table_of(feature)].count
    if isinstance(feature, CategoricalFeature):
        return random.integers(0, size, count, dtype=np.int32)
    is_sequence = isinstance(feature, SequenceFeature)
    longest = feature.max_length if is_sequence else min(_LONGEST_BAG, feature.max_length)
    offsets = np.concatenate([[0], np.cumsum(random.integers(0, longest + 1, count))]).astype(np.int32)
    values = random.integers(0, size, offsets[-1], dtype=np.int32)
    weights = random.random(len(values), dtype=np.float32) if weighted and not is_sequence else None
    return Ragged(values, offsets, weights)
