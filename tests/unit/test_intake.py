"""The parts of the intake, each alone: references, links, sigmoids, costs and risks of graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from rankine.events import Event, Note
from rankine.models.call import Argument, Call
from rankine.models.intake.calling import task_columns
from rankine.models.intake.embedding_bag import keep_embedding_bags
from rankine.models.intake.links import settle_links
from rankine.models.intake.program import runnable
from rankine.models.intake.prove import prove, without_final_sigmoids
from rankine.models.intake.reference import is_reference, resolve
from rankine.models.intake.refusal import ModelError
from rankine.models.intake.risks import risky_operators
from rankine.models.intake.scorer import take_off_sigmoids
from rankine.models.intake.trace import check_runs
from rankine.models.macs import count_graph_macs
from rankine.models.random_rows import random_batch
from rankine.models.schema import CategoricalFeature, Identity, MultiHotFeature, Schema, SequenceFeature, Task

ROWS = 5


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with a module of the user's, under a name that no other test imports."""
    import sys

    monkeypatch.chdir(tmp_path)
    (tmp_path / "users_model.py").write_text(
        "from torch import nn\n"
        "ready = nn.Linear(2, 1)\n"
        "number = 3\n"
        "def build():\n    return nn.Linear(3, 1)\n"
        "def weights():\n    return ready.state_dict()\n"
        "def fails():\n    return nn.Linear(3, 1)(4)\n"
    )
    (tmp_path / "users_broken.py").write_text("import no_such_package\n")
    yield tmp_path
    for name in ("users_model", "users_broken"):
        sys.modules.pop(name, None)


def test_function_is_called_when_a_reference_names_it(here: Path) -> None:
    module = resolve("users_model:build")
    assert isinstance(module, nn.Linear)
    assert module.in_features == 3
    assert isinstance(resolve("users_model:ready"), nn.Linear)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("users_modle:build", "no such module .got users_modle.*Did you mean 'users_model'"),
        ("users_model:bulid", "has no 'bulid'. Did you mean 'build'"),
        ("users_model:weights", "does not return a module .got OrderedDict; allowed: nn.Module"),
        ("users_model:number", "neither a function nor an nn.Module .got int"),
        ("users_model:fails", "users_model.py:9: return nn.Linear.*: users_model:fails failed"),
        ("users_broken:build", "'no_such_package' is missing"),
        ("users model", "is no reference to a model"),
    ],
)
def test_reference_is_refused_when_it_leads_to_no_module(reference: str, message: str, here: Path) -> None:
    with pytest.raises(ModelError, match=message):
        resolve(reference)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a:b", True), ("a.b:c.d", True), ("model.onnx", False), ("C:\\model.onnx", False), ("a:", False)],
)
def test_text_is_a_reference_when_module_and_function_are_names(text: str, expected: bool) -> None:
    assert is_reference(text) is expected


def schema_of(*tasks: Task) -> Schema:
    feature = CategoricalFeature(name="x", side="item", encoding=Identity(size=9))
    return Schema(features=(feature,), item_id="item", tasks=tasks or (Task(),))


@pytest.mark.parametrize(
    ("task", "found", "expected"),
    [
        (Task(), "sigmoid", "sigmoid"),
        (Task(), "identity", "identity"),
        (Task(link="sigmoid"), "sigmoid", "sigmoid"),
        (Task(link="sigmoid"), "identity", "sigmoid"),
        (Task(link="identity"), "identity", "identity"),
    ],
)
def test_link_is_what_was_found_when_the_schema_says_nothing_else(task: Task, found: str, expected: str) -> None:
    assert settle_links(schema_of(task), [found], lambda event: None).tasks[0].link == expected


def test_logit_is_asked_about_when_a_task_ends_in_no_sigmoid() -> None:
    events: list[Event] = []
    settle_links(schema_of(), ["identity"], events.append)
    assert [type(event) for event in events] == [Note]


def test_link_is_refused_when_it_contradicts_the_model() -> None:
    with pytest.raises(ModelError, match="Write 'link: sigmoid'"):
        settle_links(schema_of(Task(link="identity")), ["sigmoid"], lambda event: None)
    with pytest.raises(ModelError, match="got 2 outputs"):
        settle_links(schema_of(), ["sigmoid", "sigmoid"], lambda event: None)


class Ends(nn.Module):
    """Ends in one of many ways."""

    def __init__(self, end: Any) -> None:
        super().__init__()
        self.end = end

    def forward(self, x: Tensor) -> Any:
        return self.end(x)


def exported(end: Any) -> Any:
    rows = torch.export.Dim("rows", min=1, max=999)
    return torch.export.export(Ends(end), (torch.ones(ROWS, 2),), dynamic_shapes={"x": {0: rows}})


@pytest.mark.parametrize(
    ("end", "bare", "count"),
    [
        (torch.sigmoid, lambda x: x, 1),
        (lambda x: torch.sigmoid(x.sum(1)), lambda x: x.sum(1), 1),
        (lambda x: torch.sigmoid(x.sum(1, keepdim=True)).squeeze(-1), lambda x: x.sum(1), 1),
        (lambda x: torch.sigmoid(x).reshape(-1, 2).float().unsqueeze(0).squeeze(0), lambda x: x, 1),
        (lambda x: torch.cat([torch.sigmoid(x[:, :1]), x[:, 1:]], dim=1), lambda x: x, 1),
        (lambda x: torch.stack([torch.sigmoid(x[:, 0]), x[:, 1].sigmoid()], dim=1), lambda x: x, 2),
        (lambda x: torch.sigmoid(x) * 2, lambda x: torch.sigmoid(x) * 2, 0),
        (lambda x: x, lambda x: x, 0),
    ],
)
def test_sigmoids_are_taken_off_when_nothing_but_shapes_follows(end: Any, bare: Any, count: int) -> None:
    module = runnable(exported(end))
    x = torch.randn(7, 2)
    assert take_off_sigmoids(module) == count  # type: ignore[arg-type]
    torch.testing.assert_close(module(x), bare(x), rtol=0, atol=0)


def test_outputs_are_one_matrix_when_they_come_as_a_dictionary() -> None:
    found = task_columns({"b": torch.ones(3), "a": torch.zeros(3, 1)}, ("a", "b"), 3)
    assert found.tolist() == [[0, 1]] * 3
    with pytest.raises(ModelError, match="something else than a number a row"):
        task_columns(torch.ones(4), ("a",), 3)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 0])
def test_bag_of_a_matrix_becomes_a_reduction_when_it_has_no_offsets(mode: str, padding: int | None) -> None:
    bag = nn.EmbeddingBag(9, 3, mode=mode, padding_idx=padding)
    nn.init.normal_(bag.weight)  # the padding's row is not zero: it must be left out, not added
    rows = torch.export.Dim("rows", min=1, max=999)
    program = torch.export.export(bag, (torch.ones(ROWS, 4, dtype=torch.long),), dynamic_shapes={"input": {0: rows}})
    assert keep_embedding_bags(program) == 1
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    if mode == "max" and padding is not None:
        assert "rankine.embedding_bag.default" in targets
        return
    assert not any("embedding_bag" in target for target in targets)
    ids = torch.tensor([[1, 2, 0, 0], [0, 0, 0, 0], [8, 8, 3, 4]])
    torch.testing.assert_close(program.module(check_guards=False)(ids), bag(ids))


def graph(nodes: list[onnx.NodeProto], constants: dict[str, Any], inputs: dict[str, list[Any]]) -> onnx.ModelProto:
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    made = helper.make_graph(nodes, "graph", given, [output], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_macs_count_weights_and_products_of_activations_when_shapes_are_known() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=1),
        helper.make_node("Reshape", ["h", "shape"], ["fields"]),
        helper.make_node("Transpose", ["fields"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["fields", "turned"], ["y"]),
    ]
    constants = {"w": np.ones((12, 7), np.float32), "b": np.ones(12, np.float32), "shape": np.array([-1, 3, 4])}
    assert count_graph_macs(graph(nodes, constants, {"x": ["rows", 7]})) == 7 * 12 + 3 * 3 * 4


def test_operators_are_named_when_they_need_care() -> None:
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"], axis=0),
        helper.make_node("NonZero", ["s"], ["n"]),
        helper.make_node("ReduceSum", ["s", "rows"], ["r"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=-1),
    ]
    found = risky_operators(graph(nodes, {"rows": np.array([0])}, {"x": ["rows", 7]}))
    assert {risk.operator: risk.count for risk in found} == {"Softmax": 1, "NonZero": 1, "ReduceSum": 1}
    plain = graph([helper.make_node("Relu", ["x"], ["y"])], {}, {"x": ["rows", 7]})
    assert risky_operators(plain) == ()


def test_final_sigmoid_stays_when_something_else_reads_it() -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Squeeze", ["s", "one"], ["y"])]
    constants = {"one": np.array([1])}
    alone = without_final_sigmoids(graph(nodes, constants, {"x": ["rows", 1]}))
    assert [node.op_type for node in alone.graph.node] == ["Identity", "Squeeze"]
    read = graph([*nodes, helper.make_node("Neg", ["s"], ["other"])], constants, {"x": ["rows", 1]})
    assert [node.op_type for node in without_final_sigmoids(read).graph.node] == ["Sigmoid", "Squeeze", "Neg"]


def test_random_rows_hold_the_largest_ids_and_no_padding_when_drawn() -> None:
    schema = Schema(
        features=(
            CategoricalFeature(name="x", side="item", encoding=Identity(size=9)),
            MultiHotFeature(name="tags", side="item", encoding=Identity(size=4), weights="w", pooling="sum"),
            SequenceFeature(name="past", side="request", encoding=Identity(size=5), max_length=3),
        ),
        item_id="item",
        call=Call(
            arguments=(
                Argument(name="x", feature="x"),
                Argument(name="values", form="values", feature="tags"),
                Argument(name="past", form="padded", feature="past", pad=0),
            )
        ),
    )
    batch: Any = random_batch(schema, {"x": 9, "tags": 4, "past": 5}, 200)
    assert (batch.item["x"].max(), batch.item["x"].min()) == (8, 0)
    assert set(batch.item["tags"].values) == {0, 1, 2, 3}
    assert (batch.item["tags"].weights > 0).all()
    assert set(batch.request["past"].values) == {1, 2, 3, 4}
    assert set(np.diff(batch.request["past"].offsets)) == {0, 1, 2, 3}


def test_worst_row_is_shown_when_a_proof_fails() -> None:
    schema = schema_of()
    batch: Any = random_batch(schema, {"x": 9}, 50)

    def same(rows: Any) -> Any:
        return rows.item["x"][rows.item_index][:, None].astype(np.float32)

    def other(rows: Any) -> Any:
        return same(rows) + (same(rows) == 3) * np.float32(0.5)

    assert prove(same, same, [("real", batch)]).rows == {"real": 50}
    with pytest.raises(ModelError, match=r"row \d+: x=3: .*logits differ by 0\.1.* on real rows"):
        prove(same, other, [("real", batch)])


def test_proof_fails_when_a_score_depends_on_the_other_rows() -> None:
    batch: Any = random_batch(schema_of(), {"x": 9}, 50)

    def mixed(rows: Any) -> Any:
        ids = rows.item["x"][rows.item_index][:, None].astype(np.float32)
        return ids - ids.mean()

    with pytest.raises(ModelError, match=r"depends on the other rows .* where half of the rows are scored"):
        prove(mixed, mixed, [("random", batch)])


def test_model_is_refused_when_it_is_random_in_evaluation() -> None:
    schema = schema_of().model_copy(update={"call": Call(arguments=(Argument(name="x", feature="x"),))})

    def noisy(ids: Tensor) -> Tensor:
        return torch.nn.functional.dropout(ids.float() + 1, 0.5)

    torch.manual_seed(0)
    with pytest.raises(ModelError, match=r"run again on the same rows .*training=self\.training"):
        check_runs(noisy, schema, {"x": 9})


@pytest.mark.parametrize(("operator", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_macs_count_every_step_when_a_layer_is_recurrent(operator: str, gates: int) -> None:
    steps, width, hidden = 7, 4, 5
    weights = {
        "W": np.ones((1, gates * hidden, width), np.float32),
        "R": np.ones((1, gates * hidden, hidden), np.float32),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["by_step"], perm=[1, 0, 2]),
        helper.make_node(operator, ["by_step", "W", "R"], ["y"], hidden_size=hidden),
    ]
    assert count_graph_macs(graph(nodes, weights, {"x": ["rows", steps, width]})) == steps * gates * hidden * (
        width + hidden
    )
