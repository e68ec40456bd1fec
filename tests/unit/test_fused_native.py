"""The native engine executes programs as the interpreter of their bytes does, on every instruction set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from rankine import _native
from rankine.compilation.fused.lower import lower_graph
from rankine.errors import EngineError
from unit.binding_graphs import random_graph, random_rows
from unit.fused_graphs import graph_of, rows_for
from unit.program_interpreter import run_program
from unit.test_fused_operators import OPERATORS, Case

_TILES = (0, 1, 3)
"""Rows of a tile: the engine's choice, one, and some that do not divide the rows."""


def _native_logits(contents: bytes, inputs: Sequence[np.ndarray], instruction_set: str, tile_rows: int) -> np.ndarray:
    """Every input is a dense feature of the rows."""
    program = _native.Program(np.frombuffer(contents, np.uint8))
    sources = [
        ("dense", "pair", number, None, None, 0, number, 0, values.shape[1], 0, None, None)
        for number, values in enumerate(inputs)
    ]
    runner = _native.FusedRunner(None, [], program, sources, tile_rows, 1, instruction_set)
    rows = len(inputs[0])
    found = np.full((rows, program.tasks), np.nan, np.float32)
    one = np.arange(rows, dtype=np.int32)
    runner.run([], 1, list(inputs), np.zeros(rows, np.int32), one, found)
    return found


def _same(model: onnx.ModelProto, inputs: Sequence[np.ndarray], where: str) -> None:
    contents = lower_graph(model).to_bytes()
    expected = run_program(contents, inputs)
    for instruction_set in _native.instruction_sets():
        for tile_rows in _TILES:
            found = _native_logits(contents, inputs, instruction_set, tile_rows)
            scale = max(1.0, np.abs(expected).max())
            assert np.abs(found - expected).max() < 1e-5 * scale, f"{where}, {instruction_set}, {tile_rows} rows a tile"


@pytest.mark.parametrize("case", OPERATORS)
def test_engine_computes_what_the_program_says_when_it_has_one_operator(case: Case) -> None:
    model = graph_of(case.body, case.widths, case.weights)
    inputs = rows_for(model)
    _same(model, [inputs[value.name] for value in model.graph.input], case.body)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_engine_computes_what_the_program_says_when_the_graph_is_random(first: int) -> None:
    for seed in range(first, first + 20):
        model, sides = random_graph(seed)
        rows = random_rows(model, sides, 9, seed).gathered()
        try:
            _same(model, [rows[value.name] for value in model.graph.input], f"seed {seed}")
        except EngineError as error:
            if "mixes rows" not in str(error):
                raise
