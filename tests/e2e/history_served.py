"""A small model of histories, weighted lists and two tasks, with its catalog; and one that reads nothing of an item."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from e2e.small_served import write_untrained
from rankine.artifact import Artifact
from rankine.catalog import Catalog, catalog_beside, write_catalog
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    MultiHotFeature,
    Schema,
    SequenceFeature,
    Task,
)
from rankine.models.transforms import Transforms

ITEMS = 60
LONGEST = 8
LONGEST_SENT = 1024
"""Sixteen histories would be fewer."""

SCHEMA = Schema(
    features=(
        CategoricalFeature(name="user", side="request"),
        SequenceFeature(name="history", side="request", table="item", max_length=LONGEST),
        MultiHotFeature(name="interests", side="request", dtype="string", max_length=6, weights="strength"),
        CategoricalFeature(name="item", side="item"),
        MultiHotFeature(name="tags", side="item", dtype="string", pooling="max"),
        MultiHotFeature(name="context", side="pair", pooling="sum", default=()),
        DenseFeature(name="match", side="pair", normalization="none"),
    ),
    item_id="item",
    tasks=(Task(name="ctr", label="click"), Task(name="cvr", label="buy")),
    ranking="ctr * cvr ** 0.5",
)
REQUEST: Mapping[str, object] = {
    "user": 7,
    "history": [103, 101, 140],
    "interests": {"values": ["art", "chess", "boats"], "weights": [2, 0.25, 1]},
}

NO_ITEMS = Schema(
    features=(
        CategoricalFeature(name="user", side="request"),
        CategoricalFeature(name="slot", side="pair"),
        DenseFeature(name="match", side="pair", normalization="none"),
    ),
    item_id="item",
)


def history_body(rows: int = 5, **more: object) -> dict[str, object]:
    """A good rank body over the first ``rows`` items; half of the candidates have a context, some of it weighted."""
    context: list[object] = [
        [] if row % 2 else {"values": [row % 5, 9], "weights": [0.5, 3]} if row % 4 else [row % 5]
        for row in range(rows)
    ]
    features = {"context": context, "match": [0.1 * (row % 7) for row in range(rows)]}
    ids = [100 + row % ITEMS for row in range(rows)]
    return {"request": copy.deepcopy(dict(REQUEST)), "candidates": {"ids": ids, "features": features}, **more}


def raw_batch(rows: int = 5, history: list[int] | None = None) -> tuple[dict[str, Column], dict[str, Column]]:
    """The raw request and pair columns of ``history_body(rows)``, built without the server's code."""
    values, weights, offsets = [], [], [0]
    for row in range(rows):
        if row % 4 and not row % 2:
            values += [row % 5, 9]
            weights += [0.5, 3.0]
        elif not row % 2:
            values += [row % 5]
            weights += [1.0]
        offsets.append(len(values))
    context = Ragged(np.array(values, np.int64), np.array(offsets, np.int32), np.array(weights, np.float32))
    interests = Ragged(
        np.array([b"art", b"chess", b"boats"]), np.array([0, 3], np.int32), np.array([2, 0.25, 1], np.float32)
    )
    past = [103, 101, 140] if history is None else history
    return {
        "user": np.array([7]),
        "history": Ragged(np.array(past, np.int64), np.array([0, len(past)], np.int32)),
        "interests": interests,
    }, {"context": context, "match": (0.1 * (np.arange(rows) % 7)).astype(np.float32)}


def encoded(rows: int = 5, history: list[int] | None = None) -> Batch:
    """The encoded batch of ``history_body(rows)``; ``history`` replaces the one in it."""
    fitted = history_transforms()
    request, pair = raw_batch(rows, history)
    return Batch(
        fitted.encode(SCHEMA.request_features, request),
        fitted.encode(SCHEMA.catalog_features, items()),
        fitted.encode(SCHEMA.row_features, pair),
        np.zeros(rows, np.int32),
        np.arange(rows, dtype=np.int32) % ITEMS,
    )


def items() -> dict[str, Column]:
    """Raw static features of all items."""
    random = np.random.default_rng(4)
    tags = [[f"tag-{tag}" for tag in random.integers(0, 12, random.integers(0, 4))] for _ in range(ITEMS)]
    return {"item": np.arange(100, 100 + ITEMS), "tags": Ragged.from_lists(tags, np.dtype("S8"))}


def history_transforms() -> Transforms:
    """As they would be fitted on one interaction with each item."""
    random = np.random.default_rng(5)
    words = np.array([b"art", b"boats", b"chess", b"dance"])
    columns: dict[str, Column] = {
        "user": random.integers(1, 21, ITEMS),
        "history": Ragged(random.integers(100, 100 + ITEMS, 3 * ITEMS), np.arange(ITEMS + 1, dtype=np.int32) * 3),
        "interests": Ragged(words[random.integers(0, 4, ITEMS)], np.arange(ITEMS + 1, dtype=np.int32)),
        "context": Ragged(random.integers(0, 10, ITEMS), np.arange(ITEMS + 1, dtype=np.int32)),
        "match": random.random(ITEMS).astype(np.float32),
    }
    return Transforms.fit(SCHEMA, columns | items())


def no_item_transforms() -> Transforms:
    """Of the model that reads nothing of an item."""
    columns: dict[str, Column] = {
        "user": np.arange(1, 21), "slot": np.arange(20) % 4, "match": np.linspace(0, 1, 20).astype(np.float32),
    }  # fmt: skip
    return Transforms.fit(NO_ITEMS, columns)


def write_history_catalog(artifact: Path) -> Catalog:
    columns = items()
    return write_catalog(catalog_beside(artifact), SCHEMA, np.asarray(columns["item"]), columns)


def write_history_artifact(path: Path) -> Artifact:
    return write_untrained(path, "history", history_transforms(), encoded(40))


def write_no_item_artifact(path: Path) -> Artifact:
    """Without a catalog beside it."""
    fitted = no_item_transforms()
    request = fitted.encode(NO_ITEMS.request_features, {"user": np.arange(1, 4)})
    pair = fitted.encode(
        NO_ITEMS.row_features, {"slot": np.arange(30) % 4, "match": np.linspace(0, 1, 30).astype(np.float32)}
    )
    index = np.repeat(np.arange(3, dtype=np.int32), 10)
    return write_untrained(path, "plain", fitted, Batch(request, {}, pair, index, np.arange(30, dtype=np.int32)))
