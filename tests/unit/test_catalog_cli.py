"""``rankine catalog``: items in as JSON, CSV and Parquet, out as JSON; errors that say what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import csv, parquet

from rankine.artifact import Draft
from rankine.catalog import Catalog, CatalogReader, CatalogWriter, catalog_beside
from rankine.cli import main
from unit.catalog_items import Values, deriver, external, preparer, state_at, values_of, write_first

FIRST = 40


def run(*arguments: str) -> int:
    """Exit status of ``rankine catalog ARGUMENTS`` in this process."""
    with pytest.raises(SystemExit) as ended:
        main(["catalog", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def first_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("first"), "int64")


@pytest.fixture
def model(tmp_path: Path, first_model: Path) -> str:
    """An artifact with a raw catalog beside it."""
    for name in ("model", "model.catalog"):
        shutil.copytree(first_model.with_name(name), tmp_path / name, symlinks=True)
    return str(tmp_path / "model")


def write_model(folder: Path, dtype: str) -> Path:
    draft = Draft("train", name="model")
    preparer(dtype).transforms.write(draft)
    draft.commit(folder / "model")
    rows = [{"sku": key, **values} for key, values in state_at(1, dtype).items()]
    for row in rows:
        row["sku"] = row["sku"].decode() if isinstance(row["sku"], bytes) else row["sku"]
    (folder / "first.json").write_text(json.dumps(rows), encoding="utf-8")
    assert run("build", str(folder / "model"), "--items", str(folder / "first.json")) == 0
    return folder / "model"


def write_rows(path: Path, items: dict[Any, Values]) -> Path:
    rows = [{"sku": key, **values} for key, values in items.items()]
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    elif path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist([{"color": "red", **row} for row in rows]), path)
    else:
        flat = [{**row, "tags": "|".join(row["tags"]), "size": "|".join(map(repr, row["size"]))} for row in rows]
        csv.write_csv(pyarrow.Table.from_pylist(flat), path)
    return path


def got(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_items_are_what_the_file_says_when_upserted(
    suffix: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = {number: values_of(number, 2) for number in (3, 77)}
    capsys.readouterr()
    assert run("upsert", model, "--items", str(write_rows(tmp_path / f"new{suffix}", items)), "--json") == 0
    assert got(capsys) == {"catalog": f"{model}.catalog", "generation": 2, "changed": 2}
    assert run("get", model, "77", "3", "5", "--json") == 0
    found = got(capsys)
    assert found["generation"] == 2
    expected = {77: items[77], 3: items[3], 5: values_of(5, 1)}
    assert found["items"] == [{"id": str(key), "features": values} for key, values in expected.items()]


def test_whole_life_of_a_catalog_when_its_ids_are_strings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_model(tmp_path, "string"))
    new = write_rows(tmp_path / "new.json", {"fresh": values_of(1, 2), "xx2": values_of(2, 2)})
    assert run("upsert", model, "--items", str(new)) == 0
    assert "2 items upserted" in capsys.readouterr().out
    assert run("delete", model, "fresh", "0") == 0
    assert "2 items deleted" in capsys.readouterr().out
    assert run("get", model, "--json") == 0
    before = got(capsys)
    assert (before["generation"], before["items"], before["snapshot_generation"]) == (3, FIRST - 1, 1)
    assert before["log_bytes"] > 0
    assert run("compact", model, "--json") == 0
    after = got(capsys)
    assert (after["generation"], after["items"], after["snapshot_generation"]) == (3, FIRST - 1, 3)
    assert after["log_bytes"] == 0
    assert run("get", model, "fresh") == 2
    assert "the catalog has no such item (got fresh)" in capsys.readouterr().err
    assert run("get", model, "xx2", "--json") == 0
    assert got(capsys)["items"][0]["features"] == values_of(2, 2)


def test_nothing_is_deleted_when_an_id_is_unknown(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("delete", model, "3", "5000") == 2
    assert "1 unknown, the first 5000" in capsys.readouterr().err
    assert len(Catalog.open(catalog_beside(model))) == FIRST
    (tmp_path / "gone.csv").write_text("name,sku\nx,3\ny,5000\n", encoding="utf-8")
    assert run("delete", model, "--items", str(tmp_path / "gone.csv"), "--missing-ok", "--json") == 0
    assert got(capsys) == {"catalog": f"{model}.catalog", "generation": 2, "changed": 1}
    assert run("delete", model, "5000", "--missing-ok", "--json") == 0
    assert got(capsys)["generation"] == 2  # nothing to do is no generation


def test_build_keeps_the_items_when_no_file_is_named(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("build", model, "--json") == 0
    status = got(capsys)
    assert (status["generation"], status["items"], status["log_bytes"]) == (2, FIRST, 0)
    assert status["features"] == {"brand": "plain", "tags": "ragged", "size": "plain"}


def test_get_tells_what_is_derived_when_no_id_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_first(tmp_path / "c.catalog", "int64", deriver("int8"))
    assert run("get", str(tmp_path / "c")) == 0
    printed = capsys.readouterr().out
    assert "small/0123456789abcdef/int8: 7 values an item" in printed
    assert "generation  1, snapshot of 1" in printed


def test_default_stands_in_when_a_feature_is_left_out(tmp_path: Path) -> None:
    made = preparer()
    schema = made.transforms.schema
    brand = schema.features[1].model_copy(update={"default": 2})
    changed = schema.model_copy(update={"features": (schema.features[0], brand, *schema.features[2:])})
    draft = Draft("train", name="model")
    type(made.transforms)(changed, made.transforms.vocabularies, made.transforms.normalization).write(draft)
    draft.commit(tmp_path / "model")
    (tmp_path / "first.json").write_text('{"sku": 1, "tags": ["tag-1"], "size": [1, 2, 3]}\n', encoding="utf-8")
    (tmp_path / "first.csv").write_text("sku,tags,size\n1,tag-1,1|2|3\n", encoding="utf-8")
    for name in ("first.json", "first.csv"):
        place = tmp_path / f"{name}.catalog"
        assert run("build", str(tmp_path / "model"), "--items", str(tmp_path / name), "--catalog", str(place)) == 0
        assert np.asarray(Catalog.open(place).columns["brand"]).tolist() == [2]


WRONG = {
    '[{"sku": 1, "tags": [], "size": [1, 2, 3], "brnd": 4}]': "row 1: 'brnd' is no item feature. Did you mean 'brand'?",
    '{"sku": 1, "tags": [], "size": [1, 2, 3]}': "row 1: has no 'brand'",
    '{"brand": 1, "tags": [], "size": [1, 2, 3]}': "has no 'sku', the id of the item",
    '{"sku": 1, "brand": 1, "tags": [], "size": [1, 2]}': "column 'size', row 1: has the wrong width (got 2",
    '{"sku": "a", "brand": 1, "tags": [], "size": [1, 2, 3]}': "column 'sku', row 1: is not an integer (got 'a'",
    '{"sku": 1, "brand": "a", "tags": [], "size": [1, 2, 3]}': "column 'brand', row 1: is not an integer (got 'a'",
    '{"sku": 1, "brand": 1, "tags": "x", "size": [1, 2, null]}': "column 'size', row 1: is missing or NaN",
    '{"sku": 1, "brand": 1, "tags": ["x", 2], "size": [1, 2, 3]}': "column 'tags': holds values of several types",
    "[1]": "row 1: an item must be an object (got int)",
    "[{]": "not readable as JSON",
    "": "there are no items",
}


@pytest.mark.parametrize("text", WRONG)
def test_error_names_row_and_column_when_items_do_not_fit(
    text: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    assert run("upsert", model, "--items", str(tmp_path / "bad.json")) == 2
    assert WRONG[text] in capsys.readouterr().err
    assert CatalogReader(catalog_beside(model)).view.generation == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("upsert", "MODEL", "--items", "nowhere.json"), "nowhere.json: no such file"),
        (("upsert", "MODEL", "--items", "items.xlsx"), "another kind (allowed: .parquet, .csv, .json"),
        (("upsert", "nowhere", "--items", "x.json"), "nowhere: not an artifact"),
        (("build", "MODEL", "--items", "x.json"), "something is already there"),
        (("build", "MODEL", "--catalog", "nowhere"), "nowhere: not an artifact"),
        (("delete", "MODEL"), "ids are given either one by one or in a file"),
        (("delete", "MODEL", "one"), "is no item id of this catalog (got one; allowed: int64)"),
        (("delete", "MODEL", str(2**63)), "is no item id of this catalog"),
        (("get", "nowhere"), "nowhere.catalog: not an artifact"),
        (("compact", "nowhere"), "nowhere.catalog: not an artifact"),
        (("update", "MODEL"), "no such command 'update'"),
    ],
)
def test_error_says_what_to_mend_when_a_verb_cannot_work(
    arguments: tuple[str, ...], said: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*(model if argument == "MODEL" else argument for argument in arguments)) == 2
    assert said in capsys.readouterr().err


def test_error_is_json_when_the_catalog_is_being_written(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    with CatalogWriter(catalog_beside(model)):
        assert run("delete", model, "3", "--json") == 2
        error = got(capsys)["error"]
        assert error["message"] == "the catalog is being written"
        assert error["allowed"] == "one writer at a time"
        assert run("get", model, "3") == 0  # reading goes on


def test_every_verb_has_an_example_when_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("build", "upsert", "delete", "get", "compact"):
        assert run(verb, "--help") == 0
        shown = capsys.readouterr().out
        assert "Example" in shown
        assert f"rankine catalog {verb}" in shown


def test_ids_are_texts_when_the_catalog_has_texts(tmp_path: Path) -> None:
    write_first(tmp_path / "c", "string")
    assert external([7], "string").tolist()[0] in CatalogReader(tmp_path / "c").view.item_ids.tolist()
