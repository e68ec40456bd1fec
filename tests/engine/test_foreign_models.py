"""Models of a library that nobody here wrote, through the public intake, against their own predictions."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ROOT
from rankine.artifact import Artifact
from rankine.compilation.compile import compile_artifact, open_runner
from rankine.config import parse
from rankine.data import load_dataset
from rankine.data.dataset import Dataset
from rankine.models.intake.refusal import ModelError
from rankine.models.schema import Schema
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE
from rankine.training.load import load

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ENGINES = ("onnxruntime", "openvino")
ROWS = 2000
SIZES = {"user": 40, "gender": 3, "age": 8, "occupation": 22, "zip": 30, "movie": 60, "year": 12, "genres": 10}


@dataclass(frozen=True)
class Library:
    """The scripts of ``benchmarks/`` that prepare, make and compare the library's models."""

    models: ModuleType
    movielens: ModuleType
    zoo: ModuleType
    page: ModuleType


@pytest.fixture(scope="module")
def library() -> Iterator[Library]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        names = ("foreign_models", "foreign_movielens", "foreign_zoo", "render_foreign_models")
        yield Library(*map(importlib.import_module, names))


@pytest.fixture(scope="module")
def prepared(library: Library) -> Any:
    """Rows like those of MovieLens: features of users and movies are the same in all of their rows."""
    random = np.random.default_rng(0)
    user, movie = random.integers(1, SIZES["user"], ROWS), random.integers(1, SIZES["movie"], ROWS)
    of_user = {name: random.integers(0, SIZES[name], SIZES["user"]) for name in ("gender", "age", "occupation", "zip")}
    lengths, counts = random.integers(0, 6, SIZES["user"]), random.integers(0, 5, SIZES["movie"])
    histories = random.integers(1, SIZES["movie"], (SIZES["user"], 5)) * (np.arange(5) < lengths[:, None])
    genres = random.integers(1, SIZES["genres"], (SIZES["movie"], 4)) * (np.arange(4) < counts[:, None])
    columns = {"user": user, "movie": movie, **{name: values[user] for name, values in of_user.items()}}
    columns["year"] = random.integers(0, SIZES["year"], SIZES["movie"])[movie]
    columns["release"] = (columns["year"] / SIZES["year"]).astype(np.float32)
    columns |= {"genres": genres[movie], "hist_movie": histories[user], "hist_length": lengths[user]}
    rows = np.arange(ROWS)
    return library.movielens.Prepared(
        fields=library.zoo.Fields(SIZES, genres_length=4, history_length=5),
        columns=columns,
        user_id=user,
        movie_id=movie,
        labels=random.integers(0, 2, (ROWS, 2)).astype(np.float32),
        train=rows,
        held_out=rows,
    )


@dataclass(frozen=True)
class Brought:
    """A model, the artifact that it became, and what it predicts itself ``(rows, tasks)``."""

    artifact: Artifact
    dataset: Dataset
    own: np.ndarray


@pytest.fixture(scope="module", params=["DeepFM", "DIN", "ESMM"])
def brought(
    request: pytest.FixtureRequest, library: Library, prepared: Any, tmp_path_factory: pytest.TempPathFactory
) -> Brought:
    """Pooled lists and first-order weights; a history that shares its item's table; a product of two tasks."""
    folder = tmp_path_factory.mktemp(request.param)
    foreign = library.zoo.ZOO[request.param]
    model = as_trained(foreign.build(prepared.fields))
    dataset = rows_of(library, foreign, model, prepared, folder)
    loaded = load(model, dataset.schema, dataset, out=folder / "loaded", name=request.param)
    rows = dataset.encode(Transforms.read(loaded)).select(slice(0, 300))
    built = compile_artifact(loaded, engines=ENGINES, verify_batch=rows, out=folder / "built")
    return Brought(built, dataset, library.models.own_scores(model, prepared.columns))


def as_trained(model: Any) -> Any:
    """Weights and running statistics unlike those of a new model, whose scores are all about one half."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.5)
    return model.eval()


def rows_of(library: Library, foreign: Any, model: Any, prepared: Any, folder: Path) -> Dataset:
    schema = parse(Schema, library.models.schema_of(foreign, model, prepared))
    library.movielens.write_rows(prepared, folder / "rows.parquet", prepared.held_out)
    return load_dataset(folder / "rows.parquet", schema=schema)


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
