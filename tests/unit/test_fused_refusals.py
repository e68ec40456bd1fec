"""What the native engine cannot run is named: the node, its operator and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest

from rankine.compilation.fused import read_program
from rankine.compilation.fused.lower import lower, lower_graph, unsupported
from rankine.errors import EngineError
from rankine.models.graph_inputs import GraphInput, Piece
from rankine.models.variant import Model
from unit.fused_graphs import Weights, graph_of, proved, sizes
from unit.small_networks import ITEM, PRICE, network, schema_of


@dataclass(frozen=True)
class Refused:
    body: str
    says: str
    weights: Weights = field(default_factory=dict)


CASES = {
    "unknown operator": Refused("logits = Sin(x)", "Sin 'logits': the engine has no such operator"),
    "no rule": Refused("logits = Mystery(x)", "Mystery 'logits': nothing is known of this operator"),
    "rows mixed": Refused("logits = Softmax<axis = 0>(x)", "Softmax 'logits': it mixes rows"),
    "rows summed": Refused(
        "m = ReduceMean(x, zero) logits = Sub(x, m)", "ReduceMean 'm': it mixes rows", {"zero": sizes(0)}
    ),
    "rows as a number": Refused(
        "n = Size(x) f = Cast<to = 1>(n) logits = Mul(x, f)", "Mul 'logits': its input 'f' is no number of a row"
    ),
    "integers": Refused("n = Cast<to = 7>(x) logits = Cast<to = 1>(n)", "Cast 'n': it makes int64 of float32"),
    "lookup": Refused(
        "n = Cast<to = 7>(x) g = Gather(t, n) logits = Reshape(g, flat)", "Cast 'n'", {"t": (5,), "flat": sizes(-1, 6)}
    ),
    "tanh Gelu": Refused('logits = Gelu<approximate = "tanh">(x)', "Gelu 'logits': only the exact form is known"),
    "transposed Gemm": Refused(
        "logits = Gemm<transA = 1>(x, w)", "Gemm 'logits': it sums over the rows", {"w": (7, 2)}
    ),
    "reflecting Pad": Refused(
        'logits = Pad<mode = "reflect">(x, p)', "Pad 'logits': it repeats elements", {"p": sizes(0, 1, 0, 1)}
    ),
    "sum over one operand": Refused(
        'v = Reshape(x, s) logits = Einsum<equation = "bfd,be->be">(v, x)',
        "sums over one operand alone",
        {"s": sizes(-1, 2, 3)},
    ),
    "activations as s8": Refused(
        "q = QuantizeLinear(x, c, z) logits = DequantizeLinear(q, c, z)",
        "QuantizeLinear 'q': it does not round to uint8",
        {"c": np.float32(0.1), "z": np.int8(0)},
    ),
    "activations by column": Refused(
        "q = QuantizeLinear<axis = 1>(x, c, z) logits = DequantizeLinear<axis = 1>(q, c, z)",
        "QuantizeLinear 'q': its scales differ from column to column",
        {"c": np.full(6, 0.1, np.float32), "z": np.zeros(6, np.uint8)},
    ),
    "two reasons": Refused("a = Sin(x) b = Cos(x) logits = Add(a, b)", "Sin 'a'"),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_lowering_names_the_node_and_the_reason_when_it_refuses(case: Refused) -> None:
    with pytest.raises(EngineError) as refused:
        lower_graph(graph_of(case.body, {"x": 6}, case.weights))
    assert case.says in str(refused.value)


def test_lowering_tells_of_every_node_when_several_are_refused() -> None:
    model = graph_of("a = Sin(x) b = Cos(a) c = Cos(x) logits = Add(b, c)", {"x": 6})
    with pytest.raises(EngineError) as refused:
        lower_graph(model)
    assert "Sin 'a'" in str(refused.value)
    assert "Cos 'c'" in str(refused.value)
    assert "Cos 'b'" not in str(refused.value), "it may be the engine's: what it reads is not"
    assert [reason.split(":")[0] for reason in sorted(unsupported(model))] == ["Cos 'c'", "Sin 'a'"]


def test_nothing_is_unsupported_when_a_graph_can_be_lowered() -> None:
    assert unsupported(graph_of("logits = Relu(x)", {"x": 6})) == []
    assert "opset" in unsupported(graph_of("logits = Relu(x)", {"x": 6}, opset=12))[0]


def test_lowering_is_refused_when_there_are_several_outputs() -> None:
    model = graph_of("logits = Relu(x) other = Neg(x)", {"x": 6})
    model.graph.output.append(onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, None))
    with pytest.raises(EngineError, match="gives one output"):
        lower_graph(model)


def test_lowering_is_refused_when_rows_are_not_the_first_axis() -> None:
    model = graph_of("logits = Relu(x)", {"x": 6})
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    with pytest.raises(EngineError, match=r"x: the native engine cannot read this input .* allowed: float32 or uint8"):
        lower_graph(model)


def test_lowering_is_refused_when_a_node_does_not_fit_its_operator() -> None:
    model = graph_of("logits = Concat<axis = 1>(x, x)", {"x": 6})
    del model.graph.node[0].attribute[:]
    with pytest.raises(EngineError, match="Concat 'logits'"):
        lower_graph(model)


def test_lowering_minds_no_operator_when_no_row_runs_through_it() -> None:
    proved(graph_of("unread = Sin(x) logits = Relu(x)", {"x": 6}))


def test_lowering_is_refused_when_the_opset_is_too_old() -> None:
    with pytest.raises(EngineError, match="opset is too old"):
        lower_graph(graph_of("logits = Relu(x)", {"x": 6}, opset=12))


def test_lowering_is_refused_when_the_output_depends_on_no_input() -> None:
    body = "n = Shape(x) r = Gather(n, zero) d = Concat<axis = 0>(r, two) logits = Expand(c, d)"
    weights: Weights = {"zero": sizes(0), "two": sizes(2), "c": (1, 2)}
    with pytest.raises(EngineError, match="depends on no input"):
        lower_graph(graph_of(body, {"x": 6}, weights))


def test_lowering_is_refused_when_the_model_has_other_inputs(tmp_path: Path) -> None:
    own = network("dcn_v2")
    path = tmp_path / "graph.onnx"
    onnx.save(own.graph, path)
    with pytest.raises(EngineError, match="reads other inputs than the model says"):
        lower(Model("other", schema_of(ITEM, PRICE), path, own.tables))
    given = (GraphInput(name="cat", pieces=(Piece(column=0, width=4, item="0"),)),)
    with pytest.raises(EngineError, match="allowed: cat"):
        lower(Model("other", own.schema, path, own.tables, inputs=given))
    assert lower(Model("own", own.schema, path, own.tables)).tasks == 1


@pytest.mark.parametrize("contents", [b"", b"RKNPROG1", b"x" * 200])
def test_program_is_refused_when_it_is_none(contents: bytes) -> None:
    with pytest.raises(EngineError, match="is no program"):
        read_program(contents)


def test_program_is_refused_when_it_is_cut_off_or_of_another_version() -> None:
    contents = lower_graph(graph_of("logits = Relu(x)", {"x": 6})).to_bytes()
    with pytest.raises(EngineError, match="cut off"):
        read_program(contents[:-1])
    with pytest.raises(EngineError, match="another version"):
        read_program(contents[:8] + b"\2" + contents[9:])
