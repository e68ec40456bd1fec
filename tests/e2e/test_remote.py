"""Servers that run batches for another one: a second ``rankine serve``, and the real Triton server, which is killed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.number_served import ITEMS, rank_body, write_number_artifact
from e2e.serve_process import ServerProcess, start_server
from e2e.test_triton_server import export
from e2e.triton_binary import TritonServer, free_port
from rankine.artifact import Artifact
from rankine.config import parse
from rankine.errors import ConfigError
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e
USERS = range(1, 13)
WIDE = (1024, 512)
"""Layers wide enough that one engine is not enough for a few clients."""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return write_number_artifact(tmp_path_factory.mktemp("wide") / "numbers", WIDE)


@pytest.fixture(scope="module")
def plain(artifact: Artifact) -> Iterator[ServerProcess]:
    """Without remote engines: itself one of others, and what their scores are held to."""
    server = start_server(ServeConfig(artifact=artifact.path, port=0))
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def expected(plain: ServerProcess) -> dict[int, list[float]]:
    """Scores of each user's candidates, by the best first."""
    return {user: plain.ask("POST", "/v1/rank", rank_body(ITEMS, user)).json["scores"] for user in USERS}


class Load:
    """Clients that send one request after the other until they are told to stop; what they were answered."""

    def __init__(self, server: ServerProcess, expected: dict[int, list[float]], clients: int = 4) -> None:
        self._server, self._expected, self._stop = server, expected, threading.Event()
        self.statuses: list[int] = []
        self.engines: list[str] = []
        self.refusals: list[str] = []
        self.wrong: list[Any] = []
        self.slowest_s = 0.0
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        connection, at = self._server.connect(60), number
        while not self._stop.is_set():
            user, at = USERS[at % len(USERS)], at + 1
            begin_s = time.perf_counter()
            body, headers = json.dumps(rank_body(ITEMS, user)), {"content-type": "application/json"}
            connection.request("POST", "/v1/rank", body, headers)
            response = connection.getresponse()
            told = json.loads(response.read())
            self.slowest_s = max(self.slowest_s, time.perf_counter() - begin_s)
            self.statuses.append(response.status)
            if response.status == 200:
                self.engines.append(told["engine"])
                scores = told["scores"]
                if len(scores) != ITEMS or scores != pytest.approx(self._expected[user], abs=1e-5):
                    self.wrong.append((user, scores[:3]))
            else:
                self.refusals.append(told["error"]["code"])
        connection.close()


def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    """Wait for something that must come.

    Raises:
        AssertionError: it did not.
    """
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s, "it took too long"
        time.sleep(0.05)


def ran_remotely(server: ServerProcess, url: str) -> float:
    return sum(
        server.metric("rankine_placements_total", device=f"remote {url}", reason=reason)
        for reason in ("least_finish", "spread", "explore")
    )


def test_another_server_shares_the_load_when_it_serves_the_same_artifact(
    artifact: Artifact, plain: ServerProcess, expected: dict[int, list[float]]
) -> None:
    server = start_server(ServeConfig(artifact=artifact.path, port=0, remote=(plain.url,)))
    try:
        assert server.metric("rankine_remote_up", device=f"remote {plain.url}") == 1
        with Load(server, expected) as load:
            until(lambda: ran_remotely(server, plain.url) >= 10)
            until(lambda: len(load.statuses) > 60)
    finally:
        assert server.stop() == 0
    assert set(load.statuses) == {200}
    assert not load.wrong
    assert any("remote" in engine for engine in load.engines)


def test_server_answers_alone_when_its_remote_is_not_there_yet(
    artifact: Artifact, expected: dict[int, list[float]]
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = start_server(ServeConfig(artifact=artifact.path, port=0, remote=(url,)))
    try:
        assert server.metric("rankine_remote_up", device=f"remote {url}") == 0
        with Load(server, expected, clients=2) as load:
            until(lambda: len(load.statuses) > 20)
            other = start_server(ServeConfig(artifact=artifact.path, port=port))
            until(lambda: server.metric("rankine_remote_up", device=f"remote {url}") == 1)
            until(lambda: ran_remotely(server, url) >= 3)
            assert other.stop() == 0
            seen = len(load.statuses)
            until(lambda: len(load.statuses) > seen + 20)
    finally:
        assert server.stop() == 0
    assert set(load.statuses) == {200}
    assert not load.wrong


def test_server_does_not_start_when_its_remote_serves_another_model(
    artifact: Artifact, plain: ServerProcess, tmp_path: Path
) -> None:
    other = write_number_artifact(tmp_path / "numbers", (16, 8))
    with pytest.raises(AssertionError, match="computes another variant than is served here"):
        start_server(ServeConfig(artifact=other.path, port=0, remote=(plain.url,)))


def test_addresses_are_refused_when_they_are_none() -> None:
    for wrong in (["127.0.0.1:8000"], ["ftp://host"], ["http://a:1", "http://a:1/"]):
        with pytest.raises(ConfigError, match="remote"):
            parse(ServeConfig, {"artifact": "small", "remote": wrong})


def test_no_request_is_lost_or_wrong_when_triton_is_killed_and_started_again_under_load(
    artifact: Artifact, expected: dict[int, list[float]], tmp_path: Path
) -> None:
    export(artifact.path, tmp_path / "models", "--form", "batch")
    triton = TritonServer(tmp_path / "models", tmp_path).start()
    url = f"http://127.0.0.1:{triton.http_port}"
    server = start_server(ServeConfig(artifact=artifact.path, port=0, remote=(url,)))
    device = f"remote {url}"
    try:
        with Load(server, expected) as load:
            until(lambda: ran_remotely(server, url) >= 10)
            triton.kill()
            until(lambda: server.metric("rankine_remote_up", device=device) == 0)
            alone = len(load.statuses)
            until(lambda: len(load.statuses) > alone + 30)
            ran = ran_remotely(server, url)
            triton.start()
            until(lambda: server.metric("rankine_remote_up", device=device) == 1)
            until(lambda: ran_remotely(server, url) >= ran + 10)
        answered = server.metric("rankine_requests_total", protocol="rank")
    finally:
        assert server.stop() == 0
        triton.stop()
    assert set(load.refusals) <= {"capacity"}, "what the killed server had runs here; only the door may refuse"
    assert len(load.refusals) <= 0.02 * len(load.statuses)
    assert not load.wrong
    assert answered == len(load.statuses)
