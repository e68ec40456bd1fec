"""Random valid requests, drawn from the vocabularies and the catalog: for newcomers, warm-up and load generators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rankine.models.columns import Ragged
from rankine.models.schema import (
    DenseFeature,
    Feature,
    Hash,
    Identity,
    MultiHotFeature,
    SequenceFeature,
    TableFeature,
)
from rankine.models.transforms import Transforms, table_of
from rankine.serving.inputs import column_of
from rankine.serving.model import ServedModel

__all__ = ["MAX_EXAMPLES", "MAX_EXAMPLE_IDS", "example_bodies", "example_values"]

MAX_EXAMPLES = 1024
MAX_EXAMPLE_IDS = 1_000_000
"""Of all examples of a reply together: what takes a second or so to draw."""
_LONGEST_LIST = 3
_LONGEST_HISTORY = 50
_HASHED_VALUES = 1_000_000


def example_bodies(
    model: ServedModel, *, count: int, candidates: int, seed: int, max_candidates: int
) -> list[dict[str, Any]]:
    """``count`` rank bodies of ``candidates`` items each; the same for the same seed.

    Items are drawn without replacement where the catalog is large enough, else with. Both numbers are cut to what the
    server takes in one request, and to what it can make in reasonable time.
    """
    candidates = max(1, min(candidates, max_candidates))
    count = max(1, min(count, MAX_EXAMPLES, max(1, MAX_EXAMPLE_IDS // candidates)))
    random = np.random.default_rng(seed)
    return [_body(model, candidates, random) for _ in range(count)]


def _body(model: ServedModel, candidates: int, random: np.random.Generator) -> dict[str, Any]:
    schema, transforms = model.schema, model.transforms
    request = {f.name: example_values(transforms, f, 1, random, _LONGEST_HISTORY)[0] for f in schema.request_features}
    features = {
        feature.name: example_values(transforms, feature, candidates, random) for feature in schema.row_features
    }
    known = None if model.items is None else model.items.view.item_ids
    if known is not None and len(known):
        rows = random.choice(len(known), candidates, replace=candidates > len(known))
        ids: list[Any] = _plain(known[rows])
    else:  # nothing to choose from: items that are given inline
        ids = list(range(candidates)) if schema.item_id_dtype == "int64" else [f"item-{n}" for n in range(candidates)]
        features |= {f.name: example_values(transforms, f, candidates, random) for f in schema.catalog_features}
    chosen: dict[str, Any] = {"ids": ids}
    if features:
        chosen["features"] = features
    return {"request": request, "candidates": chosen}


def example_values(
    transforms: Transforms,
    feature: Feature,
    rows: int,
    random: np.random.Generator,
    longest_history: int = _LONGEST_LIST,
) -> list[Any]:
    """``rows`` raw values of a feature as JSON takes them."""
    match feature:
        case DenseFeature():
            return _dense(transforms, feature, rows, random)
        case MultiHotFeature(max_length=longest):
            return _lists(transforms, feature, rows, min(_LONGEST_LIST, longest), random)
        case SequenceFeature(max_length=longest):
            return _lists(transforms, feature, rows, min(longest_history, longest), random)
        case _:
            return _draw(transforms, feature, rows, random)


def _lists(
    transforms: Transforms, feature: TableFeature, rows: int, longest: int, random: np.random.Generator
) -> list[Any]:
    lengths = random.integers(1, longest + 1, rows)
    drawn = [_draw(transforms, feature, int(length), random) for length in lengths]
    padding = transforms.schema.padding.get(feature.name)
    return drawn if padding is None else [_without(transforms, feature, padding, values) for values in drawn]


def _without(transforms: Transforms, feature: TableFeature, padding: int, values: list[Any]) -> list[Any]:
    """The values but those whose id a model from elsewhere takes for padding, which the transforms refuse."""
    plain = replace(transforms, schema=transforms.schema.model_copy(update={"call": None}))
    ids = plain.encode((feature,), {feature.name: column_of(feature, [values], feature.name)})[feature.name]
    if not isinstance(ids, Ragged):
        raise TypeError(f"{feature.name}: only lists are padded")
    return [value for value, number in zip(values, ids.values.tolist(), strict=True) if number != padding]


def _dense(transforms: Transforms, feature: DenseFeature, rows: int, random: np.random.Generator) -> list[Any]:
    fitted = transforms.normalization[feature.name]
    values = random.normal(fitted.mean, fitted.std, (rows, feature.width))
    if feature.normalization == "log1p":
        values = np.expm1(np.clip(values, 0, 20))
    rounded: list[Any] = np.round(values, 4).tolist()
    return [row[0] for row in rounded] if feature.width == 1 else rounded


def _draw(transforms: Transforms, feature: TableFeature, count: int, random: np.random.Generator) -> list[Any]:
    match feature.encoding:
        case Identity(size=size):
            return _as_dtype(feature, random.integers(0, size, count))
        case Hash():
            return _as_dtype(feature, random.integers(0, _HASHED_VALUES, count))
        case _:
            known = transforms.vocabularies[table_of(feature)]
            if not len(known):
                return _as_dtype(feature, np.zeros(count, np.int64))
            return _plain(known[random.integers(0, len(known), count)])


def _as_dtype(feature: TableFeature, values: np.ndarray) -> list[Any]:
    plain: list[Any] = values.tolist()
    return plain if feature.dtype == "int64" else [str(value) for value in plain]


def _plain(values: np.ndarray) -> list[Any]:
    """An array of int64 or UTF-8 bytes as JSON values."""
    plain: list[Any] = values.tolist()
    return [value.decode(errors="replace") for value in plain] if values.dtype.kind == "S" else plain
