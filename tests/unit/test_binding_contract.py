"""A product that only a head reads, multiplied in the cheaper order."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rankine.compilation.binding import Binding, CostModel, Settings, split_graph
from unit.binding_graphs import in_float64, random_rows

_CHEAP = Settings(costs=CostModel(catalog_byte=0.01, request_byte=0.01, element=0.01, slow_element=0.01))
"""Everything that can be taken out is, also of a model as small as this."""
_SIDES = {"r": Binding.REQUEST, "i": Binding.CATALOG, "p": Binding.CANDIDATE}


def _cross(*, tasks: int = 1, read_again: bool = False, rounded: bool = False) -> onnx.ModelProto:
    """``head(x * (U v + b) + x)`` with ``x = [r, i]`` and ``v = relu(V [x, p])``."""
    generator = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(generator.normal(0, 0.3, shape).astype(np.float32), name)

    constants = [weights("V", 16, 6), weights("w", 12, tasks), weights("c", tasks)]
    constants.append(numpy_helper.from_array(np.array([1]), "axes"))
    nodes = [
        helper.make_node("Concat", ["r", "i"], ["x"], axis=1),
        helper.make_node("Concat", ["x", "p"], ["all"], axis=1),
        helper.make_node("MatMul", ["all", "V"], ["before"]),
        helper.make_node("Relu", ["before"], ["v"]),
        helper.make_node("Gemm", ["v", "U", "b"], ["y"], transB=1),
        helper.make_node("Mul", ["x", "y"], ["xy"]),
        helper.make_node("Add", ["xy", "x"], ["out"]),
        helper.make_node("Gemm", ["out", "w", "c"], ["logits" if not read_again else "first"]),
    ]
    if read_again:
        nodes += [
            helper.make_node("ReduceMax", ["y", "axes"], ["more"]),
            helper.make_node("Add", ["first", "more"], ["logits"]),
        ]
    if rounded:
        codes = generator.integers(-127, 128, (12, 6)).astype(np.int8)
        constants += [
            numpy_helper.from_array(codes, "codes"),
            numpy_helper.from_array(generator.uniform(0.001, 0.01, 12).astype(np.float32), "scale"),
        ]
        bias_codes = generator.integers(-500, 500, 12).astype(np.int32)
        constants.append(numpy_helper.from_array(bias_codes, "bias_codes"))
        nodes[:0] = [
            helper.make_node("DequantizeLinear", ["codes", "scale"], ["U"], axis=0),
            helper.make_node("DequantizeLinear", ["bias_codes", "scale"], ["b"], axis=0),
        ]
    else:
        constants += [weights("U", 12, 6), weights("b", 12)]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])
        for name, width in (("r", 5), ("i", 7), ("p", 4))
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", tasks])
    graph = helper.make_graph(nodes, "cross", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("tasks", [1, 3])
def test_layer_is_gone_and_scores_stay_when_only_a_head_reads_its_product(tasks: int, rounded: bool) -> None:
    model = _cross(tasks=tasks, rounded=rounded)
    split = split_graph(model, _SIDES, _CHEAP)
    rows = random_rows(model, _SIDES, 60, seed=1)
    (expected,) = in_float64(model, rows.gathered())
    assert np.abs(rows.split(split, in_float64) - expected).max() <= 1e-6 * np.abs(expected).max()
    assert np.abs(rows.split(split) - expected).max() <= 1e-5 * np.abs(expected).max()
    late = 4 * 6  # what is left of V; U, 6 x 12, and the head, 12 a task, are known early or products of six numbers
    assert split.plan.work.candidate <= late


def test_layer_stays_when_something_else_reads_it() -> None:
    model = _cross(read_again=True)
    split = split_graph(model, _SIDES, _CHEAP)
    rows = random_rows(model, _SIDES, 60, seed=1)
    (expected,) = in_float64(model, rows.gathered())
    assert np.abs(rows.split(split, in_float64) - expected).max() <= 1e-6 * np.abs(expected).max()
    assert split.plan.work.candidate >= 6 * 12


def test_layer_stays_when_a_head_has_many_outputs() -> None:
    split = split_graph(_cross(tasks=9), _SIDES, _CHEAP)
    assert split.plan.work.candidate >= 6 * 12
