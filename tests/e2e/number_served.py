"""A small model whose features are all numbers, certified: what a Triton built for NumPy 1 can take with NumPy 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from e2e.small_served import certify_small, write_untrained
from rankine.artifact import Artifact
from rankine.catalog import catalog_beside, write_catalog
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.schema import CategoricalFeature, DenseFeature, Identity, MultiHotFeature, Schema
from rankine.models.transforms import Transforms

__all__ = ["ITEMS", "flat_tensors", "rank_body", "rank_tensors", "write_number_artifact"]

ITEMS = 900
Tensors = list[tuple[str, str, np.ndarray]]

SCHEMA = Schema(
    features=(
        CategoricalFeature(name="user", side="request"),
        MultiHotFeature(name="recent", side="request", table="item", max_length=20),
        DenseFeature(name="age", side="request", width=2),
        CategoricalFeature(name="item", side="item"),
        DenseFeature(name="price", side="item", normalization="log1p"),
        DenseFeature(name="clicks", side="item", freshness="live", default=0.0),
        CategoricalFeature(name="slot", side="pair", encoding=Identity(size=10)),
    ),
    item_id="item",
    group="user",
)


def items() -> dict[str, Column]:
    """Raw static features of all items."""
    random = np.random.default_rng(4)
    return {"item": np.arange(1000, 1000 + ITEMS), "price": random.lognormal(2, 1, ITEMS).astype(np.float32)}


def _raw(rows: int, seed: int) -> dict[str, Column]:
    random = np.random.default_rng(seed)
    return {
        "user": random.integers(1, 41, rows),
        "recent": Ragged(random.integers(1000, 1000 + ITEMS, 2 * rows), np.arange(rows + 1, dtype=np.int32) * 2),
        "age": random.normal(40, 10, (rows, 2)).astype(np.float32),
        "clicks": random.random(rows).astype(np.float32),
        "slot": random.integers(0, 10, rows),
    }


def write_number_artifact(path: Path, hidden: tuple[int, ...] = (32, 16)) -> Artifact:
    """With its catalog; wider layers make it slow on any processor."""
    fitted = Transforms.fit(SCHEMA, _raw(ITEMS, 5) | items())
    rows = 200
    random = np.random.default_rng(1)
    raw = _raw(rows, 7)
    batch = Batch(
        fitted.encode(SCHEMA.request_features, _raw(4, 6)),
        fitted.encode(SCHEMA.catalog_features, items()),
        fitted.encode(SCHEMA.row_features, raw),
        np.sort(random.integers(0, 4, rows)).astype(np.int32),
        random.integers(0, ITEMS, rows).astype(np.int32),
    )
    compiled = write_untrained(path.with_name(f"{path.name}.compiled"), "numbers", fitted, batch, hidden=hidden)
    write_catalog(catalog_beside(path), SCHEMA, np.asarray(items()["item"]), items())
    return certify_small(compiled, path)


def rank_body(rows: int, user: int = 7) -> dict[str, Any]:
    """A request of the rank endpoint for the first ``rows`` items."""
    request = {"user": user, "recent": [1003, 1005], "age": [33.5, 1.0]}
    features = {"slot": [row % 10 for row in range(rows)]}
    return {"request": request, "candidates": {"ids": [1000 + row for row in range(rows)], "features": features}}


def rank_tensors(rows: int, user: int = 7) -> Tensors:
    """The same as tensors: name, datatype, values."""
    row = np.arange(rows)
    return [("ids", "INT64", 1000 + row), *_request(1, user), ("slot", "INT64", row % 10)]


def flat_tensors(rows: int, user: int = 7) -> Tensors:
    """The same rows, with everything about their items."""
    row, catalog = np.arange(rows), items()
    known: Tensors = [("item", "INT64", 1000 + row), ("price", "FP32", np.asarray(catalog["price"])[:rows])]
    return [*_request(rows, user), *known, ("slot", "INT64", row % 10)]


def _request(rows: int, user: int) -> Tensors:
    return [
        ("user", "INT64", np.full(rows, user)),
        ("recent.values", "INT64", np.tile([1003, 1005], rows)),
        ("recent.offsets", "INT32", 2 * np.arange(rows + 1, dtype=np.int32)),
        ("age", "FP32", np.tile(np.array([[33.5, 1]], np.float32), (rows, 1))),
    ]
