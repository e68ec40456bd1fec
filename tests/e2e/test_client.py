"""The client library against real servers: it keeps every request when one of two is killed, and finds the idle one."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from e2e.grpc_served import grpc_address
from e2e.serve_process import ServerProcess, start_server
from e2e.small_served import REQUEST, pair_features, rank_body
from rankine.client import AsyncClient, Client, ClientSettings
from rankine.client.servers import predicted_wait_of
from rankine.errors import BadRequest, ModelNotFound
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e

CANDIDATES: dict[str, Any] = {"ids": [1000, 1001, 1002, 1003, 1004], "features": pair_features(5)}
PATIENT = ClientSettings(deadline_s=30)


@contextmanager
def started(config: ServeConfig) -> Iterator[ServerProcess]:
    """A server of this test alone, ended with it if it still runs."""
    server = start_server(config)
    try:
        yield server
    except Exception as error:
        error.add_note(f"{server.url} logged last: {''.join(server.log[-5:])}")
        raise
    finally:
        server.process.kill()
        server.wait()


def url_of(server: ServerProcess, protocol: str) -> str:
    """Where it listens for a protocol."""
    return server.url if protocol == "http" else f"grpc://{grpc_address(server)}"


@pytest.fixture(scope="module")
def grpc_server(config: ServeConfig) -> Iterator[ServerProcess]:
    with started(config.model_copy(update={"grpc_port": 0})) as server:
        yield server


def test_rank_gives_what_the_server_answers_when_asked_both_ways(server: ServerProcess) -> None:
    plain = server.ask("POST", "/v1/rank", rank_body(5, top_k=3)).json

    async def ask() -> Any:
        async with AsyncClient([server.url], PATIENT) as client:
            return await client.rank(REQUEST, CANDIDATES, top_k=3, timings=True, prior=[0.5] * 5)

    with Client([server.url], PATIENT) as client:
        replies = [client.rank(REQUEST, CANDIDATES, top_k=3, timings=True), asyncio.run(ask())]
    for reply in replies:
        told = {"ids": reply.ids, "artifact": reply.artifact, "variant": reply.variant, "engine": reply.engine}
        assert told == {name: plain[name] for name in told}
        assert reply.scores == pytest.approx(plain["scores"], rel=1e-6)
        assert reply.generation == plain["generation"]
        assert reply.timings["run_ms"] > 0


def test_error_names_the_field_when_the_server_refuses_it(server: ServerProcess) -> None:
    with Client([server.url], PATIENT) as client, pytest.raises(BadRequest, match="unknown field") as caught:
        client.rank({**REQUEST, "usr": 7}, CANDIDATES)
    assert (caught.value.where, caught.value.hint) == ("request.usr", "Did you mean 'user'?")


def test_rank_gives_what_http_gives_when_asked_over_grpc(grpc_server: ServerProcess) -> None:
    candidates = {"ids": np.arange(1000, 1005), "features": {"slot": np.arange(5), "match": np.full((5, 2), 0.5)}}
    calls = [
        (REQUEST, CANDIDATES),
        ({**REQUEST, "recent": []}, CANDIDATES),
        ({**REQUEST, "recent": {"values": [1003, 1005], "weights": [1.0, 0.5]}}, CANDIDATES),
        ({**REQUEST, "age": np.array([33.5, 1.0])}, candidates),
    ]
    urls = [url_of(grpc_server, protocol) for protocol in ("http", "grpc")]
    with Client(urls[:1], PATIENT) as http, Client(urls[1:], PATIENT) as grpc:
        for request, some in calls:
            first, second = (one.rank(request, some, top_k=3, timings=True, tenant="t") for one in (http, grpc))
            assert second.ids == first.ids
            assert second.scores == pytest.approx(first.scores, rel=1e-6)
            for name in ("artifact", "generation", "variant", "engine"):
                assert getattr(second, name) == getattr(first, name)
            assert second.timings["run_ms"] > 0
            assert (second.server, second.attempts) == (urls[1], 1)


def test_error_is_the_same_when_told_over_grpc(grpc_server: ServerProcess) -> None:
    told = []
    for protocol in ("http", "grpc"):
        with Client([url_of(grpc_server, protocol)], PATIENT) as client, pytest.raises(BadRequest) as caught:
            client.rank({**REQUEST, "usr": 7}, CANDIDATES)
        told.append(caught.value.as_dict())
    assert told[0] == told[1]
    with Client([url_of(grpc_server, "grpc")], ClientSettings(model="smal")) as client, pytest.raises(ModelNotFound):
        client.rank(REQUEST, CANDIDATES)


def test_every_reply_tells_the_load_when_a_server_answers(server: ServerProcess) -> None:
    asked = {"endpoint-load-metrics-format": "json"}
    for answer in (server.ask("POST", "/v1/rank", rank_body(), asked), server.ask("GET", "/nowhere", None, asked)):
        assert predicted_wait_of(answer.headers) is not None
        assert int(answer.headers["x-rankine-queued-rows"]) >= 0
        assert answer.headers["endpoint-load-metrics"].startswith('JSON {"named_metrics":{"predicted_wait_ms":')


def test_requests_go_to_the_idle_server_when_others_flood_the_first(server: ServerProcess, config: ServeConfig) -> None:
    body = rank_body(2000)
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            assert server.ask("POST", "/v1/rank", body).status in (200, 503)

    with (
        started(config) as idle,
        Client([server.url, idle.url], PATIENT) as client,
        ThreadPoolExecutor(8) as floods,
    ):
        flooding = [floods.submit(flood) for _ in range(8)]
        try:
            answered = Counter(client.rank(REQUEST, CANDIDATES).server for _ in range(100))
        finally:
            stop.set()
        for one in flooding:
            one.result(60)
    assert answered[idle.url] > 75


def test_example_is_answered_when_it_is_run(server: ServerProcess) -> None:
    command = [sys.executable, str(ROOT / "examples" / "client" / "ask.py"), server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    answered = re.fullmatch(rf"{server.url} answered (\d+)\n(failed with 'deadline': \d+\n)?", done.stdout)
    assert answered is not None, done.stdout
    assert int(answered[1]) > 0


def test_requests_are_answered_when_one_of_two_servers_freezes(config: ServeConfig) -> None:
    settings = ClientSettings(deadline_s=30, hedge_share=1, hedge_burst=100)
    with started(config) as one, started(config) as two, Client([one.url, two.url], settings) as client:
        for _ in range(100):
            client.rank(REQUEST, CANDIDATES)
        one.process.send_signal(signal.SIGSTOP)
        # Sessions have either server as their own: without them a client that waits might never ask the slower one.
        replies = [client.rank(REQUEST, CANDIDATES, session=f"user-{number}") for number in range(50)]
    assert {reply.server for reply in replies} == {two.url}
    assert any(reply.hedged for reply in replies)


def kill_under_load(client: Client, server: ServerProcess) -> Counter[str]:
    """Which server answered each of 800 requests of four threads; one is killed when 200 are answered."""
    lock, answered = threading.Lock(), Counter[str]()

    def ask_many() -> None:
        for _ in range(200):
            reply = client.rank(REQUEST, CANDIDATES)
            assert len(reply.ids) == 5
            with lock:
                answered[reply.server] += 1
                if answered.total() == 200:
                    server.process.kill()

    with ThreadPoolExecutor(4) as threads:
        for asking in [threads.submit(ask_many) for _ in range(4)]:
            asking.result(120)
    return answered


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_no_request_is_lost_when_one_of_two_servers_is_killed_and_comes_back(
    config: ServeConfig, protocol: str
) -> None:
    both = config.model_copy(update={"grpc_port": 0})
    with started(both) as one, started(both) as two:
        urls = [url_of(one, protocol), url_of(two, protocol)]
        with Client(urls, ClientSettings(deadline_s=30, eject_s=0.1)) as client:
            answered = kill_under_load(client, one)
            assert answered.total() == 800
            assert answered[urls[1]] >= 590  # of 600, less what was answered but not counted when the other was killed
            assert answered[urls[0]] > 0
            one.process.wait(30)
            port = int(urls[0].rsplit(":", 1)[1])
            with started(both.model_copy(update={"port" if protocol == "http" else "grpc_port": port})):
                while client.rank(REQUEST, CANDIDATES).server != urls[0]:
                    pass
