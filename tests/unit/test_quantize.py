"""Which products of a graph become INT8, told from graphs made by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rankine.compression.quantize import quantize_graph
from rankine.errors import DataError, UsageError

WIDTH = 16


def constant(name: str, *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(len(name)).normal(size=shape) / np.sqrt(shape[0])
    return numpy_helper.from_array(values.astype(np.float32), name)


def graph(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]) -> onnx.ModelProto:
    """The graph of ``nodes`` from ``x (rows, 16)`` to ``logits``."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", None])
    body = helper.make_graph(nodes, "test", [given], [output], weights)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(256, WIDTH)).astype(np.float32)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    (found,) = ReferenceEvaluator(model).run(None, {"x": x})
    return np.asarray(found)


def quantized(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]) -> onnx.ModelProto:
    """The graph of ``nodes`` in INT8; checked to stay close to FP32."""
    model = graph(nodes, weights)
    after = quantize_graph(model, {"x": rows()})
    before = run(model, rows())
    assert np.abs(run(after, rows()) - before).mean() < 0.05 * np.abs(before).mean()
    return after


def in_int8(model: onnx.ModelProto) -> set[str]:
    """Outputs of the products that read quantized values."""
    rounded = {value for node in model.graph.node if node.op_type == "DequantizeLinear" for value in node.output}
    products = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    assert all(set(node.input[:2]) <= rounded or not set(node.input) & rounded for node in products)
    return {node.output[0] for node in products if set(node.input) & rounded}


def test_last_layer_before_each_logit_stays_in_float_when_towers_are_joined() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["shared"]),
        helper.make_node("MatMul", ["shared", "u"], ["tower"]),
        helper.make_node("MatMul", ["tower", "a"], ["a.raw"]),
        helper.make_node("Add", ["a.raw", "bias"], ["a.logit"]),
        helper.make_node("MatMul", ["shared", "b"], ["b.logit"]),
        helper.make_node("Concat", ["a.logit", "b.logit"], ["logits"], axis=1),
    ]
    weights = [constant("w", WIDTH, 12), constant("u", 12, 9), constant("a", 9, 8), constant("b", 12, 8)]
    model = quantized(nodes, [*weights, constant("bias", 8)])
    assert in_int8(model) == {"shared", "tower"}


def test_products_of_activations_stay_in_float_when_quantized() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("Reshape", ["hidden", "shape"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["columns"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", "columns"], ["pairs"]),
        helper.make_node("Reshape", ["pairs", "flat"], ["joined"]),
        helper.make_node("Gemm", ["joined", "u"], ["top"]),
        helper.make_node("MatMul", ["hidden", "v"], ["beside"]),
        helper.make_node("Concat", ["top", "beside"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "h"], ["logits"]),
    ]
    weights = [constant("w", WIDTH, 12), constant("u", 9, 8), constant("v", 12, 8), constant("h", 16, 8)]
    shapes = [
        numpy_helper.from_array(np.array([-1, 3, 4]), "shape"),
        numpy_helper.from_array(np.array([-1, 9]), "flat"),
    ]
    model = quantized(nodes, [*weights, *shapes])
    assert in_int8(model) == {"hidden", "top", "beside"}
    reshape = next(node for node in model.graph.node if node.op_type == "Reshape")
    assert reshape.input[0] == "hidden", "what is multiplied in FP32 is not rounded either"


@pytest.mark.parametrize("name", ["", "same"])
def test_layers_are_told_apart_when_names_are_missing_or_shared(name: str) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"], name=name),
        helper.make_node("MatMul", ["hidden", "u"], ["logits"], name=name),
    ]
    model = quantized(nodes, [constant("w", WIDTH, 12), constant("u", 12, 8)])
    assert in_int8(model) == {"hidden"}


def test_layer_is_quantized_when_its_weight_is_a_constant_node() -> None:
    nodes = [
        helper.make_node("Constant", [], ["w"], value=constant("w", WIDTH, 12)),
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "u"], ["logits"]),
    ]
    model = quantized(nodes, [constant("u", 12, 8)])
    assert in_int8(model) == {"hidden"}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert any(values.dtype == np.int8 and values.shape == (WIDTH, 12) for values in stored.values())


def test_narrow_layer_stays_in_float_when_quantized() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "g"], ["gate"]),
        helper.make_node("Softmax", ["gate"], ["shares"]),
        helper.make_node("MatMul", ["shares", "u"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "h"], ["logits"]),
    ]
    weights = [constant("w", WIDTH, 12), constant("g", 12, 3), constant("u", 3, 8), constant("h", 8, 1)]
    assert in_int8(quantized(nodes, weights)) == {"hidden", "mixed"}


def test_gemm_is_left_in_float_when_no_kernel_computes_it_in_int8() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["scaled"], alpha=0.5),
        helper.make_node("Gemm", ["scaled", "u", "scaled"], ["summed"]),
        helper.make_node("Gemm", ["summed", "v"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "h"], ["logits"]),
    ]
    weights = [constant("w", WIDTH, 12), constant("u", 12, 12), constant("v", 12, 9), constant("h", 9, 1)]
    assert in_int8(quantized(nodes, weights)) == {"hidden"}


def test_gemm_keeps_its_function_when_its_bias_is_a_row() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "h"], ["logits"]),
    ]
    bias = numpy_helper.from_array(np.linspace(-2, 2, 12, dtype=np.float32)[None], "b")
    assert in_int8(quantized(nodes, [constant("w", WIDTH, 12), bias, constant("h", 12, 1)])) == {"hidden"}


def test_fp32_graph_is_as_it_was_when_quantized() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "u"], ["logits"]),
    ]
    model = graph(nodes, [constant("w", WIDTH, 12), constant("u", 12, 8)])
    before = model.SerializeToString(deterministic=True)
    first, second = (quantize_graph(model, {"x": rows()}).SerializeToString(deterministic=True) for _ in range(2))
    assert model.SerializeToString(deterministic=True) == before
    assert first == second


def test_quantizing_is_refused_when_there_is_nothing_to_quantize() -> None:
    head = graph([helper.make_node("MatMul", ["x", "u"], ["logits"])], [constant("u", WIDTH, 8)])
    with pytest.raises(UsageError, match=r"no layer .*got 1 linear layers.*Leave 'quantize' out"):
        quantize_graph(head, {"x": rows()})


def test_quantizing_is_refused_when_the_graph_is_int8_already() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "u"], ["logits"]),
    ]
    model = quantized(nodes, [constant("w", WIDTH, 12), constant("u", 12, 8)])
    with pytest.raises(UsageError, match="quantized already"):
        quantize_graph(model, {"x": rows()})


def test_quantizing_is_refused_with_the_value_when_calibration_rows_are_not_finite() -> None:
    nodes = [
        helper.make_node("Log", ["x"], ["logs"]),
        helper.make_node("MatMul", ["logs", "w"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "u"], ["logits"]),
    ]
    model = graph(nodes, [constant("w", WIDTH, 12), constant("u", 12, 8)])
    with pytest.raises(DataError, match=r"logs: .*not finite"):
        quantize_graph(model, {"x": rows()})
