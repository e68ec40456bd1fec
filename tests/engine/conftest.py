"""Models in the form that each engine takes, built once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from engine.families import family_network
from engine.foreign_models import write_rows
from engine.installed import installed_engine
from engine.library_models import Library, import_library, load_library_model, prepared_rows
from engine.networks import Given, Loaded, given_network, load_example
from engine.small_model import small_batch, small_model
from engine.trained_model import train_small
from engine.zoo_model import zoo_artifact
from rankine.artifact import Artifact
from rankine.compilation.conformance import Case, build_case, why_not
from rankine.compilation.conformance.zoo import zoo_artifact as write_reference
from rankine.compilation.engines import engine_names
from rankine.data import Dataset, load_dataset
from rankine.models.variant import BASELINE, Numeric, load_model


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An artifact of an untrained DCN-v2, with its checkpoint and an INT8 variant."""
    return zoo_artifact(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def reference_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """A reference model in both forms, written once."""
    return cache(lambda name: write_reference(name, family_network(name), tmp_path_factory.mktemp(name)))


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
def build(tmp_path_factory: pytest.TempPathFactory, zoo: Artifact) -> Iterator[Callable[[str, Numeric], Case]]:
    """Builds the small model for an engine once; skips what its capability record leaves out, and an engine that is
    not installed."""

    @cache
    def built(name: str, numeric: Numeric) -> Case:
        engine = installed_engine(name)
        model = small_model(tmp_path_factory.mktemp("model"), numeric, history=True)
        if engine.capabilities().needs_checkpoint and numeric == "fp32":
            model = load_model(zoo, BASELINE)
        devices = engine.capabilities().devices
        device = "cpu" if "cpu" in devices else devices[0]
        reason = why_not(engine.capabilities(), model, device)
        if reason:
            pytest.skip(f"{name} {reason}")
        folder = tmp_path_factory.mktemp(f"{name}-{numeric}")
        return build_case(
            name, engine, model, folder, device=device, make_batch=lambda rows, seed: small_batch(rows, seed=seed)
        )

    yield built
    built.cache_clear()


@pytest.fixture(scope="session", params=[(name, numeric) for name in engine_names() for numeric in ("fp32", "int8")])
def case(request: pytest.FixtureRequest, build: Callable[[str, Numeric], Case]) -> Case:
    """Every engine in every numeric form."""
    return build(*request.param)
