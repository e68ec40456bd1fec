"""A graph in PyTorch: the same scores as ONNX Runtime and the module it came from, gradients, and each operator."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from rankine.compression.table_forms import quantize_table, quotient_remainder
from rankine.errors import UsageError
from rankine.models.inputs import torch_inputs
from rankine.models.network import Network, NetworkScorer
from rankine.models.tables import QuotientRemainderTable, Table
from rankine.models.torch_graph import GraphModel, untrainable
from rankine.models.torch_graph.operators import OPERATORS
from rankine.training.fit import FitConfig, fit, predict_logits
from unit.small_networks import (
    FAMILIES,
    HISTORY,
    ITEM,
    ITEMS,
    USER,
    batch_of,
    context_of,
    made_network,
    module_of,
    network,
    random_table,
    schema_of,
    single_node,
)


def assert_equal_logits(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_array_less(np.abs(found - wanted), 1e-5 * np.maximum(1, np.abs(wanted)))


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_engine_and_of_the_module_when_a_graph_is_run(family: str) -> None:
    batch = batch_of(200)
    found = predict_logits(GraphModel(network(family)), batch)
    assert found.std() > 0.01
    assert_equal_logits(found, NetworkScorer(network(family)).logits(batch))
    assert_equal_logits(found, predict_logits(module_of(family), batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_has_a_gradient_when_the_loss_is_taken_back(family: str) -> None:
    model = GraphModel(network(family))
    model(torch_inputs(batch_of(400), model.schema)).square().sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []
    trained = sum(weight.numel() for weight in model.parameters())
    assert trained >= 0.95 * sum(weight.numel() for weight in module_of(family).parameters())


@pytest.mark.parametrize("family", ["dcn_v2", "din"])
def test_network_scores_as_the_module_when_it_was_trained(family: str) -> None:
    before = network(family)
    model, batch = GraphModel(before), batch_of(200)
    context = context_of(before, rows=600)
    fit(model, context.train, context.validation, FitConfig(max_epochs=1, batch_rows=128, threads=1))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.01)
    after = model.to_network()
    assert_equal_logits(NetworkScorer(after).logits(batch), predict_logits(model, batch))
    assert not np.allclose(NetworkScorer(after).logits(batch), NetworkScorer(before).logits(batch), atol=1e-3)
    assert predict_logits(GraphModel(before), batch) == pytest.approx(
        predict_logits(module_of(family), batch), abs=1e-5
    )


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_composed_table_is_trained_in_its_form_when_a_network_has_one(combine: Any) -> None:
    whole = network("dcn_v2")
    counts = np.ones(ITEMS)
    composed = quotient_remainder(whole.tables["item"], 7, counts, combine=combine)
    given = whole.changed(tables={**whole.tables, "item": composed})
    model, batch = GraphModel(given), batch_of(100)
    assert_equal_logits(predict_logits(model, batch), NetworkScorer(given).logits(batch))
    model(torch_inputs(batch, model.schema)).sum().backward()
    with torch.no_grad():
        for weight in model.tables["table_item"].parameters():
            assert weight.grad is not None
            weight.add_(weight.grad, alpha=0.1)
    after = model.to_network().tables["item"]
    assert isinstance(after, QuotientRemainderTable)
    assert (after.count, after.combine, after.size_bytes) == (ITEMS, combine, composed.size_bytes)
    assert not np.allclose(after.quotient.rows, composed.quotient.rows)
    assert not np.allclose(after.remainder.rows, composed.remainder.rows)
    assert_equal_logits(NetworkScorer(model.to_network()).logits(batch), predict_logits(model, batch))


def test_table_is_in_floats_when_it_came_in_int8() -> None:
    whole = network("dcn_v2")
    quantized = quantize_table(whole.tables["user"], "int8")
    after = GraphModel(whole.changed(tables={**whole.tables, "user": quantized})).to_network().tables["user"]
    assert isinstance(after, Table)
    assert after.form == "float32"
    np.testing.assert_array_equal(after.rows, quantized.dequantized())


def test_taps_change_what_the_graph_reads_when_they_are_set() -> None:
    model, batch = GraphModel(network("dcn_v2")), batch_of(50)
    plain = predict_logits(model, batch)
    names = [tensor.name for tensor in model.network.graph.graph.initializer if model.weight(tensor.name) is not None]
    last = next(node.input[0] for node in model.network.graph.graph.node if "logits" in node.output)
    for taps, name in ((model.taps, "user"), (model.taps, last), (model.weight_taps, names[0])):
        taps[name] = torch.zeros_like
        assert np.abs(predict_logits(copy.deepcopy(model), batch) - plain).max() > 1e-3
        taps.clear()
    np.testing.assert_array_equal(predict_logits(model, batch), plain)


def test_constant_nodes_are_weights_when_a_graph_has_no_initializers() -> None:
    body = "W = Constant <value = float[3,1] {1.0, 2.0, 3.0}> () logits = MatMul(user, W)"
    schema = schema_of(USER)
    made = made_network(
        schema, "(float[rows,3] user) => (float[rows,1] logits)", body, tables={"user": random_table(60, 3)}
    )
    model = GraphModel(made)
    weight = model.weight("W")
    assert weight is not None
    with torch.no_grad():
        weight.mul_(2.0)
    batch = batch_of(20)
    assert_equal_logits(NetworkScorer(model.to_network()).logits(batch), 2 * NetworkScorer(made).logits(batch))


def test_indices_and_shapes_are_no_weights_when_a_graph_is_read() -> None:
    model = GraphModel(network("deepfm"))
    for tensor in model.network.graph.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            assert model.weight(tensor.name) is None


def test_graph_is_refused_when_an_operator_has_no_gradient() -> None:
    schema = schema_of(USER)
    made = made_network(
        schema,
        "(float[rows,3] user) => (float[rows,1] logits)",
        "a = Round(user) b = Floor(a) logits = ReduceSum(b, one)",
        tables={"user": random_table(60, 3)},
        one=np.array([1]),
    )
    assert untrainable(made) == "there is no gradient here for Floor, Round"
    with pytest.raises(UsageError, match=r"graph: the model cannot be trained further \(got .*Floor, Round\)\. Leave"):
        GraphModel(made)


def test_graph_is_refused_when_only_other_forms_of_an_operator_are_known() -> None:
    made = made_network(
        schema_of(USER),
        "(float[rows,3] user) => (float[rows,5] logits)",
        'logits = Pad <mode = "reflect"> (user, pads)',
        tables={"user": random_table(60, 3)},
        pads=np.array([0, 1, 0, 1]),
    )
    assert untrainable(made) == "there is no gradient here for Pad (mode reflect)"


def test_graph_is_refused_when_it_is_int8() -> None:
    given = network("dcn_v2")
    quantized = Network(given.schema, given.graph, given.tables, "int8")
    with pytest.raises(UsageError, match="its graph is INT8 already"):
        GraphModel(quantized)


def test_sequence_shares_its_items_rows_when_both_are_read() -> None:
    body = "logits = MatMul(both, W)"
    made = made_network(
        schema_of(HISTORY, ITEM),
        "(float[rows,9] history, float[rows,2] item) => (float[rows,1] logits)",
        "both = Concat <axis = 1> (history, item) " + body,
        tables={"item": random_table(ITEMS, 2)},
        W=np.ones((11, 1), np.float32),
    )
    model = GraphModel(made)
    assert [name for name, _ in model.named_parameters()] == ["tables.table_item.rows", "weights.weight_0"]
    assert_equal_logits(predict_logits(model, batch_of(30)), NetworkScorer(made).logits(batch_of(30)))


_RANDOM = np.random.default_rng(0)
X = _RANDOM.normal(size=(4, 6)).astype(np.float32)
Y = _RANDOM.normal(size=(4, 6)).astype(np.float32)
CUBE = _RANDOM.normal(size=(2, 3, 4)).astype(np.float32)
IMAGE = _RANDOM.normal(size=(2, 3, 5, 4)).astype(np.float32)
POSITIVE = np.abs(X) + 0.1
BOOLS = X > 0
ROW = _RANDOM.normal(size=6).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CASES: list[tuple[str, dict[str, np.ndarray | None], dict[str, Any]]] = [
    *((name, {"a": X}, {}) for name in ("Abs", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "Identity", "LeakyRelu")),
    *((name, {"a": X}, {}) for name in ("LogSoftmax", "Neg", "Relu", "Selu", "Sigmoid", "Softmax", "Softplus", "Tanh")),
    *((name, {"a": POSITIVE}, {}) for name in ("Log", "Reciprocal", "Sqrt")),
    *((name, {"a": X, "b": Y}, {}) for name in ("Add", "Div", "Equal", "Greater", "GreaterOrEqual", "Less")),
    *((name, {"a": X, "b": Y}, {}) for name in ("LessOrEqual", "Max", "Min", "Mul", "Sub", "Sum")),
    *((name, {"a": X, "b": Y, "c": X[::-1].copy()}, {}) for name in ("Max", "Min", "Sum")),
    *((name, {"a": X, "axes": ints(1)}, {"keepdims": 0}) for name in ("ReduceSum", "ReduceMean", "ReduceMax")),
    *((name, {"a": CUBE, "axes": ints(-1)}, {}) for name in ("ReduceSum", "ReduceMin", "ReduceL2", "ReduceProd")),
    *((name, {"a": CUBE, "axes": ints(0, 2)}, {}) for name in ("ReduceSum", "ReduceSumSquare", "ReduceMax")),
    ("ReduceProd", {"a": CUBE, "axes": ints(0, 2)}, {"keepdims": 0}),
    ("ReduceSum", {"a": X}, {}),
    ("ReduceSum", {"a": X}, {"noop_with_empty_axes": 1}),
    ("And", {"a": BOOLS, "b": Y > 0}, {}),
    ("Or", {"a": BOOLS, "b": Y > 0}, {}),
    ("Not", {"a": BOOLS}, {}),
    ("Elu", {"a": X}, {"alpha": 0.5}),
    ("Gelu", {"a": X}, {"approximate": "tanh"}),
    ("HardSigmoid", {"a": X}, {"alpha": 0.3, "beta": 0.4}),
    ("Selu", {"a": X}, {"alpha": 1.5, "gamma": 0.9}),
    ("LeakyRelu", {"a": X}, {"alpha": 0.2}),
    ("Softmax", {"a": CUBE}, {"axis": 1}),
    ("LogSoftmax", {"a": CUBE}, {"axis": 0}),
    ("Div", {"a": ints(7, -7, 9), "b": ints(2, 2, -4)}, {}),
    ("Pow", {"a": POSITIVE, "b": np.array(1.5, np.float32)}, {}),
    ("Pow", {"a": X, "b": np.array(2, np.float32)}, {}),
    ("Pow", {"a": X, "b": ints(3)}, {}),
    ("Pow", {"a": ROW, "b": np.full((1, 1), 2, np.float32)}, {}),
    ("PRelu", {"a": X, "slope": ROW}, {}),
    ("Clip", {"a": X, "low": np.array(-0.5, np.float32), "high": np.array(0.5, np.float32)}, {}),
    ("Clip", {"a": X, "low": None, "high": np.array(0.5, np.float32)}, {}),
    ("Clip", {"a": X}, {}),
    ("Where", {"c": BOOLS, "a": X, "b": Y}, {}),
    ("Cast", {"a": X}, {"to": 7}),
    ("Cast", {"a": BOOLS}, {"to": 1}),
    ("CastLike", {"a": BOOLS, "b": X}, {}),
    ("Shape", {"a": CUBE}, {}),
    ("Shape", {"a": CUBE}, {"start": 1, "end": -1}),
    ("ConstantOfShape", {"shape": ints(2, 3)}, {}),
    ("ConstantOfShape", {"shape": ints(2)}, {"value": onnx.helper.make_tensor("v", 1, [1], [2.5])}),
    ("Concat", {"a": X, "b": Y}, {"axis": 1}),
    ("Concat", {"a": CUBE, "b": CUBE}, {"axis": -2}),
    ("Expand", {"a": ROW, "shape": ints(4, 1)}, {}),
    ("Tile", {"a": X, "repeats": ints(2, 3)}, {}),
    ("Flatten", {"a": CUBE}, {}),
    ("Flatten", {"a": CUBE}, {"axis": 2}),
    ("Flatten", {"a": CUBE}, {"axis": 0}),
    ("Flatten", {"a": CUBE}, {"axis": -1}),
    ("Reshape", {"a": CUBE, "shape": ints(0, -1)}, {}),
    ("Reshape", {"a": CUBE, "shape": ints(6, 4)}, {}),
    ("Transpose", {"a": CUBE}, {}),
    ("Transpose", {"a": CUBE}, {"perm": [0, 2, 1]}),
    ("Squeeze", {"a": CUBE[:, :1], "axes": ints(1)}, {}),
    ("Squeeze", {"a": CUBE[:, :1, :1]}, {}),
    ("Unsqueeze", {"a": X, "axes": ints(0, -1)}, {}),
    ("Gather", {"a": CUBE, "index": ints(2, -1)}, {"axis": 1}),
    ("Gather", {"a": CUBE, "index": np.array(1, np.int64)}, {"axis": 2}),
    ("Gather", {"a": X, "index": np.array([[0, 1], [2, 3]], np.int64)}, {}),
    ("GatherElements", {"a": X, "index": np.array([[0, 1], [2, 5], [3, 3], [4, 0]], np.int64)}, {"axis": 1}),
    ("Slice", {"a": X, "starts": ints(1), "ends": ints(3)}, {}),
    ("Slice", {"a": X, "starts": ints(-4), "ends": ints(2**62), "axes": ints(1), "steps": ints(2)}, {}),
    ("Slice", {"a": X, "starts": ints(-1), "ends": ints(-(2**62)), "axes": ints(1), "steps": ints(-2)}, {}),
    ("Slice", {"a": X, "starts": ints(3), "ends": ints(3), "axes": ints(-1), "steps": ints(1)}, {}),
    ("Pad", {"a": X, "pads": ints(0, 1, 0, 2)}, {}),
    ("Pad", {"a": X, "pads": ints(1, 2), "value": np.array(3, np.float32), "axes": ints(-1)}, {}),
    ("MatMul", {"a": CUBE, "b": CUBE.transpose(0, 2, 1).copy()}, {}),
    ("MatMul", {"a": CUBE, "b": X[:, :2].copy()}, {}),
    ("MatMul", {"a": X, "b": ROW}, {}),
    ("Gemm", {"a": X, "b": Y, "c": ROW[:4].copy()}, {"transB": 1}),
    ("Gemm", {"a": X, "b": Y, "c": ROW[:4, None].copy()}, {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", {"a": X, "b": Y}, {"transA": 1}),
    ("Einsum", {"a": CUBE, "b": CUBE}, {"equation": "bij,bkj->bik"}),
    ("Conv", {"a": IMAGE, "w": IMAGE[:, :, :2, :2].copy(), "b": ROW[:2].copy()}, {"pads": [1, 0, 2, 1]}),
    ("Conv", {"a": IMAGE, "w": IMAGE[:, :, :2, :2].copy()}, {"strides": [2, 1], "dilations": [2, 1]}),
    ("Conv", {"a": CUBE, "w": CUBE[:, :, :2].copy()}, {}),
    ("LayerNormalization", {"a": CUBE, "s": ROW[:4].copy(), "b": ROW[1:5].copy()}, {"epsilon": 1e-3}),
    ("LayerNormalization", {"a": X, "s": ROW}, {}),
    (
        "BatchNormalization",
        {"a": X, "s": ROW, "b": ROW + 1, "m": ROW - 1, "v": np.abs(ROW) + 0.5},
        {"epsilon": 1e-3},
    ),
]
MANY: list[tuple[str, dict[str, np.ndarray | None], dict[str, Any], int]] = [
    ("Split", {"a": X, "sizes": ints(2, 4)}, {"axis": 1}, 2),
    ("Split", {"a": X}, {"axis": 1, "num_outputs": 3}, 3),
    ("Split", {"a": IMAGE}, {"axis": 2, "num_outputs": 3}, 3),
    ("TopK", {"a": X, "k": ints(2)}, {}, 2),
    ("TopK", {"a": X, "k": ints(2)}, {"axis": 0, "largest": 0}, 2),
]


def run_both(
    operator: str, inputs: dict[str, np.ndarray | None], attributes: dict[str, Any], outputs: int
) -> tuple[list[torch.Tensor], list[np.ndarray]]:
    """What our operator gives, and what ONNX's reference gives."""
    names = [f"y{position}" for position in range(outputs)]
    node = single_node(operator, inputs, names, **attributes)
    given = {name: value for name, value in inputs.items() if value is not None}
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in given.items()
        ],
        [onnx.helper.make_empty_tensor_value_info(name) for name in names],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    wanted = ReferenceEvaluator(model).run(None, given)
    from rankine.models.torch_graph.steps import node_attribute

    read = {entry.name: node_attribute(entry) for entry in node.attribute}
    tensors = [None if value is None else torch.from_numpy(value.copy()) for value in inputs.values()]
    found = OPERATORS[operator](read, *tensors)
    return list(found) if isinstance(found, tuple) else [found], [np.asarray(one) for one in wanted]


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "outputs"),
    [*((*case, 1) for case in CASES), *MANY],
    ids=[f"{case[0]}-{position}" for position, case in enumerate([*CASES, *MANY])],
)
def test_operator_is_onnxs_when_run_on_a_small_case(
    operator: str, inputs: dict[str, np.ndarray | None], attributes: dict[str, Any], outputs: int
) -> None:
    found, wanted = run_both(operator, inputs, attributes, outputs)
    for ours, theirs in zip(found, wanted, strict=True):
        assert tuple(ours.shape) == theirs.shape
        np.testing.assert_allclose(ours.numpy().astype(np.float64), theirs.astype(np.float64), rtol=1e-5, atol=1e-6)


def test_every_operator_has_a_case_when_listed() -> None:
    assert {case[0] for case in CASES} | {case[0] for case in MANY} == set(OPERATORS)


def test_length_of_nothing_has_no_slope_when_differentiated() -> None:
    nothing = torch.zeros(2, 3, requires_grad=True)
    OPERATORS["ReduceL2"]({"keepdims": 1}, nothing, torch.tensor([1])).sum().backward()
    assert nothing.grad is not None
    assert not nothing.grad.any()
