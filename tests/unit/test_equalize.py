"""Equalized inputs: the same function, like ranges, and only where ranges differ much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rankine.compression.equalize import equalize_inputs
from rankine.compression.quantize import quantize_graph

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
    assert equalize_inputs(model, ["layer"], inputs) == ["layer"]
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, inputs), expected, rtol=1e-4, atol=1e-4)
    assert next(node.op_type for node in model.graph.node) == "Mul"
    assert "w" not in {tensor.name for tensor in model.graph.initializer}


def test_nothing_is_scaled_when_ranges_are_alike_or_all_zero() -> None:
    model = graph(transposed=True)
    before = model.SerializeToString()
    assert equalize_inputs(model, ["layer"], rows(2)) == []
    assert equalize_inputs(model, ["layer"], {"x": np.zeros((10, WIDTH), np.float32)}) == []
    assert model.SerializeToString() == before


@pytest.mark.parametrize("transposed", [False, True])
def test_int8_is_nearer_to_fp32_when_a_wide_column_is_equalized(tmp_path: Path, transposed: bool) -> None:
    model, inputs = graph(transposed=transposed), rows(200)
    onnx.save(model, tmp_path / "fp32.onnx")
    expected = run(model, inputs)
    errors = []
    for equalize in (False, True):
        out = tmp_path / f"int8-{equalize}.onnx"
        quantize_graph(tmp_path / "fp32.onnx", inputs, out, method="minmax", equalize=equalize)
        errors.append(float(np.abs(run(onnx.load(out), inputs) - expected).mean()))
    assert errors[1] < errors[0] / 2
