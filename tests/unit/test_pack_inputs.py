"""The packed form of a graph: equal in every bit, and made only where it is exact."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from engine.small_model import small_batch, small_graph, small_schema, small_tables
from rankine.compilation.pack_inputs import PACKED, pack_inputs
from rankine.models.lookup_reference import reference_lookup


def _graph(nodes: list[onnx.NodeProto], names: list[str]) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 2]) for name in names]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", None])
    return helper.make_model(helper.make_graph(nodes, "test", inputs, [output]))


def test_pack_inputs_gives_equal_logits_when_one_concat_reads_all() -> None:
    model = small_graph()
    names = [feature.name for feature in small_schema().features]
    packed = pack_inputs(model, names)
    assert packed is not None
    onnx.checker.check_model(packed, full_check=True)
    features = reference_lookup(small_schema(), small_tables(), small_batch(50), np.float32)
    (apart,) = ReferenceEvaluator(model).run(None, features)
    (together,) = ReferenceEvaluator(packed).run(None, {PACKED: np.concatenate(list(features.values()), axis=1)})
    np.testing.assert_array_equal(apart, together)
    width = sum(values.shape[1] for values in features.values())
    assert [dim.dim_value for dim in packed.graph.input[0].type.tensor_type.shape.dim] == [0, width]


def test_pack_inputs_leaves_the_original_when_it_rewrites() -> None:
    model = small_graph()
    before = model.SerializeToString()
    assert pack_inputs(model, [feature.name for feature in small_schema().features]) is not None
    assert model.SerializeToString() == before


def test_pack_inputs_drops_both_when_two_concats_are_the_same() -> None:
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["x"], axis=1),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=-1),
        helper.make_node("Add", ["x", "y"], ["logits"]),
    ]
    packed = pack_inputs(_graph(nodes, ["a", "b"]), ["a", "b"])
    assert packed is not None
    assert [node.op_type for node in packed.graph.node] == ["Add"]
    assert list(packed.graph.node[0].input) == [PACKED, PACKED]


def test_pack_inputs_declines_when_an_input_is_read_by_something_else() -> None:
    nodes = [helper.make_node("Concat", ["a", "b"], ["x"], axis=1), helper.make_node("Add", ["x", "a"], ["logits"])]
    assert pack_inputs(_graph(nodes, ["a", "b"]), ["a", "b"]) is None


def test_pack_inputs_declines_when_the_order_or_axis_differs() -> None:
    for names, axis in ((["b", "a"], 1), (["a", "b"], 0)):
        nodes = [helper.make_node("Concat", names, ["x"], axis=axis), helper.make_node("Relu", ["x"], ["logits"])]
        assert pack_inputs(_graph(nodes, ["a", "b"]), ["a", "b"]) is None


def test_pack_inputs_declines_when_the_concat_is_the_output() -> None:
    assert pack_inputs(_graph([helper.make_node("Concat", ["a"], ["logits"], axis=1)], ["a"]), ["a"]) is None


def test_pack_inputs_declines_when_a_value_has_the_packed_name() -> None:
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["x"], axis=1),
        helper.make_node("Relu", ["x"], [PACKED]),
        helper.make_node("Relu", [PACKED], ["logits"]),
    ]
    assert pack_inputs(_graph(nodes, ["a", "b"]), ["a", "b"]) is None
