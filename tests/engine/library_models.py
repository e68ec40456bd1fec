"""Models of a library that nobody here wrote, with rows for them: what the scripts of ``benchmarks/`` make."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from engine.networks import Loaded
from rankine.config import parse
from rankine.data import Dataset, load_dataset
from rankine.models.schema import Schema
from rankine.training.load import load

ROWS = 2000
SIZES = {"user": 40, "gender": 3, "age": 8, "occupation": 22, "zip": 30, "movie": 60, "year": 12, "genres": 10}


@dataclass(frozen=True)
class Library:
    """The scripts of ``benchmarks/`` that prepare, make and compare the library's models."""

    models: ModuleType
    movielens: ModuleType
    zoo: ModuleType
    page: ModuleType


def import_library() -> Library:
    """Import them; ``benchmarks/`` has to be on the path."""
    names = ("foreign_models", "foreign_movielens", "foreign_zoo", "render_foreign_models")
    return Library(*map(importlib.import_module, names))


def prepared_rows(library: Library) -> Any:
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


def load_library_model(name: str, library: Library, prepared: Any, folder: Path) -> Loaded:
    """Bring in a model with weights as of a trained one; its rows and its artifact are written into ``folder``."""
    foreign = library.zoo.ZOO[name]
    model = as_trained(foreign.build(prepared.fields))
    dataset = rows_of(library, foreign, model, prepared, folder)
    return Loaded(model, load(model, dataset.schema, dataset, out=folder / "loaded", name=name), dataset)


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
