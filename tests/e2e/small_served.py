"""A small model of every kind of feature on every side, with its catalog: what the tests of serving serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rankine.artifact import Artifact, Draft
from rankine.catalog import Catalog, catalog_beside, write_catalog
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.schema import CategoricalFeature, DenseFeature, Hash, Identity, MultiHotFeature, Schema
from rankine.models.transforms import Transforms

ITEMS = 300
ENGINE = "onnxruntime"

SCHEMA = Schema(
    features=(
        CategoricalFeature(name="user", side="request"),
        CategoricalFeature(name="country", side="request", dtype="string", default="nl"),
        CategoricalFeature(name="city", side="request", dtype="string", encoding=Hash(buckets=50, seed=1)),
        MultiHotFeature(name="recent", side="request", table="item", max_length=20),
        DenseFeature(name="age", side="request", width=2),
        CategoricalFeature(name="item", side="item"),
        MultiHotFeature(name="tags", side="item", dtype="string"),
        DenseFeature(name="price", side="item", normalization="log1p"),
        DenseFeature(name="clicks", side="item", freshness="live", default=0.0),
        CategoricalFeature(name="slot", side="pair", encoding=Identity(size=10)),
        DenseFeature(name="match", side="pair", width=2, normalization="none"),
    ),
    item_id="item",
    group="user",
)
REQUEST = {"user": 7, "country": "de", "city": "Köln", "recent": [1003, 1005], "age": [33.5, 1]}


def pair_features(rows: int) -> dict[str, list[object]]:
    """What a client sends with each of ``rows`` candidates."""
    return {"slot": [row % 10 for row in range(rows)], "match": [[0.5, 0.25 * (row % 7)] for row in range(rows)]}


def rank_body(rows: int = 5, **more: object) -> dict[str, Any]:
    """A good rank body over the first ``rows`` items of the catalog."""
    ids = [1000 + row % ITEMS for row in range(rows)]
    return {"request": REQUEST, "candidates": {"ids": ids, "features": pair_features(rows)}, **more}


def items() -> dict[str, Column]:
    """Raw static features of all items."""
    random = np.random.default_rng(4)
    tags = [[f"tag-{tag}" for tag in random.integers(0, 12, random.integers(0, 4))] for _ in range(ITEMS)]
    return {
        "item": np.arange(1000, 1000 + ITEMS),
        "tags": Ragged.from_lists(tags, np.dtype("S8")),
        "price": np.round(random.lognormal(2, 1, ITEMS), 2).astype(np.float32),
    }


def transforms() -> Transforms:
    """As they would be fitted on interactions of 40 users with these items."""
    random = np.random.default_rng(5)
    rows = ITEMS
    columns: dict[str, Column] = {
        "user": random.integers(1, 41, rows),
        "country": np.array(["de", "nl", "fr", "pl"])[random.integers(0, 4, rows)],
        "city": np.array(["Köln", "Utrecht"])[random.integers(0, 2, rows)],
        "recent": Ragged(random.integers(1000, 1000 + ITEMS, 2 * rows), np.arange(rows + 1, dtype=np.int32) * 2),
        "age": random.normal(40, 10, (rows, 2)).astype(np.float32),
        "clicks": random.random(rows).astype(np.float32),
        "slot": random.integers(0, 10, rows),
        "match": random.random((rows, 2)).astype(np.float32),
    }
    return Transforms.fit(SCHEMA, columns | items())


def encoded_batch(rows: int, seed: int) -> Batch:
    """Random encoded rows of a few requests, for verification of builds."""
    random = np.random.default_rng(seed)
    fitted, requests = transforms(), 4
    request: dict[str, Column] = {
        "user": random.integers(1, 41, requests),
        "country": np.array(["de", "nl", "fr", "xx"]),
        "city": np.array(["Köln", "Utrecht", "Gent", "Lille"]),
        "recent": Ragged(random.integers(1000, 1400, 6), np.array([0, 2, 2, 5, 6], np.int32)),
        "age": random.normal(40, 10, (requests, 2)).astype(np.float32),
    }
    pair: dict[str, Column] = {
        "clicks": random.random(rows).astype(np.float32),
        "slot": random.integers(0, 10, rows),
        "match": random.random((rows, 2)).astype(np.float32),
    }
    return Batch(
        fitted.encode(SCHEMA.request_features, request),
        fitted.encode(SCHEMA.catalog_features, items()),
        fitted.encode(SCHEMA.row_features, pair),
        np.sort(random.integers(0, requests, rows)).astype(np.int32),
        random.integers(0, ITEMS, rows).astype(np.int32),
    )


def write_small_catalog(artifact: Path) -> Catalog:
    """The catalog beside an artifact; rows are given in an order that is not the one of their ids."""
    order = np.random.default_rng(6).permutation(ITEMS)
    shuffled = {
        name: column.take(order) if isinstance(column, Ragged) else column[order] for name, column in items().items()
    }
    return write_catalog(catalog_beside(artifact), SCHEMA, np.asarray(shuffled["item"]), shuffled)


def write_small_artifact(path: Path, engine: str = ENGINE, hidden: tuple[int, ...] = (32, 16)) -> Artifact:
    """The small model, not certified; with wider layers it is slow on any processor."""
    return write_untrained(path, "small", transforms(), encoded_batch(200, 1), engine, hidden)


def write_untrained(
    path: Path,
    name: str,
    fitted: Transforms,
    verify_batch: Batch,
    engine: str = ENGINE,
    hidden: tuple[int, ...] = (32, 16),
) -> Artifact:
    """An untrained DCN-v2 over a schema, compiled for one engine, not certified."""
    import torch

    from rankine.compilation.compile import compile_artifact
    from rankine.models.network import network_of, put_network
    from rankine.models.variant import BASELINE
    from rankine.models.zoo.dcn_v2 import DcnV2, DcnV2Config

    torch.manual_seed(3)
    config = DcnV2Config(embedding_dim=8, hidden=hidden, cross_layers=2)
    model = DcnV2(fitted.schema, fitted.table_rows(), config)
    for table in model.tables.values():
        torch.nn.init.normal_(table.weight, std=0.5)
    draft = Draft("train", name=name)
    fitted.write(draft)
    network = network_of(model.eval())
    put_network(draft, network, name=BASELINE, parent=None, steps=(), validation_auc=0.5, details={})
    trained = draft.commit(path.parent / f"{path.name}.trained")
    return compile_artifact(trained, engines=[engine], verify_batch=verify_batch, out=path)


def certify_small(artifact: Artifact, path: Path, *, passed: bool = True) -> Artifact:
    """A child with a plan and a quality certificate a task: of scores that are the baseline's, or of random ones."""
    from rankine.certification import certify_quality
    from rankine.certification.plan import PLAN_FILE, SERVED, Plan, quality_file, served_digest
    from rankine.models.variant import BASELINE, load_model

    random = np.random.default_rng(8)
    labels = random.integers(0, 2, 4000)
    logits = labels + random.normal(size=len(labels))
    scores = logits if passed else random.normal(size=len(labels))
    provenance = {SERVED: served_digest(artifact, BASELINE, ENGINE)}
    draft = Draft("certify", parent=artifact)
    for task in load_model(artifact, BASELINE).schema.task_names:
        certificate = certify_quality(
            labels, logits, scores, clusters={}, variant=BASELINE, engine=ENGINE, task=task, provenance=provenance
        )
        draft.put_json(quality_file(BASELINE, ENGINE, task), certificate)
    draft.put_json(PLAN_FILE, Plan(variant=BASELINE, engine=ENGINE, p50_ms_512=1.0))
    return draft.commit(path)
