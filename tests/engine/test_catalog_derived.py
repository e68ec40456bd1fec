"""What variants store of items: computed by the catalog's verbs, read by the server as it lies, and scored with."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.small_served import (
    ENGINE,
    ITEMS,
    SCHEMA,
    encoded_batch,
    items,
    rank_body,
    transforms,
    write_small_artifact,
    write_untrained,
)
from rankine.artifact import Artifact
from rankine.catalog import CatalogReader, CatalogWriter, Preparer, write_catalog
from rankine.catalog.derivers import derivers_of
from rankine.cli import main
from rankine.compilation.binding import Settings
from rankine.compilation.compile import compile_artifact, open_runner
from rankine.compilation.engine import Runner
from rankine.errors import BadRequest
from rankine.models.columns import Batch, Columns
from rankine.models.variant import BASELINE
from rankine.serving import ServeConfig
from rankine.serving.model import ServedModel, open_model, warn_of_memory
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import Work, join

pytestmark = pytest.mark.engine
STORAGES = ("float32", "float16", "int8")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The small model in parts, by how what is stored of items is stored."""
    folder = tmp_path_factory.mktemp("derived")
    first = write_small_artifact(folder / "float32")
    found = {"float32": first}
    for storage in STORAGES[1:]:
        settings = Settings.model_validate({"storage": storage})
        out, batch = folder / storage, encoded_batch(200, 1)
        found[storage] = compile_artifact(first, engines=[ENGINE], split=settings, verify_batch=batch, out=out)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A catalog with raw features alone."""
    write_catalog(tmp_path / "own.catalog", SCHEMA, np.asarray(items()["item"]), items())
    return tmp_path / "own.catalog"


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["catalog", *arguments])
    assert not ended.value.code


def upsert(artifact: Artifact, place: Path, rows: list[dict[str, Any]]) -> None:
    file = place.with_name("rows.json")
    file.write_text(json.dumps(rows), encoding="utf-8")
    run("upsert", str(artifact.path), "--catalog", str(place), "--items", str(file))


def served(artifact: Artifact, place: Path, **settings: Any) -> ServedModel:
    return open_model(ServeConfig(artifact=artifact.path, catalog=place, allow_uncertified=True, **settings))


def prepare(model: ServedModel, ids: list[int], **inline: list[Any]) -> Work:
    body: dict[str, Any] = rank_body(len(ids))
    body["candidates"]["ids"] = ids
    body["candidates"]["features"] |= inline
    protocol = RankProtocol(model, max_candidates=500)
    return protocol.prepare(json.dumps(body).encode(), arrived_s=0.0, deadline_s=9e9, announced=None).work


def logits(batch: Batch, runner: Runner) -> np.ndarray:
    out = np.full((batch.rows, 1), np.nan, np.float32)
    runner.run(batch, out)
    return out


def columns(model: ServedModel) -> Columns:
    assert model.items is not None
    return model.items.view.segments[0].columns


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_stored_is_what_the_runner_computes_when_the_catalog_was_built(
    storage: str, artifacts: dict[str, Artifact], place: Path
) -> None:
    artifact = artifacts[storage]
    computed = served(artifact, place)
    run("build", str(artifact.path), "--catalog", str(place))
    stored = served(artifact, place)
    assert list(columns(stored)) == list(columns(computed))
    names = [name for name in columns(stored) if name.startswith("rankine.")]
    assert len(names) == len(derivers_of(artifact)[0].widths) * (3 if storage == "int8" else 1)
    for name in names:
        found, wanted = columns(stored)[name], columns(computed)[name]
        assert isinstance(found, np.ndarray)
        assert isinstance(wanted, np.ndarray)
        assert found.dtype == wanted.dtype
        assert np.array_equal(found, wanted)
        assert isinstance(found.base, np.memmap)  # as it lies in the file
    batches = [join([prepare(model, [1001, 1003, 1250])], model.runner.complete) for model in (stored, computed)]
    assert np.array_equal(*(logits(batch, stored.runner) for batch in batches))


@pytest.mark.parametrize("storage", STORAGES)
def test_scores_are_the_whole_graphs_when_ids_and_inline_items_are_mixed(
    storage: str, artifacts: dict[str, Artifact], place: Path
) -> None:
    artifact = artifacts[storage]
    run("build", str(artifact.path), "--catalog", str(place))
    model = served(artifact, place, unknown_item="row")
    first = prepare(model, [1001, 1002])
    upsert(artifact, place, [{"item": number, "tags": ["tag-3"], "price": 12.5} for number in (7000, 1002)])
    assert model.catalog is not None
    assert model.catalog.refresh()
    works = [
        first,
        prepare(model, [7000, 1002, 1003]),
        prepare(model, [1005, 2], tags=[["tag-1"], []], price=[3.0, 80.0]),
        prepare(model, [1004, 5]),  # one that nobody knows
    ]
    batch = join(works, model.runner.complete)
    found = logits(batch, model.runner)
    expected = logits(batch, open_runner(artifact, BASELINE, ENGINE, split=False))
    allowed = {"float32": 1e-5, "float16": 2e-2, "int8": 0.3}[storage]
    assert np.abs(found - expected).max() <= allowed * max(1.0, float(np.abs(expected).max()))
    assert np.ptp(expected) > allowed


def test_upsert_computes_what_the_catalog_holds_and_nothing_else(artifacts: dict[str, Artifact], place: Path) -> None:
    artifact = artifacts["float32"]
    new = {"item": 7000, "tags": ["tag-3"], "price": 12.5}
    with CatalogWriter(place) as writer:
        preparer = Preparer(transforms(), derivers_of(artifact))
        assert preparer.only(writer.derived).derivers == ()
    upsert(artifact, place, [new])
    view = CatalogReader(place).view
    assert [sorted(segment.columns) for segment in view.segments] == [["item", "price", "tags"]] * 2
    run("build", str(artifact.path), "--catalog", str(place))
    upsert(artifact, place, [{**new, "item": 7001, "price": 80.0}])
    view = CatalogReader(place).view
    [key] = view.derived
    assert key.variant == BASELINE
    rows = view.rows_of(np.array([7000, 1001, 7001]))
    encoded = transforms().encode(SCHEMA.catalog_features, view.take(rows), unseen="row")
    computed = derivers_of(artifact)[0].compute(encoded)
    for name, table in view.take_derived(key, rows).items():
        assert np.allclose(table.dequantized(), computed[name], atol=1e-6)
        assert np.ptp(computed[name], axis=0).max() > 0
    assert view.generation == 4
    assert len(view) == ITEMS + 2


def test_get_shows_what_is_stored_when_it_is_asked_for(
    artifacts: dict[str, Artifact], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = artifacts["int8"]
    where = (str(artifact.path), "--catalog", str(place))
    run("build", *where)
    [deriver] = derivers_of(artifact)
    capsys.readouterr()
    run("get", *where, "--json")
    assert json.loads(capsys.readouterr().out)["derived"] == {str(deriver.key): sum(deriver.widths.values())}
    run("get", *where, "1001", "1002", "--derived", "--json")
    told = json.loads(capsys.readouterr().out)["items"]
    encoded = transforms().encode(SCHEMA.catalog_features, items(), unseen="row")
    computed = deriver.compute(encoded)
    for place_of, item in zip((1, 2), told, strict=True):
        shown = item["derived"][str(deriver.key)]
        assert {name: len(values) for name, values in shown.items()} == dict(deriver.widths)
        for name, values in shown.items():
            assert np.abs(np.array(values) - computed[name][place_of]).max() < 0.05


def test_derived_columns_are_of_another_key_when_the_tables_are_others(artifacts: dict[str, Artifact]) -> None:
    keys = {storage: derivers_of(artifact)[0].key for storage, artifact in artifacts.items()}
    assert len({key.graph for key in keys.values()}) == len(STORAGES)
    assert [key.storage for key in keys.values()] == list(STORAGES)
    again = Artifact.open(artifacts["float32"].path)
    assert derivers_of(again)[0].key == keys["float32"]


def test_server_computes_for_itself_when_the_catalog_was_built_for_another_artifact(
    artifacts: dict[str, Artifact], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    computed = columns(served(artifacts["float32"], place))
    run("build", str(artifacts["int8"].path), "--catalog", str(place))
    found = columns(served(artifacts["float32"], place))
    assert list(found) == list(computed)
    for name in (name for name in found if name.startswith("rankine.")):
        assert np.array_equal(np.asarray(found[name]), np.asarray(computed[name]))
    file = place.with_name("rows.json")
    file.write_text(json.dumps([{"item": 7000, "tags": [], "price": 1.0}]), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["catalog", "upsert", str(artifacts["float32"].path), "--catalog", str(place), "--items", str(file)])
    assert ended.value.code == 2
    assert "holds derived columns that these items lack" in capsys.readouterr().err


@pytest.mark.parametrize("storage", STORAGES)
def test_memory_is_told_with_the_command_when_the_catalog_does_not_hold_what_is_stored(
    storage: str, artifacts: dict[str, Artifact], place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = artifacts[storage]
    computed = served(artifact, place)
    warn_of_memory(computed)
    warn_of_memory(served(artifact, place, split=False))
    [record] = caplog.records
    told = record.__dict__["fields"]
    names = [name for name in columns(computed) if name.startswith("rankine.")]
    assert told["bytes"] == sum(np.asarray(columns(computed)[name]).nbytes for name in names)
    caplog.clear()
    run(*shlex.split(told["run"])[2:])
    warn_of_memory(served(artifact, place))
    assert not caplog.records


@pytest.mark.parametrize(
    ("side", "features"), [("item", "item|tags|price"), ("request", "user|country|city|recent|age")]
)
def test_feature_is_named_when_a_batch_has_no_columns_of_its_side(
    side: str, features: str, artifacts: dict[str, Artifact]
) -> None:
    runner = open_runner(artifacts["float32"], BASELINE, ENGINE)
    batch = replace(encoded_batch(5, 1), **{side: {}})
    with pytest.raises(BadRequest, match=rf"^({features}): the {side} columns lack this feature"):
        logits(batch, runner)


def test_extreme_item_is_served_when_halves_cannot_hold_it_and_refused_where_it_is_written(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = write_unbounded(tmp_path)
    model = served(artifact, place)
    assert model.catalog is not None
    upsert(artifact, place, [{"item": 7000, "tags": [], "price": 1e8}, {"item": 7001, "tags": [], "price": 3.0}])
    assert model.catalog.refresh()
    asked = [prepare(one, [1001, 7000, 7001]) for one in (model, served(artifact, place))]
    asked.append(prepare(model, [1, 2], tags=[["tag-1"], []], price=[1e8, 1.0]))
    for work in asked:
        batch = join([work], model.runner.complete)
        assert np.isfinite(logits(batch, model.runner)).all()
    with pytest.raises(SystemExit) as ended:
        main(["catalog", "build", str(artifact.path), "--catalog", str(place)])
    assert ended.value.code == 1
    assert "Store it as float32" in capsys.readouterr().err


def write_unbounded(folder: Path) -> Artifact:
    """The small model over prices as they are, in parts that store items in halves."""
    features = tuple(
        feature.model_copy(update={"normalization": "none"}) if feature.name == "price" else feature
        for feature in SCHEMA.features
    )
    fitted = replace(transforms(), schema=SCHEMA.model_copy(update={"features": features}))
    batch = encoded_batch(200, 1)
    first = write_untrained(folder / "first", "small", fitted, batch)
    settings = Settings(storage="float16")
    return compile_artifact(first, engines=[ENGINE], split=settings, verify_batch=batch, out=folder / "small")
