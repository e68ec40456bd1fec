"""What is proved of a graph's values, and what is refused with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rankine.compilation.binding import Binding, split_graph
from rankine.compilation.binding.analysis import Analysis, analyze
from rankine.compilation.binding.dims import Rows
from rankine.compilation.binding.lattice import join
from rankine.errors import EngineError
from rankine.models.onnx_session import open_session
from rankine.models.rewrite.graph import Graph
from unit.binding_graphs import in_float64, random_rows

_SIDES = {"i": Binding.CATALOG, "r": Binding.REQUEST, "p": Binding.CANDIDATE}
_WIDTH = 4


def _model(nodes: list[onnx.NodeProto], opset: int = 21, **constants: Any) -> onnx.ModelProto:
    """Inputs ``i``, ``r`` and ``p``, each ``(rows, 4)``; the last node's output is the graph's."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", _WIDTH]) for name in _SIDES]
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["rows", _WIDTH])
    weights = [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "small", inputs, [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _analyzed(nodes: list[onnx.NodeProto], **constants: Any) -> Analysis:
    return analyze(Graph.opened(_model(nodes, **constants)), _SIDES)


def _node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def test_join_is_candidate_when_catalog_meets_request() -> None:
    assert join([Binding.CATALOG, Binding.REQUEST]) is Binding.CANDIDATE
    assert join([Binding.CONSTANT, Binding.REQUEST, Binding.REQUEST]) is Binding.REQUEST
    assert join([]) is Binding.CONSTANT


_MIXING = {
    "softmax of rows": ([_node("Softmax", "i", "y", axis=0)], "Softmax 'y': it mixes rows"),
    "mean of the batch": ([_node("ReduceMean", "i zero", "m"), _node("Sub", "i m", "y")], "ReduceMean 'm': it mixes"),
    "sum of everything": ([_node("ReduceSum", "i", "y", keepdims=0)], "ReduceSum 'y': it mixes rows"),
    "rows of another order": ([_node("Gather", "i two", "y", axis=0)], "Gather 'y': it moves or leaves out rows"),
    "the first rows": ([_node("Slice", "i zero one zero", "y")], "Slice 'y': it moves or leaves out rows"),
    "rows put into columns": ([_node("Transpose", "i", "t"), _node("Reshape", "t flat", "y")], "Reshape 'y': it folds"),
    "a fixed number of rows": ([_node("Reshape", "i fixed", "y")], "Reshape 'y': it gives a fixed number of rows"),
    "products of rows": ([_node("Transpose", "i", "t"), _node("MatMul", "i t", "y")], "MatMul 'y': every row meets"),
    "a sum over rows": (
        [_node("Transpose", "i", "t"), _node("MatMul", "t i", "y")],
        "MatMul 'y': it sums over the rows",
    ),
    "rows beside columns": ([_node("Transpose", "i", "t"), _node("Add", "i t", "y")], "Add 'y': rows do not lie along"),
    "rows after rows": ([_node("Concat", "i i", "y", axis=0)], "Concat 'y': it puts rows one after the other"),
    "a running sum": ([_node("CumSum", "i zero0", "y")], "CumSum 'y': it mixes rows"),
    "numbers of the rows": (
        [_node("Shape", "i", "s"), _node("Gather", "s zero0", "n"), _node("Range", "zero0 n one0", "y")],
        "Range 'y': it makes values out of the number of rows",
    ),
    "an unknown operator": ([_node("Det", "i", "y")], "Det 'y': nothing is known of this operator"),
}
_CONSTANTS = {
    "zero": np.array([0]),
    "one": np.array([1]),
    "two": np.array([1, 0]),
    "zero0": np.array(0),
    "one0": np.array(1),
    "flat": np.array([-1, 4]),
    "fixed": np.array([2, 8]),
}


@pytest.mark.parametrize("case", _MIXING)
def test_node_is_refused_with_its_name_when_it_mixes_rows(case: str) -> None:
    nodes, reason = _MIXING[case]
    found = _analyzed(nodes, **_CONSTANTS)
    assert str(found.refusals[0]).startswith(reason)
    assert found.facts["y"].binding is Binding.CANDIDATE
    assert found.facts["y"].shape is None


def test_batch_norm_is_refused_when_it_takes_statistics_of_the_batch() -> None:
    names = "i ones ones ones ones"
    ones = np.ones(_WIDTH, np.float32)
    trained = helper.make_node("BatchNormalization", names.split(), ["y", "m", "v"], training_mode=1)
    assert "statistics are those of the batch" in str(_analyzed([trained], ones=ones).refusals[0])
    assert not _analyzed([_node("BatchNormalization", names, "y")], ones=ones).refusals


_KEPT = {
    "elementwise": ([_node("Relu", "i", "y")], (Rows(), 4)),
    "softmax of columns": ([_node("Softmax", "i", "y", axis=1)], (Rows(), 4)),
    "columns chosen": ([_node("Gather", "i two", "y", axis=1)], (Rows(), 2)),
    "vectors": ([_node("Reshape", "i vectors", "y")], (Rows(), 2, 2)),
    "positions folded with rows": ([_node("Reshape", "i flat2", "y")], (Rows(2), 2)),
    "rows elsewhere": ([_node("Transpose", "i", "y")], (4, Rows())),
    "a new axis": ([_node("Unsqueeze", "i one", "y")], (Rows(), 1, 4)),
    "whole rows": ([_node("Slice", "i zero far zero", "y")], (Rows(), 4)),
    "a letter of its own": ([_node("Einsum", "i i", "y", equation="bi,bj->bij")], (Rows(), 4, 4)),
    "parts of a row": ([_node("Expand", "i three", "y")], (3, Rows(), 4)),
}


@pytest.mark.parametrize("case", _KEPT)
def test_rows_are_followed_when_an_operator_keeps_them_apart(case: str) -> None:
    nodes, shape = _KEPT[case]
    more = {"vectors": [-1, 2, 2], "flat2": [-1, 2], "far": [2**31 - 1], "three": [3, 1, 4]}
    constants = {**_CONSTANTS, **{name: np.array(values) for name, values in more.items()}}
    found = _analyzed(nodes, **constants)
    assert not found.refusals
    assert found.facts["y"].shape == shape
    assert found.facts["y"].binding is Binding.CATALOG


@pytest.mark.parametrize("case", _KEPT)
def test_row_depends_on_its_own_row_only_when_rows_are_proved_apart(case: str) -> None:
    """What the rules say, seen on numbers: one row of the input is changed, and one row of the output with it."""
    nodes, shape = _KEPT[case]
    more = {"vectors": [-1, 2, 2], "flat2": [-1, 2], "far": [2**31 - 1], "three": [3, 1, 4]}
    model = _model(nodes, **_CONSTANTS, **{name: np.array(values) for name, values in more.items()})
    axis = next(at for at, dim in enumerate(shape) if isinstance(dim, Rows))
    factor = next(dim.factor for dim in shape if isinstance(dim, Rows))
    feeds = {name: np.random.default_rng(0).normal(size=(5, _WIDTH)) for name in _SIDES}
    (before,) = in_float64(model, feeds)
    feeds["i"][3] += 1
    (after,) = in_float64(model, feeds)
    others = tuple(at for at in range(before.ndim) if at != axis)
    changed = np.flatnonzero((before != after).any(axis=others))
    assert set(changed) <= set(range(3 * factor, 4 * factor))
    assert len(changed)


def test_graph_is_cut_before_it_when_a_node_mixes_rows() -> None:
    weight = np.random.default_rng(0).normal(size=(_WIDTH, 8)).astype(np.float32)
    nodes = [
        _node("MatMul", "i w", "a"),
        _node("Relu", "a", "b"),
        _node("MatMul", "b v", "c"),
        _node("Softmax", "c", "d", axis=0),
        _node("Add", "d r", "y"),
    ]
    model = _model(nodes, w=weight, v=weight.T.copy())
    split = split_graph(model, _SIDES)
    assert split.plan.kept_whole == ("Softmax 'd': it mixes rows",)
    assert split.plan.work.candidate == 0
    assert [node.op_type for node in split.parts.candidate.graph.node] == ["Softmax", "Add"]
    rows = random_rows(model, _SIDES, 9, seed=0)
    assert np.allclose(rows.split(split), open_session(model).run(None, rows.gathered())[0], atol=1e-6)


def test_graph_is_refused_when_its_opset_is_too_old() -> None:
    with pytest.raises(EngineError, match="got 11; allowed: 13 or later"):
        split_graph(_model([_node("Relu", "i", "y")], opset=11), _SIDES)
