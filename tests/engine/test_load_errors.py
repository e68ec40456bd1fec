"""Models and schemas that cannot be brought in: each a clear error with the next step."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from engine.foreign_models import EXAMPLES, branching, inverse, write_rows
from engine.test_load import save_onnx, save_program
from rankine.config import parse
from rankine.data import load_dataset
from rankine.errors import ArtifactError, DataError, RankineError
from rankine.models.exporter import quiet_exporter
from rankine.models.intake.refusal import ModelError
from rankine.models.rewrite import RewriteError
from rankine.models.schema import Schema
from rankine.training.load import load

Document = dict[str, Any]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.parquet", rows=400)


@pytest.fixture
def attempt(rows: Path, tmp_path: Path) -> Callable[[Document, Any], RankineError]:
    """The error of a model with a schema; it says what to do next."""

    def attempt(document: Document, model: Any) -> RankineError:
        out = tmp_path / "out"
        with pytest.raises(RankineError) as caught:
            bring(document, model, rows, out)
        assert not out.exists()
        assert caught.value.exit_status == 2
        assert caught.value.hint or caught.value.allowed
        return caught.value

    return attempt


def bring(document: Document, model: Any, rows: Path, out: Path) -> None:
    schema = parse(Schema, document, source="schema.yaml")
    load(model, schema, load_dataset(rows, schema=schema), out=out, name="bad")


def changed(name: str, change: Callable[[Document], object]) -> Document:
    """An example's schema with a mistake in it."""
    document = copy.deepcopy(EXAMPLES[name].document())
    change(document)
    return document


def feature(document: Document, name: str) -> Document:
    return next(found for found in document["features"] if found["name"] == name)


@dataclass(frozen=True)
class Mistake:
    """A schema that does not fit its model."""

    example: str
    change: Callable[[Document], object]
    kind: type[RankineError]
    message: str


MISTAKES = {
    "size_over_the_table": Mistake(
        "per_feature",
        lambda d: feature(d, "item").update(encoding={"type": "identity", "size": 61}),
        ModelError,
        r"no row for the largest id of feature 'item' \(got size 61",
    ),
    "size_under_the_ids": Mistake(
        "per_feature",
        lambda d: feature(d, "item").update(encoding={"type": "identity", "size": 10}),
        DataError,
        r"item: id out of range .*allowed: 0\.\.9",
    ),
    "wrong_side": Mistake(
        "packed", lambda d: feature(d, "slot").update(side="item"), DataError, r"slot.*not the same in all rows"
    ),
    "missing_column": Mistake(
        "per_feature",
        lambda d: (feature(d, "user").update(name="usr"), d["call"]["arguments"][0].update(feature="usr")),
        DataError,
        "no column 'usr'.*Did you mean 'user'",
    ),
    "other_order": Mistake(
        "per_feature", lambda d: d["call"]["arguments"].reverse(), ModelError, r"foreign_models.py:\d+: .*fails on rows"
    ),
    "form_of_another_kind": Mistake(
        "per_feature",
        lambda d: d["call"]["arguments"][0].update(form="padded"),
        RankineError,
        "kind categorical has no form 'padded'",
    ),
    "no_call_for_a_list": Mistake(
        "bag_sum", lambda d: d.pop("call"), ModelError, "must say how the model takes 'tags'.*rankine init"
    ),
    "other_pooling": Mistake(
        "bag_sum", lambda d: feature(d, "tags").update(pooling="mean"), RewriteError, "Write 'pooling: sum'"
    ),
    "contradicting_link": Mistake(
        "per_feature",
        lambda d: d.update(tasks=[{"name": "click", "label": "click", "link": "identity"}]),
        ModelError,
        "ends in a sigmoid.*Write 'link: sigmoid'",
    ),
    "too_many_tasks": Mistake(
        "per_feature",
        lambda d: d["tasks"].append({"name": "buy", "label": "buy"}),
        ModelError,
        "outputs are not the schema's tasks .*got 1 numbers a row",
    ),
    "other_task_names": Mistake(
        "tasks",
        lambda d: d["tasks"][1].update(name="purchase"),
        ModelError,
        "names of the model's outputs.*got buy, click",
    ),
    "padding_in_the_lists": Mistake(
        "history",
        lambda d: d["call"]["arguments"][0].update(pad=7),
        DataError,
        "history: a list holds the id that the model takes for padding .got 7",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_schema_is_refused_when_it_does_not_fit_the_model(
    mistake: Mistake, attempt: Callable[[Document, Any], RankineError]
) -> None:
    error = attempt(changed(mistake.example, mistake.change), EXAMPLES[mistake.example].build())
    assert isinstance(error, mistake.kind)
    assert_says(error, mistake.message)


class _Squeezing(nn.Module):
    """Drops the dimension of the rows where there is one of them."""

    def forward(self, user: torch.Tensor, item: torch.Tensor, price: torch.Tensor) -> torch.Tensor:
        return torch.cat([price.squeeze(), price], dim=1).sum(dim=1)


def test_line_is_named_when_a_module_fails_on_a_single_row(attempt: Callable[[Document, Any], RankineError]) -> None:
    error = attempt(EXAMPLES["per_feature"].document(), _Squeezing())
    assert_says(error, r"test_load_errors.py:\d+: .*the model fails on a single row.*squeeze\(\)")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (branching, r"foreign_models.py:\d+: if price.sum\(\) > 0: the code decides by the values.*torch.where"),
        (inverse, r"operator '\S+i0e' has no form in ONNX.*Replace it"),
    ],
)
def test_operator_is_named_when_a_module_cannot_be_exported(
    build: Callable[[], nn.Module], message: str, attempt: Callable[[Document, Any], RankineError]
) -> None:
    error = attempt(EXAMPLES["per_feature"].document(), build())
    assert_says(error, message)
    assert error.__cause__ is not None  # all that PyTorch says stays readable


def test_rows_are_named_when_a_program_fixes_them(
    attempt: Callable[[Document, Any], RankineError], tmp_path: Path
) -> None:
    example = EXAMPLES["per_feature"]
    given = (torch.zeros(5, dtype=torch.long), torch.zeros(5, dtype=torch.long), torch.zeros(5, 2))
    with quiet_exporter():
        torch.export.save(torch.export.export(example.build().eval(), given), tmp_path / "fixed.pt2")
    error = attempt(example.document(), tmp_path / "fixed.pt2")
    assert_says(error, r"argument 'user': the program fixes the number of rows .got \[5\].*dynamic_shapes")


def test_training_mode_is_named_when_a_program_was_exported_in_it(
    attempt: Callable[[Document, Any], RankineError], tmp_path: Path
) -> None:
    example = EXAMPLES["normed"]
    path = save_program(example, example.build().train(), tmp_path / "train.pt2")
    assert_says(attempt(example.document(), path), r"exported in training mode.*model.eval\(\)")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["call"]["arguments"][0].update(dtype="int32"), "Write 'dtype: int64' for this argument"),
        (lambda d: feature(d, "price").update(width=1), "price.*width"),
        (lambda d: d["call"].update(style="keyword"), "takes other arguments.*3 positional"),
    ],
)
def test_argument_is_named_when_a_program_takes_another(
    change: Callable[[Document], object],
    message: str,
    attempt: Callable[[Document, Any], RankineError],
    tmp_path: Path,
) -> None:
    path = save_program(EXAMPLES["per_feature"], EXAMPLES["per_feature"].build().eval(), tmp_path / "model.pt2")
    assert_says(attempt(changed("per_feature", change), path), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["call"]["arguments"][0].update(dtype="int32"), "Write 'dtype: int64' for this argument"),
        (lambda d: d["call"]["arguments"][0].update(name="usr"), "other inputs.*got usr; allowed: user, item, price"),
        (lambda d: feature(d, "item").update(encoding={"type": "identity", "size": 61}), "61"),
    ],
)
def test_input_is_named_when_a_graph_takes_another(
    change: Callable[[Document], object],
    message: str,
    attempt: Callable[[Document, Any], RankineError],
    tmp_path: Path,
) -> None:
    path = save_onnx(EXAMPLES["per_feature"], EXAMPLES["per_feature"].build().eval(), tmp_path / "model.onnx")
    assert_says(attempt(changed("per_feature", change), path), message)


def test_graph_is_refused_when_its_weights_lie_elsewhere(
    attempt: Callable[[Document, Any], RankineError], tmp_path: Path
) -> None:
    path = save_onnx(EXAMPLES["per_feature"], EXAMPLES["per_feature"].build().eval(), tmp_path / "model.onnx")
    outside = tmp_path / "outside.onnx"
    options = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 0}
    onnx.save(onnx.load(str(path)), str(outside), **options)
    (tmp_path / "weights.data").unlink()
    error = attempt(EXAMPLES["per_feature"].document(), outside)
    assert_says(error, "weights cannot be read.*in the folder of the .onnx file")


def test_graph_is_brought_in_when_its_weights_lie_beside_it(rows: Path, tmp_path: Path) -> None:
    example = EXAMPLES["per_feature"]
    path = save_onnx(example, example.build().eval(), tmp_path / "model.onnx")
    outside = tmp_path / "outside.onnx"
    options = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 0}
    onnx.save(onnx.load(str(path)), str(outside), **options)
    dataset = load_dataset(rows, schema=example.schema)
    assert load(outside, example.schema, dataset, out=tmp_path / "out", name="outside").name == "outside"


def test_rows_become_dynamic_when_a_graph_fixes_them_at_its_inputs_only(rows: Path, tmp_path: Path) -> None:
    example = EXAMPLES["per_feature"]
    model = onnx.load(str(save_onnx(example, example.build().eval(), tmp_path / "model.onnx")))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 5
    onnx.save(model, str(tmp_path / "fixed.onnx"))
    dataset = load_dataset(rows, schema=example.schema)
    loaded = load(tmp_path / "fixed.onnx", example.schema, dataset, out=tmp_path / "out", name="fixed")
    assert loaded.name == "fixed"


@pytest.mark.parametrize("name", ["weights.pth", "model.h5", "no_such.onnx", "no_such.pt2"])
def test_file_is_refused_when_it_is_no_model(name: str, rows: Path, tmp_path: Path) -> None:
    path, schema = tmp_path / name, EXAMPLES["per_feature"].schema
    if not name.startswith("no_such"):
        path.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"is no model|no such file"):
        load(path, schema, load_dataset(rows, schema=schema), out=tmp_path / "out", name="bad")


@pytest.mark.parametrize("name", ["damaged.onnx", "damaged.pt2"])
def test_file_is_refused_when_it_is_damaged(
    name: str, attempt: Callable[[Document, Any], RankineError], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"no model at all")
    error = attempt(EXAMPLES["per_feature"].document(), tmp_path / name)
    assert_says(error, "is not a readable")


def test_nothing_is_read_when_something_lies_at_out(rows: Path, tmp_path: Path) -> None:
    example = EXAMPLES["per_feature"]
    with pytest.raises(ArtifactError, match="already there"):
        load("no_module:at_all", example.schema, load_dataset(rows, schema=example.schema), out=tmp_path, name="x")


def test_module_keeps_its_modes_when_it_is_refused(attempt: Callable[[Document, Any], RankineError]) -> None:
    module = branching()
    head = module.get_submodule("head").eval()
    attempt(EXAMPLES["per_feature"].document(), module)
    assert (module.training, head.training) == (True, False)


def assert_says(error: RankineError, pattern: str) -> None:
    assert re.search(pattern, str(error)), str(error)


def handmade(path: Path, opset: int, rows: int | None) -> Path:
    """A graph as older exporters write it: ``Squeeze`` with its axes as an attribute; ``rows`` may be fixed inside."""
    random = np.random.default_rng(0)
    weights = {
        "users": random.normal(size=(40, 4)).astype(np.float32),
        "items": random.normal(size=(60, 4)).astype(np.float32),
        "w": random.normal(size=(8, 1)).astype(np.float32),
        "shape": np.array([rows or -1, 8]),
    }
    nodes = [
        helper.make_node("Gather", ["users", "user"], ["u"]),
        helper.make_node("Gather", ["items", "item"], ["i"]),
        helper.make_node("Concat", ["u", "i"], ["joined"], axis=1),
        helper.make_node("Reshape", ["joined", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["h"]),
        helper.make_node("Sigmoid", ["h"], ["s"]),
        helper.make_node("Squeeze", ["s"], ["click"], axes=[1]),
    ]
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [rows or "n"]) for name in ("user", "item")]
    output = helper.make_tensor_value_info("click", onnx.TensorProto.FLOAT, [rows or "n"])
    constants = [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "old", inputs, [output], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6), str(path))
    return path


def without_price(document: Document) -> None:
    document["features"] = document["features"][:2]
    del document["call"]


def test_graph_of_an_old_opset_is_brought_in_when_it_can_be_converted(rows: Path, tmp_path: Path) -> None:
    bring(changed("per_feature", without_price), handmade(tmp_path / "old.onnx", 11, None), rows, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_graph_is_refused_when_it_fixes_the_number_of_rows_inside(
    attempt: Callable[[Document, Any], RankineError], tmp_path: Path
) -> None:
    error = attempt(changed("per_feature", without_price), handmade(tmp_path / "fixed.onnx", 11, 5))
    assert_says(error, r"Reshape 'flat' to \[5, 8\]: .*fix the number of rows inside.*dynamic batch dimension")
