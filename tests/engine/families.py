"""Every architecture of the zoo, small, over the small model's features: built, exported and quantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from engine.small_model import small_batch, small_schema
from rankine.compression.quantize import quantize_graph
from rankine.compression.table_forms import quantize_table
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import Network, network_of
from rankine.models.schema import Schema, Task
from rankine.models.variant import Model, Numeric
from rankine.models.zoo import build_model
from rankine.models.zoo.base import RankingModel

_SIZES = {"embedding_dim": 8, "hidden": (32, 16)}
_ROWS = {"user": 50, "item": 400, "genre": 20, "tag": 30}
TWO_TASKS = (Task(name="click"), Task(name="buy", label="bought"))

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "dcn_v2": {"architecture": "dcn_v2", "cross_layers": 2},
    "dcn_v2-stacked-low-rank": {"architecture": "dcn_v2", "structure": "stacked", "low_rank": 12},
    "deepfm": {"architecture": "deepfm"},
    "din": {"architecture": "din", "attention": (24, 8)},
    "din-dice": {"architecture": "din", "attention": (24, 8), "activation": "dice"},
    "dlrm": {"architecture": "dlrm", "bottom": (16,)},
    "mmoe": {"architecture": "mmoe", "experts": 3, "tower": (8,)},
    "wide_deep": {"architecture": "wide_deep"},
}


@dataclass(frozen=True)
class Built:
    """One architecture with random weights, as PyTorch module and in both numeric forms."""

    module: RankingModel
    fp32: Model
    int8: Model

    def model(self, numeric: Numeric) -> Model:
        return self.fp32 if numeric == "fp32" else self.int8


def family_schema(name: str) -> Schema:
    """The small model's features, with a history; two tasks for MMoE."""
    schema = small_schema(history=True)
    return schema.model_copy(update={"tasks": TWO_TASKS}) if name == "mmoe" else schema


def family_module(name: str, schema: Schema | None = None) -> RankingModel:
    """The module with random weights, in evaluation mode."""
    torch.manual_seed(3)
    module = build_model(schema or family_schema(name), _ROWS, {**_SIZES, **FAMILIES[name]})
    for table in module.tables.values():
        torch.nn.init.normal_(table.weight, std=0.5)  # type: ignore[arg-type]
    return module.eval()


@cache
def family_network(name: str) -> Network:
    """The network of that module, exported once for all tests; not to be changed."""
    return network_of(family_module(name))


def build_family(name: str, folder: Path) -> Built:
    """Export and quantize it as the stages do."""
    network = family_network(name)
    assert network.module is not None
    onnx.save(network.graph, folder / "fp32.onnx")
    fp32 = Model(name=name, schema=network.schema, graph=folder / "fp32.onnx", tables=network.tables)
    inputs = reference_lookup(network.schema, network.tables, small_batch(1000, seed=5), np.float32)
    onnx.save(quantize_graph(onnx.load(fp32.graph), inputs), folder / "int8.onnx")
    rows = {table: quantize_table(values, "int8") for table, values in network.tables.items()}
    int8 = replace(fp32, graph=folder / "int8.onnx", tables=rows, numeric="int8")
    return Built(network.module, fp32, int8)
