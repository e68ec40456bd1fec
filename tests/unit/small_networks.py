"""Small networks of some architectures with random weights, rows for them, and the context of a compression pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from rankine.compression.context import Context
from rankine.compression.recipe import Tuning
from rankine.events import ignore
from rankine.metrics import sigmoid
from rankine.models.columns import Batch, Ragged
from rankine.models.network import Network, NetworkScorer, network_of
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    Identity,
    MultiHotFeature,
    Schema,
    SequenceFeature,
    Task,
)
from rankine.models.tables import AnyTable, Table
from rankine.models.zoo import build_model
from rankine.models.zoo.base import RankingModel
from rankine.training.config import FitConfig
from rankine.training.fit import Examples

USERS, ITEMS, GENRES, LENGTH, DIM = 60, 90, 6, 4, 6
ROWS = {"user": USERS, "item": ITEMS, "genre": GENRES}
USER = CategoricalFeature(name="user", side="request", encoding=Identity(size=USERS))
HISTORY = SequenceFeature(
    name="history", side="request", encoding=Identity(size=ITEMS), table="item", max_length=LENGTH
)
ITEM = CategoricalFeature(name="item", side="item", encoding=Identity(size=ITEMS))
GENRE = MultiHotFeature(name="genre", side="item", encoding=Identity(size=GENRES))
PRICE = DenseFeature(name="price", side="item", width=2)
TASKS = (Task(name="click"), Task(name="buy", label="bought"))

FAMILIES: Mapping[str, Mapping[str, Any]] = {  # an export takes a second: tests/engine has the others
    "dcn_v2": {"architecture": "dcn_v2", "cross_layers": 2},
    "deepfm": {"architecture": "deepfm"},
    "din": {"architecture": "din", "attention": (12, 8), "activation": "dice"},
    "mmoe": {"architecture": "mmoe", "experts": 3, "tower": (8,)},
}


def schema_of(*features: Feature, tasks: int = 1) -> Schema:
    return Schema(features=features or (USER, HISTORY, ITEM, GENRE, PRICE), item_id="sku", tasks=TASKS[:tasks])


@cache
def module_of(family: str) -> RankingModel:
    """Not to be changed: shared by tests."""
    torch.manual_seed(0)
    sizes = {"embedding_dim": DIM, "hidden": (24, 16), "dropout": 0.0, **FAMILIES[family]}
    model = build_model(schema_of(tasks=2 if family == "mmoe" else 1), ROWS, sizes).eval()
    with torch.no_grad():  # scores of a new model hardly differ
        for weight in model.parameters():
            weight.mul_(2.0)
        for table in model.tables.values():
            table.weight.normal_()
    return model


@cache
def network(family: str) -> Network:
    """A family's network, exported once."""
    return network_of(module_of(family))


def made_network(
    schema: Schema,
    signature: str,
    body: str,
    *,
    tables: Mapping[str, AnyTable],
    opset: int = 21,
    **constants: np.ndarray,
) -> Network:
    """A network whose graph is given in ONNX's text form; constants become initializers."""
    graph = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g {signature} {{ {body} }}')
    graph.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())
    onnx.checker.check_model(graph, full_check=True)
    return Network(schema, graph, tables)


def random_table(rows: int, dim: int, seed: int = 0) -> Table:
    return Table(np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32))


def batch_of(rows: int, seed: int = 0) -> Batch:
    """Rows of all features; one list in five is empty."""
    random = np.random.default_rng(seed)
    users = {"user": np.arange(USERS, dtype=np.int32), "history": _ragged(random, USERS, LENGTH, ITEMS)}
    items = {
        "item": np.arange(ITEMS, dtype=np.int32),
        "genre": _ragged(random, ITEMS, 3, GENRES),
        "price": random.normal(size=(ITEMS, 2)).astype(np.float32),
    }
    asked, offered = (random.integers(0, size, rows).astype(np.int32) for size in (USERS, ITEMS))
    return Batch(users, items, {}, np.sort(asked), offered)


def context_of(baseline: Network, *, rows: int = 1500, seed: int = 0) -> Context:
    """Training and validation rows whose labels are drawn from the baseline's own scores."""
    batch = batch_of(rows, seed)
    logits = NetworkScorer(baseline).logits(batch)
    spread = (logits - logits.mean(axis=0)) / logits.std(axis=0) * 2
    labels = np.random.default_rng(seed).random(logits.shape) < sigmoid(spread)
    examples = Examples(batch, labels.astype(np.float32))
    at = np.random.default_rng(seed).permutation(rows)
    return Context(
        examples.select(np.sort(at[rows // 3 :])), examples.select(np.sort(at[: rows // 3])), baseline, seed, ignore
    )


def logits_of(of: Network) -> np.ndarray:
    """Of a few rows, ``(150, tasks)``."""
    return NetworkScorer(of).logits(batch_of(150))


def assert_same_scores(found: Network, wanted: Network) -> None:
    """Equal but for rounding, and not because all scores are alike."""
    np.testing.assert_allclose(logits_of(found), logits_of(wanted), rtol=1e-4, atol=1e-4)
    assert logits_of(wanted).std() > 0.1


def tuning(epochs: int = 2) -> Tuning:
    fit = FitConfig(batch_rows=256, learning_rate=2e-3, embedding_l2=0.0, max_epochs=epochs, patience=epochs, threads=1)
    return Tuning(drawn_rows=0.5, fit=fit)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def single_node(
    operator: str, inputs: Mapping[str, np.ndarray | None], outputs: Sequence[str] = ("y",), **attributes: Any
) -> onnx.NodeProto:
    """A node that reads ``inputs`` by their names; a missing optional input is None."""
    return helper.make_node(
        operator, [name if value is not None else "" for name, value in inputs.items()], list(outputs), **attributes
    )


def _ragged(random: np.random.Generator, count: int, longest: int, size: int) -> Ragged:
    lengths = random.integers(0, longest + 1, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return Ragged(random.integers(0, size, offsets[-1], dtype=np.int32), offsets)
