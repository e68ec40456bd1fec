"""The reference models that engines are held to: every architecture, over features of every kind on every side.

Weights are random: what an engine computes does not depend on what a model has learned. The INT8 form is quantized on
random rows as the pass does it, with tables of every row type.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankine.artifact import Artifact, Draft
from rankine.compilation.conformance.batches import ranking_batch
from rankine.errors import EngineMissing
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
from rankine.models.variant import BASELINE, Variant, load_model, write_tables

if TYPE_CHECKING:
    from rankine.compression.table_forms import PlainForm
    from rankine.models.network import Network
    from rankine.models.zoo.base import RankingModel

__all__ = ["INT8", "MODELS", "SMALL", "features", "zoo_artifact", "zoo_module", "zoo_schema"]

INT8 = "int8"
"""Name of the quantized variant; the other is the baseline."""
_ROW_TYPES: Mapping[str, PlainForm] = {"user": "float32", "item": "int8", "genre": "int4", "tag": "float16"}
_SIZES = {"user": 50, "item": 400, "genre": 20, "tag": 30}
_TWO_TASKS = (Task(name="click"), Task(name="buy", label="bought"))

MODELS: Mapping[str, Mapping[str, Any]] = {
    "dcn_v2": {"architecture": "dcn_v2"},
    "dcn_v2-stacked-low-rank": {"architecture": "dcn_v2", "structure": "stacked", "low_rank": 12},
    "deepfm": {"architecture": "deepfm"},
    "din": {"architecture": "din"},
    "din-dice": {"architecture": "din", "activation": "dice"},
    "dlrm": {"architecture": "dlrm"},
    "mmoe": {"architecture": "mmoe"},
    "wide_deep": {"architecture": "wide_deep"},
}
"""Configuration of each, with the sizes that ``rankine train`` takes by default."""
_SMALL = {"embedding_dim": 8, "hidden": (32, 16)}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "dcn_v2": {"cross_layers": 2},
    "din": {"attention": (24, 8)},
    "din-dice": {"attention": (24, 8)},
    "dlrm": {"bottom": (16,)},
    "mmoe": {"experts": 3, "tower": (8,)},
}
"""What makes each quick, beside a small embedding and MLP."""


def features(*, history_length: int = 5) -> tuple[Feature, ...]:
    """Categorical, multi-hot and dense features of the request, the item (static and live) and the pair, and a
    sequence, which shares its table with the item."""
    users, items, genres, tags = (Identity(size=size) for size in _SIZES.values())
    return (
        CategoricalFeature(name="user", side="request", encoding=users),
        MultiHotFeature(name="recent", side="request", encoding=items, table="item", pooling="mean"),
        DenseFeature(name="age", side="request", width=3),
        CategoricalFeature(name="item", side="item", encoding=items),
        MultiHotFeature(name="genre", side="item", encoding=genres, pooling="mean"),
        DenseFeature(name="price", side="item", width=2),
        DenseFeature(name="clicks", side="item", freshness="live"),
        CategoricalFeature(name="last_tag", side="pair", encoding=tags, table="tag"),
        MultiHotFeature(name="tag", side="pair", encoding=tags, pooling="sum"),
        SequenceFeature(name="history", side="request", encoding=items, table="item", max_length=history_length),
    )


def zoo_schema(name: str) -> Schema:
    """The features of one of :data:`MODELS`; two tasks where its architecture is for several."""
    tasks = {"tasks": _TWO_TASKS} if MODELS[name]["architecture"] == "mmoe" else {}
    return Schema(features=features(), item_id="item", **tasks)


def zoo_module(name: str, *, small: bool = False, schema: Schema | None = None) -> RankingModel:
    """One of :data:`MODELS` with random weights, in evaluation mode.

    Args:
        small: with a small embedding and MLP, for a quick look.
        schema: another than :func:`zoo_schema` gives, with the same tables.

    Raises:
        EngineMissing: PyTorch, which makes the models, is not installed.
    """
    try:
        import torch

        from rankine.models.zoo import build_model
    except ImportError as error:
        hint = "pip install 'rankine[train]'"
        raise EngineMissing("reference models are made by PyTorch", got=str(error), hint=hint) from None
    config = {**MODELS[name], **(_SMALL | dict(SMALL.get(name, {})) if small else {})}
    torch.manual_seed(3)
    module = build_model(schema or zoo_schema(name), _SIZES, config)
    for table in module.tables.values():
        torch.nn.init.normal_(table.weight, std=0.5)  # type: ignore[arg-type]
    return module.eval()


def zoo_artifact(name: str, network: Network, folder: Path) -> Artifact:
    """Write a network of :func:`zoo_module` in both numeric forms into ``folder``; the FP32 form has its checkpoint."""
    from rankine.models.network import put_network

    draft = Draft("trained", name=name)
    draft.put_json("schema.json", network.schema)
    put_network(draft, network, name=BASELINE, parent=None, steps=(), validation_auc=0.5, details={"seed": 3})
    return _quantized(draft.commit(folder / "trained"), folder)


def _quantized(parent: Artifact, folder: Path) -> Artifact:
    import onnx

    from rankine.compression.quantize import quantize_graph
    from rankine.compression.table_forms import quantize_table
    from rankine.models.lookup_reference import reference_lookup

    model = load_model(parent, BASELINE)
    inputs = reference_lookup(model.schema, model.tables, ranking_batch(model, 1000, seed=5), np.float32)
    draft = Draft("compressed", parent=parent)
    graph = quantize_graph(onnx.load(model.graph), inputs)
    draft.put_bytes(f"variants/{INT8}/graph.onnx", graph.SerializeToString())
    tables = {name: quantize_table(table, _ROW_TYPES[name]) for name, table in model.tables.items()}
    forms = write_tables(draft, INT8, tables)
    record = Variant(name=INT8, parent=BASELINE, numeric="int8", macs_per_row=1, tables=forms)
    draft.put_json(f"variants/{INT8}/variant.json", record)
    return draft.commit(folder / "compressed")
