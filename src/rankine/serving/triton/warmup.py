"""Requests that Triton sends to each model before it is ready, as files beside its configuration."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from rankine.models.columns import Ragged
from rankine.models.schema import DenseFeature, Feature
from rankine.serving.examples import example_bodies, example_values
from rankine.serving.inputs import column_of
from rankine.serving.model import ServedModel
from rankine.serving.protocols.batch_tensors import batch_tensors
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import join

__all__ = ["Tensors", "warmup_tensors"]

Tensors = list[tuple[str, str, np.ndarray]]
"""Name, datatype and values; those of BYTES are an array of bytes."""


def warmup_tensors(model: ServedModel, form: str, rows: int) -> Tensors:
    """A valid request of ``rows`` random rows in one of the protocol's forms: ``flat``, ``rank`` or ``batch``."""
    [body] = example_bodies(model, count=1, candidates=rows, seed=rows, max_candidates=rows)
    if form == "batch":
        raw = msgspec.json.encode(body)
        work = RankProtocol(model, max_candidates=rows).prepare(
            raw, arrived_s=perf_counter(), deadline_s=float("inf"), announced=None
        )
        return batch_tensors(model.schema, join([work.work], lambda items: items))
    return list(_flat(model, body, rows) if form == "flat" else _rank(model, body))


def _rank(model: ServedModel, body: dict[str, Any]) -> Iterator[tuple[str, str, np.ndarray]]:
    schema, given = model.schema, body["candidates"].get("features", {})
    ids = body["candidates"]["ids"]
    if schema.item_id_dtype == "int64":
        yield "ids", "INT64", np.array(ids, np.int64)
    else:
        yield "ids", "BYTES", np.array([one.encode() for one in ids], np.object_)
    for feature in schema.request_features:
        yield from _tensors(feature, [body["request"][feature.name]])
    for feature in (*schema.row_features, *schema.catalog_features):
        if feature.name in given and feature.name != schema.item_id:
            yield from _tensors(feature, given[feature.name])


def _flat(model: ServedModel, body: dict[str, Any], rows: int) -> Iterator[tuple[str, str, np.ndarray]]:
    schema, random = model.schema, np.random.default_rng(rows)
    given = body["candidates"].get("features", {})
    for feature in schema.request_features:
        yield from _tensors(feature, [body["request"][feature.name]] * rows)
    for feature in (*schema.row_features, *schema.catalog_features):
        drawn = given.get(feature.name) or example_values(model.transforms, feature, rows, random)
        yield from _tensors(feature, drawn)


def _tensors(feature: Feature, values: list[Any]) -> Iterator[tuple[str, str, np.ndarray]]:
    column = column_of(feature, values, feature.name)
    if isinstance(column, Ragged):
        kind = "INT64" if column.values.dtype.kind == "i" else "BYTES"
        yield f"{feature.name}.values", kind, column.values
        yield f"{feature.name}.offsets", "INT32", column.offsets
        return
    if isinstance(feature, DenseFeature):
        yield feature.name, "FP32", column.reshape(-1) if feature.width == 1 else column
        return
    yield feature.name, "INT64" if column.dtype.kind == "i" else "BYTES", column
