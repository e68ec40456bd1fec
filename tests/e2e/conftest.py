"""One certified small artifact and one running server for all tests that do not need their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
