"""Models in the form that each engine takes, built once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from engine.foreign_models import write_rows
from engine.installed import installed_engine
from engine.library_models import Library, import_library, load_library_model, prepared_rows
from engine.networks import Given, Loaded, given_network, load_example
from engine.small_model import small_model
from engine.trained_model import train_small
from engine.zoo_model import zoo_artifact
from rankine.artifact import Artifact
from rankine.compilation.engine import Capabilities, Engine, Runner, Target
from rankine.compilation.engines import engine_names
from rankine.compilation.engines.reference import ReferenceRunner
from rankine.data import Dataset, load_dataset
from rankine.models.columns import Batch
from rankine.models.variant import BASELINE, Model, Numeric, load_model


@dataclass(frozen=True)
class Case:
    """One engine with one model built for it."""

    engine: Engine
    capabilities: Capabilities
    model: Model
    folder: Path
    reference: ReferenceRunner

    def open(self, threads: int = 1) -> Runner:
        return self.engine.open(self.model, self.folder, threads=threads)

    def expected(self, batch: Batch) -> np.ndarray:
        """Float64 logits ``(rows, tasks)``."""
        return self.reference.logits(batch)

    def check(self, out: np.ndarray, batch: Batch) -> None:
        """FP32: equality of scores. INT8: the sanity bound on scores, since a rounding may fall either way."""
        expected = self.expected(batch)
        if self.model.numeric == "fp32":
            assert (np.abs(out - expected) / np.maximum(1, np.abs(expected))).max() <= 1e-5
        else:
            scores, wanted = (1 / (1 + np.exp(-values)) for values in (out.astype(np.float64), expected))
            assert np.abs(scores - wanted).max() <= 0.05
            assert np.abs(scores - wanted).mean() <= 0.005


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An artifact of an untrained DCN-v2, with its checkpoint and an INT8 variant."""
    return zoo_artifact(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return load_dataset("synthetic", rows=20_000)


@pytest.fixture(scope="session")
def baseline(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Trained once for all files; what comes of it is written beside it, under names of their own."""
    return train_small(dataset, tmp_path_factory.mktemp("trained") / "baseline")


@pytest.fixture(scope="session")
def example_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of rows that the foreign models take."""
    return write_rows(tmp_path_factory.mktemp("data") / "rows.parquet")


@pytest.fixture(scope="session")
def loaded(example_rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Loaded]:
    """A foreign model of ``EXAMPLES``, brought in as a module once."""
    return cache(lambda name: load_example(name, example_rows, tmp_path_factory.mktemp("loaded")))


@pytest.fixture(scope="session")
def given(loaded: Callable[[str], Loaded]) -> Callable[[str], Given]:
    """A network of ``NAMES`` and rows for it, made once."""
    return cache(lambda name: given_network(name, loaded))


@pytest.fixture(scope="session")
def library() -> Iterator[Library]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield import_library()


@pytest.fixture(scope="session")
def prepared(library: Library) -> Any:
    return prepared_rows(library)


@pytest.fixture(scope="session")
def library_model(library: Library, prepared: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Loaded]:
    """A model of the library by its name there, brought in once."""
    return cache(lambda name: load_library_model(name, library, prepared, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session")
def build_case(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[[str, Numeric], Case]]:
    """Builds a case once; skips what the engine's capabilities exclude, and an engine that is not installed."""
    cases: dict[tuple[str, Numeric], Case] = {}

    def build(name: str, numeric: Numeric) -> Case:
        if (name, numeric) in cases:
            return cases[name, numeric]
        engine = installed_engine(name)
        capabilities = engine.capabilities()
        if numeric not in capabilities.numerics:
            pytest.skip(f"{name} does not run {numeric}")
        if capabilities.needs_checkpoint:
            artifact: Artifact = request.getfixturevalue("zoo")
            model = load_model(artifact, BASELINE)
        else:
            model = small_model(tmp_path_factory.mktemp("model"), numeric, history=True)
        folder = tmp_path_factory.mktemp(f"{name}-{numeric}")
        engine.build(model, Target(), folder)
        cases[name, numeric] = Case(engine, capabilities, model, folder, ReferenceRunner(model))
        return cases[name, numeric]

    yield build
    cases.clear()


@pytest.fixture(scope="session", params=[(name, numeric) for name in engine_names() for numeric in ("fp32", "int8")])
def case(request: pytest.FixtureRequest, build_case: Callable[[str, Numeric], Case]) -> Case:
    """Every engine in every numeric form."""
    return build_case(*request.param)
