"""Graphs for the native engine's compiler, and the proof that their programs compute what they compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rankine.compilation.fused import Program
from rankine.compilation.fused.lower import lower_graph
from rankine.compilation.fused.program import Code, Unary
from unit.binding_graphs import in_float64
from unit.program_interpreter import run_program

ROWS = 7
Weights = Mapping[str, np.ndarray | tuple[int, ...]]


def sizes(*values: int) -> np.ndarray:
    """A constant that holds sizes, places or axes."""
    return np.asarray(values, np.int64)


def graph_of(
    body: str, widths: Mapping[str, int], weights: Weights | None = None, *, codes: Sequence[str] = (), opset: int = 21
) -> onnx.ModelProto:
    """A graph in ONNX's text form with the output ``logits``.

    Args:
        widths: of its inputs.
        weights: its constants; of a tuple, random numbers in this shape.
        codes: inputs of bytes.
    """
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.UINT8 if name in codes else TensorProto.FLOAT, ["rows", width])
        for name, width in widths.items()
    ]
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> g () => () {{ {body} }}'
    nodes = onnx.parser.parse_model(text).graph.node
    random = np.random.default_rng(3)
    constants = [
        numpy_helper.from_array(_weight(values, random), name) for name, values in (weights if weights else {}).items()
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def rows_for(model: onnx.ModelProto, rows: int = ROWS, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs of a graph."""
    random = np.random.default_rng(seed)
    found = {}
    for value in model.graph.input:
        shape = (rows, value.type.tensor_type.shape.dim[1].dim_value)
        if value.type.tensor_type.elem_type == TensorProto.UINT8:
            found[value.name] = random.integers(0, 256, shape).astype(np.uint8)
        else:
            found[value.name] = random.normal(size=shape).astype(np.float32)
    return found


def proved(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray] | None = None, *, within: float = 1e-5) -> Program:
    """The program of a graph, once it has given what the reference gives in float64."""
    program = lower_graph(model)
    feeds = rows_for(model) if inputs is None else inputs
    found = run_program(program.to_bytes(), [feeds[value.name] for value in model.graph.input])
    (expected,) = _reference(model, feeds)
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=within, atol=within * max(1.0, np.abs(expected).max()))
    return program


def codes_of(program: Program) -> Counter[Code]:
    """How many operations of each code a program has."""
    return Counter(operation.code for operation in program.operations)


def copies_in(program: Program) -> int:
    """Operations that only move elements."""
    return sum(
        operation.code is Code.COPY_U8 or (operation.code is Code.UNARY and operation.kind == Unary.IDENTITY)
        for operation in program.operations
    )


def _reference(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    if any(values.dtype == np.uint8 for values in feeds.values()):
        from onnx.reference import ReferenceEvaluator

        return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, dict(feeds))]  # type: ignore[union-attr]
    return in_float64(model, feeds)


def _weight(values: np.ndarray | tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if isinstance(values, tuple):
        return (random.normal(size=values) / np.sqrt(max(values, default=1))).astype(np.float32)
    return np.asarray(values)
