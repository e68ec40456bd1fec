"""Certified small artifacts, each with a running server for all tests that do not need their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.history_served import write_history_artifact, write_history_catalog, write_no_item_artifact
from e2e.serve_process import ServerProcess, start_server
from e2e.small_served import certify_small, write_small_artifact, write_small_catalog
from rankine.artifact import Artifact
from rankine.serving import ServeConfig

MAX_BODY_BYTES = 1 << 20


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Compiled, but not certified."""
    path = tmp_path_factory.mktemp("artifact") / "small"
    write_small_catalog(path)
    return write_small_artifact(path)


@pytest.fixture(scope="session")
def artifact(compiled: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The same with a passed certificate and a plan."""
    path = tmp_path_factory.mktemp("certified") / "small"
    write_small_catalog(path)
    return certify_small(compiled, path)


@pytest.fixture(scope="session")
def config(artifact: Artifact) -> ServeConfig:
    return ServeConfig(
        artifact=Path(artifact.path),
        port=0,
        max_candidates=2000,
        max_body_bytes=MAX_BODY_BYTES,
        max_decompressed_bytes=2 * MAX_BODY_BYTES,
    )


@pytest.fixture(scope="session")
def server(config: ServeConfig) -> Iterator[ServerProcess]:
    started = start_server(config)
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="session")
def two_config(config: ServeConfig, tmp_path_factory: pytest.TempPathFactory) -> ServeConfig:
    """Of a model that is slow on any processor: a dozen large requests are more than one process should keep."""
    path = tmp_path_factory.mktemp("slow") / "small"
    write_small_catalog(path)
    certify_small(write_small_artifact(path.with_name("compiled"), hidden=(512, 256)), path)
    return config.model_copy(update={"processes": 2, "artifact": path})


@pytest.fixture
def two(two_config: ServeConfig) -> Iterator[ServerProcess]:
    started = start_server(two_config)
    try:
        yield started
    finally:
        assert started.stop() == 0


@pytest.fixture(scope="session")
def history_config(tmp_path_factory: pytest.TempPathFactory) -> ServeConfig:
    """Of the model with histories, weighted lists and two tasks."""
    path = tmp_path_factory.mktemp("histories") / "history"
    write_history_catalog(path)
    certify_small(write_history_artifact(path.with_name("compiled")), path)
    return ServeConfig(artifact=path, port=0, max_candidates=500)


@pytest.fixture(scope="session")
def history_server(history_config: ServeConfig) -> Iterator[ServerProcess]:
    started = start_server(history_config)
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="session")
def no_item_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Of the model that reads nothing of an item, without a catalog; not certified."""
    return write_no_item_artifact(tmp_path_factory.mktemp("plain") / "plain")


@pytest.fixture(scope="session")
def no_item_server(no_item_artifact: Artifact) -> Iterator[ServerProcess]:
    started = start_server(ServeConfig(artifact=no_item_artifact.path, port=0, allow_uncertified=True))
    yield started
    assert started.stop() == 0
