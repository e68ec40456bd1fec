"""Connections that are read together, through the HTTP protocol: bytes in and out over TCP."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import pytest
from uvicorn.server import ServerState

from rankine.policy.reason import Reason
from rankine.policy.refused import Like
from rankine.serving.app import App
from rankine.serving.door import Door
from rankine.serving.heads import LimitedProtocol
from rankine.serving.model import ServedModel
from rankine.serving.refusals import QueueRefused
from unit.http_client import HttpClient, Inside
from unit.numpy_served import numpy_model
from unit.served_app import application, rank_request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll")


class Server(Inside):
    """A server in this process."""

    def __init__(self, app: App, door: Door, port: int, protocols: list[LimitedProtocol]) -> None:
        super().__init__(app)
        self.door, self.port, self.protocols = door, port, protocols
        self.clients: list[HttpClient] = []

    @property
    def entered(self) -> list[bool]:
        """Of each connection, whether the inlet reads it."""
        return [one._entrance is not None and one._entrance.inside for one in self.protocols]

    async def client(self) -> HttpClient:
        self.clients.append(HttpClient(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]

    async def leave(self) -> None:
        for client in self.clients:
            client.writer.close()
        await _settled()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


@asynccontextmanager
async def _served(model: ServedModel, **options: Any) -> AsyncIterator[Server]:
    with application(model, **options) as (app, settings):
        door = Door(app)
        door.open_inlet()
        protocols: list[LimitedProtocol] = []

        def connected() -> LimitedProtocol:
            protocols.append(LimitedProtocol(config=settings, server_state=ServerState(), app_state={}, door=door))
            return protocols[-1]

        server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
        served = Server(app, door, server.sockets[0].getsockname()[1], protocols)
        try:
            yield served
        finally:
            await served.leave()
            server.close()


def _run(model: ServedModel, scenario: Callable[[Server], Awaitable[None]], **options: Any) -> None:
    async def whole() -> None:
        async with _served(model, **options) as server:
            await scenario(server)

    asyncio.run(whole())


async def _settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


_READY = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"


def test_requests_are_answered_when_their_connections_are_read_together(opened: ServedModel) -> None:
    async def scenario(server: Server) -> None:
        clients = [await server.client() for _ in range(5)]
        await _settled()
        assert server.entered == [True] * 5
        for _ in range(3):
            for number, client in enumerate(clients):
                client.send(rank_request(x_request_id=f"mine-{number}"))
            for number, client in enumerate(clients):
                status, headers, reply = await client.answer()
                assert (status, headers["x-request-id"], len(reply["ids"])) == (200, f"mine-{number}", 3)
        assert server.entered == [True] * 5
        assert 'rankine_requests_total{protocol="rank",status="200"} 15.0' in server.counted

    _run(opened, scenario)


def test_connection_comes_back_a_few_times_when_it_has_sent_something_else(opened: ServedModel) -> None:
    async def scenario(server: Server) -> None:
        client = await server.client()
        await _settled()
        for times in range(1, 6):
            assert (await client.ask(_READY))[0] == 200
            await _settled()
            assert server.entered == [times <= 3]
            assert (await client.ask(rank_request()))[0] == 200

    _run(opened, scenario)


def test_request_is_answered_when_it_comes_in_parts(opened: ServedModel) -> None:
    async def scenario(server: Server) -> None:
        client = await server.client()
        await _settled()
        raw = rank_request()
        for part in (raw[:20], raw[20:-5], raw[-5:]):
            client.send(part)
            await _settled()
        assert (await client.answer())[0] == 200
        await _settled()
        assert server.entered == [True]

    _run(opened, scenario)


def test_answers_keep_their_order_when_requests_are_pipelined(opened: ServedModel) -> None:
    async def scenario(server: Server) -> None:
        client = await server.client()
        await _settled()
        client.send(rank_request(x_request_id="1") + _READY + rank_request(x_request_id="2"))
        client.send(rank_request(x_request_id="3"))
        told = [(await client.answer())[1].get("x-request-id") for _ in range(4)]
        assert [told[0], told[2], told[3]] == ["1", "2", "3"]

    _run(opened, scenario)


def test_inlet_forgets_a_connection_when_its_client_leaves(opened: ServedModel) -> None:
    async def scenario(server: Server) -> None:
        client = await server.client()
        await _settled()
        client.writer.close()
        await _settled()
        assert server.entered == [False]
        assert server.protocols[0].transport.is_closing()
        assert server.door.inlet is not None
        assert not server.door.inlet._connections

    _run(opened, scenario)


def test_requests_are_refused_unseen_when_one_like_them_was(opened: ServedModel) -> None:
    async def scenario(server: Server) -> None:
        clients = [await server.client() for _ in range(3)]
        await _settled()
        server.falls_behind()
        for client in clients:  # read in one turn
            client.send(rank_request(x_rankine_deadline_ms=10))
        answers = [await client.answer() for client in clients]
        assert [status for status, _, _ in answers] == [503] * 3
        ids = [headers["x-request-id"] for _, headers, _ in answers]
        assert [reply["request_id"] for _, _, reply in answers] == ids
        assert len({*ids}) == 3
        assert {reply["error"]["code"] for _, _, reply in answers} == {"capacity"}
        # The first is asked; what it tells holds from the next reading on.
        again = [await client.ask(rank_request(x_rankine_deadline_ms=10)) for client in clients]
        assert [status for status, _, _ in again] == [503] * 3
        ids = [headers["x-request-id"] for _, headers, _ in (*answers, *again)]
        assert any("_" in one for one in ids)
        assert len({*ids}) == 6
        assert 'rankine_decisions_total{reason="front_end"} 6.0' in server.counted
        assert 'rankine_requests_total{protocol="rank",status="503"} 6.0' in server.counted
        assert 'rankine_request_seconds_count{protocol="rank"} 6.0' in server.counted
        assert (await clients[0].ask(rank_request(x_rankine_deadline_ms=60_000)))[0] == 200
        assert (await clients[1].ask(rank_request(x_rankine_deadline_ms=10, x_request_id="mine")))[2][
            "request_id"
        ] == "mine"

    _run(opened, scenario)


@pytest.mark.parametrize(
    ("own", "status"),
    [
        ({}, 503), ({"x_request_id": "mine"}, 503), ({"x_rankine_tenant": "me"}, 503),
        ({"x_rankine_session": "s"}, 503),
        ({"x_rankine_priority": "low"}, 503), ({"x_rankine_priority": "high"}, 200),
    ],
)  # fmt: skip
def test_headers_give_no_advantage_when_one_like_them_was_refused_unless_they_ask_for_priority(
    opened: ServedModel, own: dict[str, str], status: int
) -> None:
    async def scenario(server: Server) -> None:
        reception = server.app.reception
        reception.lately.planned(Reason.OTHERS_LATE, math.inf, 1, perf_counter())
        reception.lately.until_s = math.inf
        reception._told[Reason.OTHERS_LATE] = QueueRefused("others would be late", 0.01, Reason.OTHERS_LATE)
        client = await server.client()
        await _settled()
        found, _, reply = await client.ask(rank_request(**own))
        assert found == status
        if status == 503:
            assert reply["error"]["reason"] == "others_late"
            assert 'rankine_decisions_total{reason="others_late"} 1.0' in server.counted

    _run(opened, scenario)


def test_every_request_is_seen_when_requests_are_logged(opened: ServedModel) -> None:
    async def scenario(server: Server) -> None:
        client = await server.client()
        await _settled()
        server.falls_behind()
        ids = [(await client.ask(rank_request(x_rankine_deadline_ms=10)))[1]["x-request-id"] for _ in range(5)]
        assert not any("_" in one for one in ids)

    _run(opened, scenario, log_requests=True)


def test_connection_goes_on_when_a_request_fails_by_our_fault(
    opened: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(server: Server) -> None:
        client = await server.client()
        other = await server.client()
        await _settled()
        with monkeypatch.context() as broken:
            broken.setattr(server.door, "knock", lambda *given: 1 / 0)
            status, _, reply = await client.ask(rank_request())
        assert status == 500
        assert "ZeroDivision" not in json.dumps(reply)
        assert (await other.ask(rank_request()))[0] == 200

    _run(opened, scenario)


def _refuse_everybody(server: Server) -> None:
    inlet = server.door.inlet
    assert inlet is not None
    body = b'{"request_id": "'
    head = b"HTTP/1.1 503 x\r\ncontent-length: 39\r\nx-request-id: "
    everybody = [Like(math.inf, math.inf, 0, 0.0, Reason.FRONT_END)]
    inlet.refuse(everybody, (head, b"\r\n\r\n" + body, b'"}'), perf_counter() + 60)


def test_refusal_does_not_overtake_an_answer_when_requests_are_pipelined(opened: ServedModel) -> None:
    async def scenario(server: Server) -> None:
        client = await server.client()
        await _settled()
        with pytest.MonkeyPatch.context() as held:
            pending: list[Callable[[], None]] = []
            held.setattr(server.app.reception.line, "put", lambda begin, rows: pending.append(begin))
            client.send(rank_request(x_request_id="first"))
            await _settled()
            _refuse_everybody(server)
            client.send(rank_request())
            await _settled()
        for begin in pending:
            begin()
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
        assert (await client.ask(rank_request()))[0] == 503

    _run(opened, scenario)


def test_connection_counts_as_alive_when_all_that_it_asks_is_refused_unseen(opened: ServedModel) -> None:
    async def scenario(server: Server) -> None:
        client = await server.client()
        await _settled()
        [protocol] = server.protocols
        assert protocol.fresh
        _refuse_everybody(server)
        protocol._stall.progress_s -= 1000.0
        assert (await client.ask(rank_request()))[0] == 503
        await _settled()
        assert not protocol.fresh
        protocol.close_if_stalled(asyncio.get_running_loop().time())
        assert not protocol.transport.is_closing()

    _run(opened, scenario)


def test_others_are_answered_when_a_connection_fails(opened: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(server: Server) -> None:
        clients = [await server.client() for _ in range(3)]
        await _settled()
        monkeypatch.setattr(server.protocols[0], "take", lambda *given: 1 / 0)
        for client in clients:
            client.send(rank_request())
        assert [(await client.answer())[0] for client in clients] == [500, 200, 200]

    _run(opened, scenario)


def test_nobody_is_told_the_refusal_of_another_reason(opened: ServedModel) -> None:
    async def scenario(server: Server) -> None:
        inlet = server.door.inlet
        assert inlet is not None
        server.falls_behind()
        lately = server.app.reception.lately
        lately.planned(Reason.OTHERS_LATE, math.inf, 10**6, perf_counter() + 3600)  # it holds for the whole test
        lately.until_s = math.inf
        told: list[Reason] = []
        with pytest.MonkeyPatch.context() as seen:
            seen.setattr(inlet, "refuse", lambda likes, *rest: told.extend(like.reason for like in likes))
            client = await server.client()
            await _settled()
            assert (await client.ask(rank_request(x_rankine_deadline_ms=10)))[0] == 503
        assert {*told} == {Reason.FRONT_END}

    _run(opened, scenario)
