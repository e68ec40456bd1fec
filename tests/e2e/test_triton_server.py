"""The repository that ``rankine export triton-server`` writes, in the real Triton Inference Server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from conftest import end_without
from e2e.number_served import ITEMS, flat_tensors, rank_body, rank_tensors, write_number_artifact
from e2e.serve_process import ServerProcess, start_server
from e2e.triton_binary import TritonServer
from rankine.artifact import Artifact
from rankine.catalog import Catalog, catalog_beside
from rankine.cli import _rankine
from rankine.errors import ArtifactError, CertificateRequired
from rankine.observation.engines import bench_engines, profile_path
from rankine.observation.sample import sample_batches
from rankine.serving import ServeConfig

try:
    import tritonclient.grpc as over_grpc
    import tritonclient.http as over_http
except ModuleNotFoundError as error:
    end_without(str(error))

from e2e.grpc_served import grpc_address

pytestmark = pytest.mark.e2e
ROWS = 150


def export(*arguments: object) -> dict[str, Any]:
    """What ``rankine export triton-server`` tells of what it wrote."""
    done = CliRunner().invoke(_rankine, ["export", "triton-server", *map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return write_number_artifact(tmp_path_factory.mktemp("numbers") / "numbers")


@pytest.fixture(scope="module")
def triton(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("triton")
    export(artifact.path, folder / "models", "--copy")
    server = TritonServer(folder / "models", folder).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def served(artifact: Artifact) -> Iterator[ServerProcess]:
    server = start_server(ServeConfig(artifact=artifact.path, port=0, grpc_port=0))
    yield server
    assert server.stop() == 0


@pytest.fixture(params=["http", "grpc"])
def clients(request: pytest.FixtureRequest, triton: TritonServer, served: ServerProcess) -> Iterator[tuple[Any, ...]]:
    """The protocol's library, and a client of it of each server."""
    library = over_http if request.param == "http" else over_grpc
    theirs = triton.http_port if library is over_http else triton.grpc_port
    ours = f"127.0.0.1:{served.port}" if library is over_http else grpc_address(served)
    both = [library.InferenceServerClient(address) for address in (f"127.0.0.1:{theirs}", ours)]
    yield library, *both
    for client in both:
        client.close()


def ask(library: Any, client: Any, model: str, tensors: list[tuple[str, str, np.ndarray]], **more: Any) -> Any:
    inputs = []
    for name, datatype, values in tensors:
        inputs.append(library.InferInput(name, list(values.shape), datatype))
        inputs[-1].set_data_from_numpy(values)
    return client.infer(model, inputs, **more)


def metadata_of(library: Any, client: Any, model: str) -> dict[str, Any]:
    found = client.get_model_metadata(model, **({"as_json": True} if library is over_grpc else {}))
    return {
        side: [{**one, "shape": list(map(int, one["shape"]))} for one in found[side]] for side in ("inputs", "outputs")
    }


@pytest.mark.parametrize("model", ["numbers", "numbers.rank", "numbers.batch"])
def test_inputs_and_outputs_are_those_of_serve_when_both_are_asked(clients: tuple[Any, ...], model: str) -> None:
    library, theirs, ours = clients
    assert metadata_of(library, theirs, model) == metadata_of(library, ours, model)


def test_rank_form_gives_the_scores_of_serve_when_the_same_client_asks_both(clients: tuple[Any, ...]) -> None:
    library, theirs, ours = clients
    for rows in (1, ROWS, ITEMS):
        found, expected = (
            ask(library, one, "numbers.rank", rank_tensors(rows), parameters={"top_k": 20}) for one in (theirs, ours)
        )
        assert len(found.as_numpy("ids")) == min(rows, 20)
        assert found.as_numpy("ids").tolist() == expected.as_numpy("ids").tolist()
        for output in ("scores", "logits"):
            assert found.as_numpy(output) == pytest.approx(expected.as_numpy(output), abs=1e-6)


def test_flat_form_gives_the_scores_of_serve_when_the_same_client_asks_both(clients: tuple[Any, ...]) -> None:
    library, theirs, ours = clients
    wanted = [library.InferRequestedOutput("scores")]
    found, expected = (ask(library, one, "numbers", flat_tensors(ROWS), outputs=wanted) for one in (theirs, ours))
    assert found.as_numpy("scores") == pytest.approx(expected.as_numpy("scores"), abs=1e-6)
    assert found.as_numpy("logits") is None


def test_error_is_that_of_serve_when_a_request_is_wrong(clients: tuple[Any, ...]) -> None:
    library, theirs, ours = clients
    for name, text in (("ids", "ids"), ("slot", "slot")):
        tensors = [
            (one, kind, np.full(ROWS, 70) if one == name else values) for one, kind, values in rank_tensors(ROWS)
        ]
        told = []
        for client in (theirs, ours):
            with pytest.raises(Exception, match=text) as caught:
                ask(library, client, "numbers.rank", tensors)
            told.append(caught.value.message())
        assert told[0] == told[1]


def test_each_request_has_its_own_scores_when_many_are_asked_at_once(
    triton: TritonServer, served: ServerProcess
) -> None:
    def theirs(user: int) -> np.ndarray:
        client = over_grpc.InferenceServerClient(f"127.0.0.1:{triton.grpc_port}")
        tensors = rank_tensors(ROWS, user)
        if user % 5 == 0:
            tensors[-1] = ("slot", "INT64", np.full(ROWS, 70))
        try:
            scores: np.ndarray = ask(over_grpc, client, "numbers.rank", tensors).as_numpy("scores")
        except over_grpc.InferenceServerException as wrong:
            return np.zeros(0) if "slot" in str(wrong) else np.full(1, np.nan)
        else:
            return scores
        finally:
            client.close()

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(theirs, range(1, 81)))
    for user, scores in enumerate(found, 1):
        expected = [] if user % 5 == 0 else served.ask("POST", "/v1/rank", rank_body(ROWS, user)).json["scores"]
        assert scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_limits_of_batches_follow_the_profile_when_there_is_one(artifact: Artifact, tmp_path: Path) -> None:
    bench_engines(
        artifact,
        sample_batches(artifact, Catalog.open(catalog_beside(artifact.path)), (1, 64, 512)),
        threads=(1, 2),
        repeats=9,
    )
    try:
        told = export(artifact.path, tmp_path / "models", "--form", "rank", "--threads", 2, "--instances", 3)
    finally:
        profile_path(artifact).unlink()
    assert told["models"] == ["numbers.rank"]
    assert list(told["profile"]) == ["1", "64", "512"]
    config = (tmp_path / "models" / "numbers.rank" / "config.pbtxt").read_text()
    assert f'key: "max_batch_rows" value {{ string_value: "{told["max_batch_rows"]}" }}' in config
    assert "They follow from the measured profile" in config
    assert "count: 3" in config
    assert 'key: "threads" value { string_value: "2" }' in config
    assert str(artifact.path) in config


def test_export_is_refused_when_nothing_was_certified(compiled: Artifact, tmp_path: Path) -> None:
    with pytest.raises(CertificateRequired):
        export(compiled.path, tmp_path / "models")
    assert not (tmp_path / "models").exists()
    told = export(compiled.path, tmp_path / "models", "--allow-uncertified", "--variant", "baseline", "--form", "flat")
    assert told["certified"] is False
    with pytest.raises(ArtifactError, match="models"):
        export(compiled.path, tmp_path / "models", "--allow-uncertified", "--variant", "baseline")


def test_model_is_not_loaded_when_its_strings_would_be_garbled(
    artifact: Artifact, compiled: Artifact, tmp_path: Path
) -> None:
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("with NumPy 1 strings arrive")
    export(compiled.path, tmp_path / "models", "--allow-uncertified", "--variant", "baseline", "--form", "rank")
    with pytest.raises(RuntimeError, match="numpy<2"):
        TritonServer(tmp_path / "models", tmp_path).start()
