"""Equalized inputs: the same function, like ranges, and only where ranges differ much."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rankine.compression.quantize import quantize_graph
from rankine.compression.quantize.equalize import equalize_inputs
from rankine.compression.quantize.layers import find_layers, read_graph
from rankine.compression.quantize.write import calibrate

WIDTH, HIDDEN = 12, 16


def graph(*, transposed: bool) -> onnx.ModelProto:
    """A hidden layer by Gemm or MatMul, then a head."""
    random = np.random.default_rng(0)
    first = random.normal(size=(HIDDEN, WIDTH) if transposed else (WIDTH, HIDDEN)).astype(np.float32)
    head = random.normal(size=(HIDDEN, 1)).astype(np.float32)
    layer = (
        helper.make_node("Gemm", ["x", "w"], ["hidden"], name="layer", transB=1)
        if transposed
        else helper.make_node("MatMul", ["x", "w"], ["hidden"], name="layer")
    )
    nodes = [
        layer,
        helper.make_node("Relu", ["hidden"], ["active"], name="relu"),
        helper.make_node("MatMul", ["active", "head"], ["logits"], name="head"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 1])
    weights = [numpy_helper.from_array(first, "w"), numpy_helper.from_array(head, "head")]
    body = helper.make_graph(nodes, "small", [x], [logits], weights)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def rows(spread: float) -> dict[str, np.ndarray]:
    """Rows whose second column is ``spread`` times as wide as the others, and whose third is always zero."""
    x = np.random.default_rng(1).uniform(-1, 1, (400, WIDTH)).astype(np.float32)
    x[:, 1] *= spread
    x[:, 2] = 0
    return {"x": x}


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    (found,) = ReferenceEvaluator(model).run(None, inputs)
    return np.asarray(found)


@pytest.mark.parametrize("transposed", [False, True])
def test_function_is_the_same_when_columns_are_scaled(transposed: bool) -> None:
    model, inputs = graph(transposed=transposed), rows(100)
    expected = run(model, inputs)
    (before,) = find_layers(read_graph(model))
    scaled, (after,) = equalize_inputs(model, [before], inputs)
    assert (after.name, after.width, after.columns) == (before.name, WIDTH, HIDDEN)
    assert after.source != before.source
    onnx.checker.check_model(scaled, full_check=True)
    np.testing.assert_allclose(run(scaled, inputs), expected, rtol=1e-4, atol=1e-4)
    assert next(node.op_type for node in scaled.graph.node) == "Mul"
    assert "w" not in {tensor.name for tensor in scaled.graph.initializer}


def test_value_is_scaled_once_when_several_layers_read_it() -> None:
    model, inputs = graph(transposed=True), rows(100)
    body = model.graph
    second = np.random.default_rng(4).normal(size=(WIDTH, HIDDEN)).astype(np.float32)
    body.initializer.append(numpy_helper.from_array(second, "u"))
    body.node.insert(1, helper.make_node("MatMul", ["x", "u"], ["beside"]))
    body.node[2].CopyFrom(helper.make_node("Add", ["hidden", "beside"], ["active"]))
    expected = run(model, inputs)
    layers = find_layers(read_graph(model))
    scaled, after = equalize_inputs(model, layers, inputs)
    assert [layer.name for layer in after] == ["hidden", "beside"]
    assert len({layer.source for layer in after}) == 1
    assert [node.op_type for node in scaled.graph.node].count("Mul") == 1
    np.testing.assert_allclose(run(scaled, inputs), expected, rtol=1e-4, atol=1e-4)


def test_layer_reads_what_it_read_before_when_it_stays_in_float() -> None:
    model, inputs = graph(transposed=True), rows(100)
    calibrated = calibrate(model, inputs)
    assert calibrated.equalized == ("hidden",)
    restored = calibrated.in_int8([])
    assert [node.op_type for node in restored.graph.node] == [node.op_type for node in model.graph.node]
    np.testing.assert_array_equal(run(restored, inputs), run(model, inputs))


def test_nothing_is_scaled_when_ranges_are_alike_or_all_zero() -> None:
    model = graph(transposed=True)
    layers = find_layers(read_graph(model))
    for inputs in (rows(2), {"x": np.zeros((10, WIDTH), np.float32)}):
        assert equalize_inputs(model, layers, inputs) == (model, layers)


@pytest.mark.parametrize("transposed", [False, True])
def test_int8_is_nearer_to_fp32_when_a_wide_column_is_equalized(transposed: bool) -> None:
    model, inputs = graph(transposed=transposed), rows(200)
    expected = run(model, inputs)
    errors = []
    for equalize in (False, True):
        after = quantize_graph(model, inputs, equalize=equalize)
        errors.append(float(np.abs(run(after, inputs) - expected).mean()))
    assert errors[1] < errors[0] / 2
