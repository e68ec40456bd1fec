"""Every model of the zoo, split: as exact as it was, less to do for a row, in both numeric forms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx
import pytest

from engine.families import FAMILIES, family_network
from engine.small_model import small_batch
from rankine.compilation.binding import Binding, CostModel, Settings, SplitModel, sides_of, split_graph
from rankine.compilation.binding.table import as_markdown, split_table
from rankine.compression.quantize import quantize_graph
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import Network
from rankine.models.onnx_session import open_session
from unit.binding_graphs import Rows, in_float64, random_rows

pytestmark = pytest.mark.engine

_ROWS = 250
_CHEAP = Settings(costs=CostModel(catalog_byte=0.01, request_byte=0.01, element=0.01, slow_element=0.01))
"""Everything that can be taken out is, also of models as small as these."""


@cache
def _rounded(name: str) -> onnx.ModelProto:
    network = family_network(name)
    inputs = reference_lookup(network.schema, network.tables, small_batch(300, seed=5), np.float32)
    return quantize_graph(network.graph, inputs)


def _rows(network: Network, sides: Mapping[str, Binding]) -> Rows:
    return random_rows(network.graph, sides, _ROWS, seed=1)


def _in_float32(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    result: np.ndarray = open_session(model).run(None, dict(feeds))[0]
    return result


def _split(network: Network, graph: onnx.ModelProto) -> tuple[SplitModel, Rows]:
    sides = sides_of(network.schema)
    return split_graph(graph, sides, _CHEAP), _rows(network, sides)


@pytest.mark.parametrize("name", FAMILIES)
def test_split_zoo_model_computes_the_same_when_evaluated_in_float64(name: str) -> None:
    network = family_network(name)
    split, rows = _split(network, network.graph)
    (expected,) = in_float64(network.graph, rows.gathered())
    assert np.abs(rows.split(split, in_float64) - expected).max() <= 1e-7 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_split_zoo_model_errs_at_most_twice_as_much_when_run_in_float32(name: str) -> None:
    network = family_network(name)
    split, rows = _split(network, network.graph)
    (expected,) = in_float64(network.graph, rows.gathered())
    own = np.abs(_in_float32(network.graph, rows.gathered()) - expected).max()
    assert np.abs(rows.split(split) - expected).max() <= 2 * own


@pytest.mark.parametrize("name", FAMILIES)
def test_split_rounded_model_computes_the_same_when_parts_share_their_scales(name: str) -> None:
    network, graph = family_network(name), _rounded(name)
    split, rows = _split(network, graph)
    (expected,) = in_float64(graph, rows.gathered())
    found = rows.split(split, in_float64)
    # A value on the border between two codes may take the other one: of all rows, a few may differ by such a step.
    wrong = np.abs(found - expected) > 1e-6 * max(1.0, np.abs(expected).max())
    assert wrong.mean() < 0.01
    assert split.plan.work.candidate < split.plan.work.before


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
    split, _ = _split(network, network.graph)
    constants = {tensor.name: tuple(tensor.dims) for tensor in split.parts.candidate.graph.initializer}
    products = [node for node in split.parts.candidate.graph.node if node.op_type == "MatMul"]
    assert (8, 24) in [constants.get(node.input[1]) for node in products]
    assert (24, 24) not in constants.values()
