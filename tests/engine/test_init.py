"""A newcomer's way: a draft of the schema, unedited, then the model brought in and looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
import yaml
from pyarrow import parquet

from engine.foreign_models import EXAMPLES, flat, write_rows
from engine.test_load import save_onnx, save_program
from rankine.cli import main
from rankine.config import load_yaml
from rankine.models.exporter import quiet_exporter
from rankine.models.schema import Schema
from rankine.training.facts import read_table
from rankine.training.roles import guess_roles, guess_side

NAMED = [name for name in EXAMPLES if name != "bag_weights"]  # its weights have a default: the draft leaves them out
MODULE = "engine.foreign_models"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.parquet", rows=500)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must succeed; returns what it printed."""

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert ended.value.code == 0, captured.err
        return captured.out

    return run


@pytest.mark.parametrize("name", NAMED)
def test_draft_brings_the_model_in_when_it_is_not_edited(
    name: str, rows: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    schema, out = tmp_path / "schema.yaml", tmp_path / "model"
    run("init", f"{MODULE}:{name}", "--data", rows, "--out", schema)
    drafted = load_yaml(Schema, schema)
    wanted = EXAMPLES[name].schema
    assert {f.name: (f.kind, f.side) for f in drafted.features} == {f.name: (f.kind, f.side) for f in wanted.features}
    assert (drafted.item_id, drafted.group) == ("item_id", "user_id")
    printed = run("load", f"{MODULE}:{name}", "--schema", schema, "--data", rows, "--out", out, "--json")
    assert json.loads(printed)["proof"]["max_error"] <= 1e-5
    assert (tmp_path / "model.catalog").is_dir()


@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
@pytest.mark.parametrize("name", ["per_feature", "packed", "history"])
def test_draft_brings_a_file_in_when_it_is_not_edited(
    name: str, suffix: str, rows: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    module, path = EXAMPLES[name].build().eval(), tmp_path / f"model.{suffix}"
    (save_program if suffix == "pt2" else save_onnx)(EXAMPLES[name], module, path)
    schema = tmp_path / "schema.yaml"
    run("init", path, "--data", rows, "--out", schema)
    printed = run("load", path, "--schema", schema, "--data", rows, "--out", tmp_path / "model", "--json")
    origin = json.loads(printed)["origin"]
    assert (origin["kind"], origin["reference"]) == (suffix, path.name)


@pytest.fixture(scope="module")
def plain_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose price is one number, no list."""
    random = np.random.default_rng(0)
    user, item = random.integers(0, 40, 500), random.integers(0, 60, 500)
    price = random.random(60, np.float32)[item]
    columns = {"user": user, "item": item, "price": price, "click": random.integers(0, 2, 500)}
    path = tmp_path_factory.mktemp("plain") / "rows.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_draft_takes_numbers_as_vectors_when_a_column_would_broadcast(
    plain_rows: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    schema = tmp_path / "schema.yaml"
    run("init", f"{MODULE}:flat", "--data", plain_rows, "--out", schema)
    call = load_yaml(Schema, schema).call
    assert call is not None
    assert [argument.form for argument in call.arguments] == ["value", "value", "flat"]
    run("load", f"{MODULE}:flat", "--schema", schema, "--data", plain_rows, "--out", tmp_path / "model")


def test_draft_takes_numbers_as_vectors_when_the_graph_says_so(
    plain_rows: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    ids, path, schema = torch.zeros(3, dtype=torch.long), tmp_path / "model.onnx", tmp_path / "schema.yaml"
    rows = {0: torch.export.Dim("rows")}
    with quiet_exporter():
        torch.onnx.export(
            flat().eval(), (ids, ids.clone(), torch.zeros(3)), path, dynamic_shapes=(rows, rows, rows), verbose=False
        )
    run("init", path, "--data", plain_rows, "--out", schema)
    run("load", path, "--schema", schema, "--data", plain_rows, "--out", tmp_path / "drafted")
    schema.write_text(schema.read_text(encoding="utf-8").split("call:")[0], encoding="utf-8")
    run("load", path, "--schema", schema, "--data", plain_rows, "--out", tmp_path / "without_call")


def test_load_refuses_the_classes_of_a_softmax_when_they_are_taken_for_tasks(
    plain_rows: Path, run: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = tmp_path / "schema.yaml"
    run("init", f"{MODULE}:classes", "--data", plain_rows, "--out", schema)
    call = load_yaml(Schema, schema).call
    assert call is not None
    assert [(argument.name, argument.form) for argument in call.arguments] == [
        ("user", "value"), ("item", "value"), ("price", "flat"),
    ]  # fmt: skip
    document = yaml.safe_load(schema.read_text(encoding="utf-8"))
    document["tasks"] = [{"name": name, "label": "click"} for name in ("leaves", "likes")]
    schema.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "load",
                f"{MODULE}:classes",
                "--schema",
                str(schema),
                "--data",
                str(plain_rows),
                "--out",
                str(tmp_path / "m"),
            ]
        )
    assert ended.value.code == 2
    assert "classes of one softmax" in capsys.readouterr().err


def test_load_refuses_when_a_score_depends_on_the_other_rows(
    plain_rows: Path, run: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = tmp_path / "schema.yaml"
    run("init", f"{MODULE}:mixing", "--data", plain_rows, "--out", schema)
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "load",
                f"{MODULE}:mixing",
                "--schema",
                str(schema),
                "--data",
                str(plain_rows),
                "--out",
                str(tmp_path / "m"),
            ]
        )
    assert ended.value.code == 2
    assert "depends on the other rows" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_every_guess_has_a_reason_when_a_draft_is_printed(rows: Path, run: Callable[..., str]) -> None:
    text = run("init", f"{MODULE}:packed", "--data", rows)
    assert set(yaml.safe_load(text)) == {"schema_version", "item_id", "group", "tasks", "features", "call"}
    for reason in (
        "the item's external id: by its name",
        "side pair: differs between rows of the same user and of the same item",
        "identity: ids to 39 fit the 40 rows of 'second.0'",
        "normalization: none",
        "the order of the columns is a guess",
        "other columns that look like labels: buy",
    ):
        assert reason in text


def test_roles_and_sides_are_guessed_when_names_and_counts_tell_them(rows: Path) -> None:
    table = read_table(rows)
    roles = guess_roles(table)
    assert roles.item.column == "item_id"
    assert roles.group is not None
    assert roles.group.column == "user_id"
    assert roles.timestamp is None
    assert [role.column for role in roles.labels] == ["click", "buy"]
    sides = {name: guess_side(table.columns[name], table, roles)[0] for name in table.columns}
    assert {"user", "history"} <= {name for name, side in sides.items() if side == "request"}
    assert {"item", "price", "tags"} <= {name for name, side in sides.items() if side == "item"}
    assert sides["slot"] == "pair"


def test_artifact_shows_tables_costs_and_care_when_inspected(
    rows: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    schema, out = tmp_path / "schema.yaml", tmp_path / "model"
    schema.write_text(yaml.safe_dump(EXAMPLES["history"].document()), encoding="utf-8")
    run("load", f"{MODULE}:history", "--schema", schema, "--data", rows, "--out", out)
    (variant,) = json.loads(run("inspect", out, "--json"))["variants"]
    assert variant["tables"] == {"item": {"rows": 60, "dim": 4, "form": "float32", "size_bytes": 960}}
    assert variant["bytes_per_row"] == (6 + 1) * 4 * 4
    assert variant["macs_per_row"] >= 8
    assert "60 x 4 float32" in run("inspect", out)


def test_graph_shows_inputs_tables_and_care_when_a_file_is_inspected(run: Callable[..., str], tmp_path: Path) -> None:
    path = save_onnx(EXAMPLES["per_feature"], EXAMPLES["per_feature"].build().eval(), tmp_path / "model.onnx")
    view = json.loads(run("inspect", path, "--json"))
    assert list(view["inputs"]) == ["user", "item", "price"]
    assert sorted(table[:2] for table in view["tables"].values()) == [[40, 4], [60, 4]]
    assert view["macs_per_row"] == 10 * 8 + 8
    assert view["risky_operators"] == []
    assert "no operator" in run("inspect", path)


def test_draft_is_not_written_when_something_is_there(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "schema.yaml").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["init", f"{MODULE}:per_feature", "--data", str(rows), "--out", str(tmp_path / "schema.yaml")])
    assert ended.value.code == 2
    assert "already there" in capsys.readouterr().err
    assert (tmp_path / "schema.yaml").read_text() == "mine"
