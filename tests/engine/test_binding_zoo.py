"""Every model of the zoo, split: as exact as it was, less to do for a row, in both numeric forms."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest

from engine.families import FAMILIES, family_network
from engine.small_model import small_batch
from rankine.compilation.binding import CostModel, Settings, sides_of, split_graph
from rankine.compilation.binding.proof import Proof, prove
from rankine.compilation.binding.table import as_markdown, split_table
from rankine.compression.quantize import quantize_graph
from rankine.models.lookup_reference import reference_lookup
from unit.binding_graphs import random_rows

pytestmark = pytest.mark.engine

_ROWS = 250
_CHEAP = Settings(costs=CostModel(catalog_byte=0.01, request_byte=0.01, element=0.01, slow_element=0.01))
"""Everything that can be taken out is, also of models as small as these."""


@cache
def _rounded(name: str) -> onnx.ModelProto:
    network = family_network(name)
    inputs = reference_lookup(network.schema, network.tables, small_batch(300, seed=5), np.float32)
    return quantize_graph(network.graph, inputs)


@cache
def _proof(name: str, numeric: str) -> Proof:
    network = family_network(name)
    graph = network.graph if numeric == "fp32" else _rounded(name)
    sides = sides_of(network.schema)
    rows = random_rows(graph, sides, _ROWS, seed=1)
    return prove(graph, split_graph(graph, sides, _CHEAP), rows.gathered(), sides)


def _linear_inputs(part: onnx.ModelProto | None) -> list[tuple[str, str]]:
    """By which operators the two operands of the layers with rounded weights are given."""
    if part is None:
        return []
    made_by = {name: node.op_type for node in part.graph.node for name in node.output}
    layers = [node for node in part.graph.node if node.op_type in ("Gemm", "MatMul")]
    operands = [(made_by.get(node.input[0], ""), made_by.get(node.input[1], "")) for node in layers]
    return [pair for pair in operands if pair[1] == "DequantizeLinear"]


@pytest.mark.parametrize("numeric", ["fp32", "int8"])
@pytest.mark.parametrize("name", FAMILIES)
def test_split_zoo_model_computes_the_same_when_evaluated_in_float64(name: str, numeric: str) -> None:
    proof = _proof(name, numeric)
    assert proof.parts_in_float64 <= 1e-7 * max(1.0, proof.scale)


@pytest.mark.parametrize("name", FAMILIES)
def test_split_zoo_model_errs_at_most_twice_as_much_when_run_in_float32(name: str) -> None:
    proof = _proof(name, "fp32")
    assert 0 < proof.error_after <= 2 * proof.error_before


@pytest.mark.parametrize("name", FAMILIES)
def test_split_rounded_model_has_the_very_same_accumulators_when_its_parts_share_their_scales(name: str) -> None:
    proof = _proof(name, "int8")
    assert proof.sums > 0
    assert proof.accumulator_difference < 1e-6


@pytest.mark.parametrize("name", FAMILIES)
def test_split_rounded_model_is_a_step_apart_at_most_when_it_is_rounded_again(name: str) -> None:
    """In FP32 a sum on the border between two codes may take the other one."""
    proof = _proof(name, "int8")
    assert proof.codes > 0
    assert proof.steps <= 1
    assert proof.stepped <= 1e-4 * proof.codes


@pytest.mark.parametrize("settings", [_CHEAP, Settings()], ids=["cheap", "default"])
@pytest.mark.parametrize("name", FAMILIES)
def test_layers_of_the_parts_multiply_integers_when_the_model_is_rounded(name: str, settings: Settings) -> None:
    """ONNX Runtime rounds other operands of rounded weights by scales of its own."""
    parts = split_graph(_rounded(name), sides_of(family_network(name).schema), settings).parts
    found = [pair for part in (parts.catalog, parts.request, parts.candidate) for pair in _linear_inputs(part)]
    assert found
    assert set(found) == {("DequantizeLinear", "DequantizeLinear")}


@pytest.mark.parametrize("numeric", ["fp32", "int8"])
@pytest.mark.parametrize("settings", [_CHEAP, Settings()], ids=["cheap", "default"])
def test_split_zoo_models_are_never_worse_when_counted(numeric: str, settings: Settings) -> None:
    networks = [(name, family_network(name)) for name in FAMILIES]
    if numeric == "int8":
        networks = [(name, network.changed(graph=_rounded(name))) for name, network in networks]
    rows = split_table(networks, settings)
    assert len(as_markdown(rows).splitlines()) == len(FAMILIES) + 2
    assert all(row.macs_candidate <= row.macs_before for row in rows)
    taken_out = {row.model for row in rows if row.macs_candidate < row.macs_before}
    assert taken_out >= FAMILIES.keys() - ({"dlrm"} if settings != _CHEAP else set())


def test_history_is_multiplied_once_a_request_when_din_is_split() -> None:
    """Of ``[k, q - k, q * k]`` only ``q * k`` is left to be multiplied for every candidate and position."""
    network = family_network("din")
    split = split_graph(network.graph, sides_of(network.schema), _CHEAP)
    constants = {tensor.name: tuple(tensor.dims) for tensor in split.parts.candidate.graph.initializer}
    products = [node for node in split.parts.candidate.graph.node if node.op_type == "MatMul"]
    assert (8, 24) in [constants.get(node.input[1]) for node in products]
    assert (24, 24) not in constants.values()


def test_history_is_multiplied_once_a_request_when_a_rounded_din_is_split() -> None:
    """``q - k`` is rounded as a whole; of ``[k, q - k, q * k]`` the first third is the request's all the same."""
    split = split_graph(_rounded("din"), sides_of(family_network("din").schema), _CHEAP)
    constants = {tensor.name: tuple(tensor.dims) for tensor in split.parts.candidate.graph.initializer}
    rounded = [node for node in split.parts.candidate.graph.node if node.op_type == "DequantizeLinear"]
    assert (16, 24) in [constants.get(node.input[0]) for node in rounded]
    assert (24, 24) not in constants.values()
