"""Every architecture of the zoo, small, over the small model's features: built, exported and quantized."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from engine.small_model import small_batch
from rankine.compilation.conformance.zoo import MODELS, zoo_module
from rankine.compression.quantize import quantize_graph
from rankine.compression.table_forms import quantize_table
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import Network, network_of
from rankine.models.schema import Schema
from rankine.models.variant import Model, Numeric
from rankine.models.zoo.base import RankingModel

FAMILIES = MODELS


@dataclass(frozen=True)
class Built:
    """One architecture with random weights, as PyTorch module and in both numeric forms."""

    module: RankingModel
    fp32: Model
    int8: Model

    def model(self, numeric: Numeric) -> Model:
        return self.fp32 if numeric == "fp32" else self.int8


def family_module(name: str, schema: Schema | None = None) -> RankingModel:
    """The module with random weights, in evaluation mode."""
    return zoo_module(name, small=True, schema=schema)


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
