"""Models of a library that nobody here wrote, through the public intake, against their own predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from engine.library_models import Library, rows_of
from engine.networks import Loaded
from rankine.artifact import Artifact
from rankine.compilation.compile import compile_artifact, open_runner
from rankine.data.dataset import Dataset
from rankine.errors import UsageError
from rankine.models.intake.refusal import ModelError
from rankine.models.schema import Schema
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE
from rankine.training.load import load

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ENGINES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Brought:
    """A model, the artifact that it became, and what it predicts itself ``(rows, tasks)``."""

    artifact: Artifact
    dataset: Dataset
    own: np.ndarray


@pytest.fixture(scope="module", params=["DeepFM", "DIN", "ESMM"])
def brought(
    request: pytest.FixtureRequest,
    library: Library,
    library_model: Callable[[str], Loaded],
    prepared: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Brought:
    """Pooled lists and first-order weights; a history that shares its item's table; a product of two tasks."""
    found = library_model(request.param)
    rows = found.dataset.encode(Transforms.read(found.artifact)).select(slice(0, 300))
    out = tmp_path_factory.mktemp(request.param) / "built"
    built = compile_artifact(found.artifact, engines=ENGINES, verify_batch=rows, out=out)
    return Brought(built, found.dataset, library.models.own_scores(found.module, prepared.columns))


@pytest.mark.parametrize("rows", [1, 7, 512])
@pytest.mark.parametrize("engine", ENGINES)
def test_scores_are_its_own_when_a_foreign_model_is_loaded(brought: Brought, engine: str, rows: int) -> None:
    schema = brought.artifact.read_json("schema.json", Schema)
    batch = brought.dataset.encode(Transforms.read(brought.artifact)).select(slice(100, 100 + rows))
    out = np.empty((rows, len(schema.tasks)), np.float32)

    open_runner(brought.artifact, BASELINE, engine).run(batch, out)

    own = brought.own[100 : 100 + rows]
    sigmoid = [task.link == "sigmoid" for task in schema.tasks]
    scores = np.where(sigmoid, 1 / (1 + np.exp(-out.astype(np.float64))), out)
    assert np.abs(scores - own).max() <= 1e-6
    assert brought.own.std(axis=0).min() > 0.01  # else any model would do


def test_links_are_found_when_a_model_ends_in_probabilities(brought: Brought) -> None:
    links = [task.link for task in brought.artifact.read_json("schema.json", Schema).tasks]
    # The second score of ESMM is a product of two probabilities, so it has no logit.
    assert links == (["sigmoid", "identity"] if brought.artifact.manifest.name == "ESMM" else ["sigmoid"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DIEN", r"deepctr_torch/models/dien\.py:\d+: .*decides by the values of a tensor.*torch\.where"),
        ("DCNMix", r"deepctr_torch/models/dcnmix\.py:\d+: .*fails on a single row.*squeeze\(\)"),
    ],
)
def test_load_names_the_line_when_a_foreign_model_cannot_be_served(
    name: str, message: str, library: Library, prepared: Any, tmp_path: Path
) -> None:
    foreign = library.zoo.ZOO[name]
    model = foreign.build(prepared.fields).eval()
    dataset = rows_of(library, foreign, model, prepared, tmp_path)
    with pytest.raises(ModelError, match=message):
        load(model, dataset.schema, dataset, out=tmp_path / "loaded", name=name)


def test_page_is_current_when_results_are_committed(library: Library) -> None:
    committed = ROOT / "benchmarks" / "results" / "foreign-models.json"
    result = library.page.ForeignResult.model_validate_json(committed.read_bytes())
    assert library.page.PAGE.read_text(encoding="utf-8") == library.page.render(result)


def test_rows_are_taken_when_the_work_folder_has_the_same(library: Library, prepared: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    library.movielens.write_rows(prepared, path, prepared.held_out)
    written = path.stat().st_mtime_ns
    library.movielens.write_rows(prepared, path, prepared.held_out)
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize("what", ["rows", "ids"])
def test_rows_are_refused_when_the_work_folder_has_those_of_another_preparation(
    what: str, library: Library, prepared: Any, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    library.movielens.write_rows(prepared, path, prepared.held_out)
    written = path.read_bytes()
    if what == "rows":
        rows, other = prepared.held_out[:-1], prepared
    else:
        columns = prepared.columns | {"user": prepared.columns["user"][::-1]}
        rows, other = prepared.held_out, replace(prepared, columns=columns)
    with pytest.raises(UsageError, match=r"rows\.parquet: rows of another preparation.*work folder of its own"):
        library.movielens.write_rows(other, path, rows)
    assert path.read_bytes() == written
