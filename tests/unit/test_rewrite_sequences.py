"""Splits that an exporter wrote through a sequence of tensors."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from rankine.models.rewrite.graph import Graph
from rankine.models.rewrite.sequences import settle_sequences


def graph_of(split: str, place: int, keepdims: int = 1, **constants: np.ndarray) -> onnx.ModelProto:
    body = f"s = SplitToSequence<axis = 1, keepdims = {keepdims}>(x{split}) p = SequenceAt(s, at) y = Relu(p)"
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> g (float[rows, 7] x) => (float[a, b] y) {{ {body} }}'
        if keepdims
        else f'<ir_version: 10, opset_import: ["" : 21]> g (float[rows, 7] x) => (float[a] y) {{ {body} }}'
    )
    values = {"at": np.array(place), **constants}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    return model


def settled(model: onnx.ModelProto) -> tuple[list[str], onnx.ModelProto]:
    graph = Graph.read(model)
    settle_sequences(graph)
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    made = onnx.helper.make_graph(graph.nodes, "g", graph.inputs, list(model.graph.output), constants)
    return [node.op_type for node in graph.nodes], onnx.helper.make_model(made, opset_imports=list(model.opset_import))


@pytest.mark.parametrize(
    ("model", "operators"),
    [
        (graph_of(", n", 0, n=np.array(3)), ["Slice", "Relu"]),
        (graph_of(", n", 2, n=np.array(3)), ["Slice", "Relu"]),  # the last part has one column
        (graph_of(", n", 1, n=np.array([2, 4, 1])), ["Slice", "Relu"]),
        (graph_of(", n", -1, n=np.array([2, 5])), ["Slice", "Relu"]),
        (graph_of("", 3), ["Slice", "Relu"]),
        (graph_of("", 3, 0), ["Slice", "Squeeze", "Relu"]),
    ],
)
def test_part_is_a_slice_when_its_place_is_known(model: onnx.ModelProto, operators: list[str]) -> None:
    found, made = settled(model)
    x = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    assert found == operators
    (one,), (other,) = (ReferenceEvaluator(graph).run(None, {"x": x}) for graph in (model, made))
    np.testing.assert_array_equal(one, other)


def test_part_loses_its_axis_when_sizes_are_left_out_by_an_empty_name() -> None:
    model = graph_of("", 3, 0)
    model.graph.node[0].input.append("")
    assert settled(model)[0] == ["Slice", "Squeeze", "Relu"]


def test_split_stays_when_the_place_counts_from_an_end_that_is_not_known() -> None:
    found, _ = settled(graph_of(", n", -1, n=np.array(3)))
    assert found == ["SplitToSequence", "SequenceAt", "Relu"]
