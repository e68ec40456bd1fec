"""Whole graphs as programs: models of the zoo, as exported and rounded, and random graphs."""

from __future__ import annotations

import os

import numpy as np
import pytest

from rankine.compilation.fused.lower import lower_graph
from rankine.compilation.fused.program import Code
from rankine.compression.quantize import quantize_graph
from rankine.errors import EngineError
from rankine.models.lookup_reference import reference_lookup
from unit.binding_graphs import in_float64, random_graph, random_rows
from unit.fused_graphs import codes_of, copies_in, proved
from unit.program_interpreter import run_program
from unit.small_networks import FAMILIES, batch_of, network

_GRAPHS = int(os.environ.get("RANKINE_RANDOM_GRAPHS", "200"))
_PER_TEST = 20


@pytest.mark.parametrize("family", FAMILIES)
def test_program_computes_what_the_model_does_when_it_is_of_the_zoo(family: str) -> None:
    own = network(family)
    proved(own.graph, reference_lookup(own.schema, own.tables, batch_of(50), np.float32))


@pytest.mark.parametrize("family", FAMILIES)
def test_program_computes_what_the_model_does_when_it_is_rounded(family: str) -> None:
    own = network(family)
    inputs = reference_lookup(own.schema, own.tables, batch_of(200), np.float32)
    program = proved(quantize_graph(own.graph, inputs), inputs, within=1e-4)
    counts = codes_of(program)
    assert counts[Code.LINEAR_I8] > 1
    assert counts[Code.DEQUANTIZE] == 0, "layers read codes"


@pytest.mark.parametrize("family", ["dcn_v2", "mmoe"])
def test_program_copies_nothing_when_features_are_only_joined(family: str) -> None:
    assert copies_in(lower_graph(network(family).graph)) == 0


@pytest.mark.parametrize("first", range(0, _GRAPHS, _PER_TEST))
def test_program_computes_what_the_graph_does_when_it_is_random(first: int) -> None:
    refused: list[str] = []
    for seed in range(first, min(first + _PER_TEST, _GRAPHS)):
        model, sides = random_graph(seed)
        inputs = random_rows(model, sides, 9, seed).gathered()
        try:
            program = lower_graph(model)
        except EngineError as error:
            refused.append(str(error))
            continue
        found = run_program(program.to_bytes(), [inputs[value.name] for value in model.graph.input])
        (expected,) = in_float64(model, inputs)
        error = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
        assert error < 1e-5, f"seed {seed}: {error}"
    assert len(refused) < _PER_TEST / 2
    assert all("mixes rows" in reason for reason in refused)
