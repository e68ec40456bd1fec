"""Worker processes that are killed, frozen and orphaned: everybody is answered, once, and with the right scores."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from e2e.serve_process import ServerProcess, start_server
from e2e.small_served import ITEMS, encoded_batch, rank_body
from rankine.artifact import Artifact
from rankine.catalog import catalog_beside
from rankine.errors import ArtifactError, BadRequest
from rankine.models.columns import Batch
from rankine.models.variant import BASELINE
from rankine.serving import ServeConfig
from rankine.serving.devices import PoolDevice
from rankine.serving.isolation.crew import Crew, CrewLimits
from rankine.serving.isolation.isolate import isolate, spec_of
from rankine.serving.isolation.tables import Tables
from rankine.serving.model import open_model
from rankine.serving.rungs import VariantRunner
from waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform != "linux", reason="worker processes need Linux")]
CLIENTS, WORKERS = 4, 2


@pytest.fixture(scope="module")
def started(config: ServeConfig) -> Iterator[ServerProcess]:
    """For all tests that leave the server alive, whatever becomes of its workers."""
    server = start_server(config.model_copy(update={"isolate": True, "workers": WORKERS, "worker_hang_s": 0.5}))
    yield server
    assert server.stop() == 0


@pytest.fixture
def isolated(started: ServerProcess) -> ServerProcess:
    """With all its workers, of which one is spare."""
    wait_until(lambda: started.metric("rankine_workers_up") == WORKERS + 1)
    return started


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    """The oldest first."""
    found = sorted(psutil.Process(server.process.pid).children(), key=psutil.Process.create_time)
    return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


class Client(threading.Thread):
    """Asks again and again on one connection, on which a second answer to anything would be found out."""

    def __init__(self, server: ServerProcess, number: int) -> None:
        super().__init__(daemon=True)
        self._connection: HTTPConnection = server.connect()
        self._rows = 1 + 13 * number
        self.leave = threading.Event()
        self.statuses: list[int] = []
        self.scores: list[list[float]] = []
        self.surplus = b""

    def run(self) -> None:
        body = json.dumps(rank_body(self._rows)).encode()
        while not self.leave.is_set():
            self._connection.request("POST", "/v1/rank", body, {"content-type": "application/json"})
            response = self._connection.getresponse()
            found = json.loads(response.read())
            self.statuses.append(response.status)
            self.scores.append(found.get("scores", []))
        self._connection.sock.settimeout(0.2)
        try:
            self.surplus = self._connection.sock.recv(1)
        except TimeoutError:
            self.surplus = b""
        self._connection.close()


def under_load(server: ServerProcess, do: Callable[[], None]) -> list[Client]:
    """Clients that ask while ``do`` happens, and a while before and after."""
    clients = [Client(server, number) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    wait_until(lambda: all(len(client.statuses) > 20 for client in clients))
    do()
    seen = [len(client.statuses) for client in clients]
    wait_until(lambda: all(len(client.statuses) > before + 20 for client, before in zip(clients, seen, strict=True)))
    for client in clients:
        client.leave.set()
    for client in clients:
        client.join(30)
    return clients


def assert_all_answered_once(server: ServerProcess, clients: list[Client], asked_before: float) -> None:
    asked = sum(len(client.statuses) for client in clients)
    assert {status for client in clients for status in client.statuses} == {200}
    for client in clients:  # which other requests are in a batch decides how sums are rounded
        np.testing.assert_allclose(client.scores, [client.scores[0]] * len(client.scores), rtol=1e-5)
    assert [client.surplus for client in clients] == [b""] * CLIENTS
    assert ranked(server) - asked_before == asked


def ranked(server: ServerProcess) -> float:
    return server.metric("rankine_requests_total", protocol="rank")


def wait_for_workers(server: ServerProcess, restarts: float) -> None:
    """Until so many workers have been replaced, and all are up."""
    wait_until(lambda: server.metric("rankine_worker_restarts_total") >= restarts)
    wait_until(lambda: server.metric("rankine_workers_up") == WORKERS + 1)


def test_all_are_answered_once_when_a_worker_is_killed_under_load(
    isolated: ServerProcess, server: ServerProcess
) -> None:
    before, restarts = ranked(isolated), isolated.metric("rankine_worker_restarts_total")

    def kill() -> None:
        for number, victim in enumerate(workers_of(isolated)[:2], 1):
            victim.kill()
            wait_for_workers(isolated, restarts + number)

    clients = under_load(isolated, kill)
    assert_all_answered_once(isolated, clients, before)
    for number, client in enumerate(clients):
        reference = server.ask("POST", "/v1/rank", rank_body(1 + 13 * number)).json["scores"]
        np.testing.assert_allclose(client.scores[0], reference, rtol=1e-5)


def test_all_are_answered_once_when_workers_are_frozen_under_load(isolated: ServerProcess) -> None:
    before, restarts = ranked(isolated), isolated.metric("rankine_worker_restarts_total")
    hung = isolated.metric("rankine_worker_restarts_total", reason="hung")

    def freeze() -> None:
        for number in (1, 2):
            workers_of(isolated)[0].suspend()  # the oldest: the spare one is always the newest
            wait_for_workers(isolated, restarts + number)

    assert_all_answered_once(isolated, under_load(isolated, freeze), before)
    assert isolated.metric("rankine_worker_restarts_total", reason="hung") >= hung + 2


def test_request_fails_and_the_next_is_answered_when_it_loses_two_workers(isolated: ServerProcess) -> None:
    victims = workers_of(isolated)
    for victim in victims:
        victim.suspend()
    answer = isolated.ask("POST", "/v1/rank", rank_body(3))
    assert (answer.status, answer.json["error"]["code"]) == (500, "engine")
    assert "two workers were lost" in answer.json["error"]["message"]
    assert isolated.ask("POST", "/v1/rank", rank_body(3)).status in (200, 500)  # on the third frozen one, or a new one
    wait_until(lambda: sum(victim.is_running() for victim in victims) <= 1)
    wait_until(lambda: isolated.ask("POST", "/v1/rank", rank_body(3)).status == 200)
    for victim in victims:
        if victim.is_running():
            victim.resume()


def test_workers_end_when_the_server_is_killed(config: ServeConfig) -> None:
    started = start_server(config.model_copy(update={"isolate": True, "spare_workers": 0}))
    left = workers_of(started)
    assert len(left) == 1
    left[0].suspend()  # it could not even look whether anybody is there
    started.process.kill()
    started.wait()
    gone, alive = psutil.wait_procs(left, timeout=30)
    assert (gone, alive) == (left, [])


def test_accepted_requests_are_answered_when_the_whole_group_gets_sigterm(config: ServeConfig) -> None:
    started = start_server(config.model_copy(update={"isolate": True, "workers": WORKERS, "drain_s": 0.2}))
    left = workers_of(started)
    clients = [Client(started, number) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    wait_until(lambda: all(len(client.statuses) > 20 for client in clients))
    for worker in left:
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
    seen = [len(client.statuses) for client in clients]
    wait_until(lambda: all(len(client.statuses) > before + 20 for client, before in zip(clients, seen, strict=True)))
    for client in clients:
        client.leave.set()
    for client in clients:
        client.join(30)
    assert started.stop() == 0
    assert {status for client in clients for status in client.statuses} == {200}
    assert not any(worker.is_running() for worker in left)


def test_scores_follow_the_catalog_when_it_changes(artifact: Artifact, tmp_path: Path, server: ServerProcess) -> None:
    place = tmp_path / "own.catalog"
    shutil.copytree(catalog_beside(artifact.path), place, symlinks=True)
    items = tmp_path / "items.json"
    items.write_text(json.dumps([{"item": 7000, "tags": ["tag-3"], "price": 12.5}]), encoding="utf-8")
    started = start_server(
        ServeConfig(artifact=artifact.path, catalog=place, port=0, catalog_refresh_s=0.05, isolate=True)
    )

    def verb(name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "rankine", "catalog", name, str(artifact.path), "--catalog", str(place)]
        subprocess.run([*command, *arguments], check=True, capture_output=True)

    def score(item: int) -> float | None:
        body: Any = rank_body(1)
        body["candidates"]["ids"] = [item]
        found = started.ask("POST", "/v1/rank", body)
        return float(found.json["scores"][0]) if found.status == 200 else None

    try:
        known = score(1000)
        verb("upsert", "--items", str(items))
        wait_until(lambda: score(7000) is not None)
        new = score(7000)
        verb("compact")
        started.ask("POST", "/v1/rank", rank_body(ITEMS))
        killed = workers_of(started)
        for worker in killed:
            worker.kill()
        wait_until(lambda: not any(worker.is_running() for worker in killed))
        assert score(7000) == new
        assert score(1000) == known == server.ask("POST", "/v1/rank", rank_body(1)).json["scores"][0]
    finally:
        assert started.stop() == 0


def test_variant_of_a_ladder_scores_the_same_when_it_runs_in_a_worker(artifact: Artifact) -> None:
    model = open_model(ServeConfig(artifact=artifact.path))
    named = VariantRunner(BASELINE, model.runner)  # as where several variants share the items
    device = PoolDevice("cpu", (replace(model.rungs[0], runner=named),))
    spec = spec_of(model.artifact, device, device="cpu", threads=1, split=True)
    assert spec.rungs[0].named
    isolated = isolate(device, spec, CrewLimits(1, 0, 60.0), Tables(), lambda reason: None)
    assert isolated.seats is not None
    try:
        assert isolated.seats.ready(60)
        batch = encoded_batch(50, 3)
        batch = replace(batch, item=named.complete(batch.item))
        here, there = np.zeros((50, 1), np.float32), np.ones((50, 1), np.float32)
        named.run(batch, here)
        isolated.rungs[0].runner.run(batch, there)
        np.testing.assert_array_equal(there, here)
        index = np.full(50, 9999, np.int32)
        with pytest.raises(BadRequest, match="item index is out of range"):
            isolated.rungs[0].runner.run(replace(batch, item_index=index), there)
        with pytest.raises(BadRequest, match="out of range"):  # as the engine says it, in the other process
            isolated.rungs[0].runner.run(replace(batch, request_index=index), there)
    finally:
        isolated.seats.close()
        model.runner.close()


def test_crew_tells_why_when_the_artifact_was_replaced(artifact: Artifact) -> None:
    model = open_model(ServeConfig(artifact=artifact.path))
    device = PoolDevice("cpu", model.rungs)
    spec = spec_of(model.artifact, device, device="cpu", threads=1, split=True)
    lost: list[str] = []
    crew = Crew(spec.model_copy(update={"digest": "0" * 64}), CrewLimits(1, 0, 1.0), Tables(), lost.append)
    try:
        assert not crew.ready(60)
        empty = np.zeros(0, np.int32)
        with pytest.raises(ArtifactError, match="another one than when the server started"):
            crew.run(0, Batch({}, {}, {}, empty, empty), np.empty((0, 1), np.float32))
        wait_until(lambda: lost)  # it is told by another thread
        assert lost[0] == "start"
    finally:
        crew.close()
        model.runner.close()
