"""Requests that are refused where their heads are parsed: bytes into the HTTP protocol, bytes out of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from uvicorn.server import ServerState

from rankine.serving.app import App
from rankine.serving.door import Door
from rankine.serving.heads import LimitedProtocol
from rankine.serving.model import ServedModel
from unit.http_client import HttpClient, Inside
from unit.numpy_served import numpy_model
from unit.served_app import application, rank_request


class Client(HttpClient, Inside):
    """One connection, and the application behind it."""

    def __init__(self, app: App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        HttpClient.__init__(self, reader, writer)
        Inside.__init__(self, app)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


@asynccontextmanager
async def _connected(model: ServedModel, **options: Any) -> AsyncIterator[Client]:
    ours, theirs = socket.socketpair()
    with application(model, **options) as (app, settings):
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: LimitedProtocol(config=settings, server_state=ServerState(), app_state={}, door=Door(app)), ours
        )
        reader, writer = await asyncio.open_connection(sock=theirs)
        try:
            yield Client(app, reader, writer)
        finally:
            transport.close()
            writer.close()
            await writer.wait_closed()


def _run(model: ServedModel, scenario: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    async def whole() -> None:
        async with _connected(model, **options) as client:
            await scenario(client)

    asyncio.run(whole())


def _late(**more: Any) -> bytes:
    return rank_request(x_rankine_deadline_ms=10, **more)


def test_request_is_answered_when_it_is_let_in_at_the_door(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.send(rank_request(x_rankine_deadline_ms=5000, x_rankine_candidates=3, x_request_id="mine"))
        status, headers, reply = await client.answer()
        assert (status, len(reply["ids"]), headers["x-request-id"]) == (200, 3, "mine")
        assert 'rankine_requests_total{protocol="rank",status="200"} 1.0' in client.counted

    _run(opened, scenario)


def test_answer_comes_in_one_piece_when_the_request_was_let_in(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.send(rank_request(x_rankine_deadline_ms=5000))
        head, _, body = (await client.received()).partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head
        assert len(body) > 0
        client.send(rank_request(x_rankine_deadline_ms=5000))
        assert (await client.answer())[0] == 200

    _run(opened, scenario)


def test_request_is_refused_on_its_head_when_the_server_is_behind(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.falls_behind()
        whole = _late(x_request_id="mine")
        head = whole[: whole.index(b"\r\n\r\n") + 4]
        client.send(head)  # the body is not there yet
        status, headers, reply = await client.answer()
        assert (status, headers["x-request-id"]) == (503, "mine")
        assert int(headers["retry-after"]) >= 1
        assert (reply["error"]["code"], reply["request_id"]) == ("capacity", "mine")
        assert 'rankine_decisions_total{reason="front_end"} 1.0' in client.counted
        assert 'rankine_requests_total{protocol="rank",status="503"} 1.0' in client.counted

    _run(opened, scenario)


def test_connection_goes_on_when_a_request_on_it_was_refused(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.falls_behind()
        for _ in range(3):
            client.send(_late())
            assert (await client.answer())[0] == 503
        client.send(rank_request(x_rankine_deadline_ms=60_000))
        assert (await client.answer())[0] == 200

    _run(opened, scenario)


def test_answers_keep_their_order_when_requests_are_pipelined(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.falls_behind()
        good = rank_request(x_rankine_deadline_ms=60_000, x_request_id="good")
        client.send(_late(x_request_id="one") + good + _late(x_request_id="two"))
        found = [await client.answer() for _ in range(3)]
        assert [(status, headers["x-request-id"]) for status, headers, _ in found] == [
            (503, "one"), (200, "good"), (503, "two"),
        ]  # fmt: skip

    _run(opened, scenario)


def test_error_is_plain_when_an_oip_request_is_refused(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.falls_behind()
        client.send(_late(path=f"/v2/models/{opened.name}/infer"))
        status, _, reply = await client.answer()
        assert status == 503
        assert isinstance(reply["error"], str)

    _run(opened, scenario)


def test_client_hears_what_is_wrong_when_its_head_is_bad_and_the_server_is_behind(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.falls_behind()
        client.send(rank_request(x_rankine_deadline_ms="soon"))
        status, _, reply = await client.answer()
        assert (status, reply["error"]["where"]) == (400, "header x-rankine-deadline-ms")

    _run(opened, scenario)


def test_probe_is_answered_when_the_server_is_behind(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.falls_behind()
        client.send(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nx-rankine-deadline-ms: 1\r\n\r\n")
        assert (await client.answer())[0] == 200

    _run(opened, scenario)


def test_connection_is_closed_after_the_answer_when_the_server_leaves(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.falls_behind()
        client.app.leaving = True
        client.send(_late())
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (503, "close")
        with pytest.raises(asyncio.IncompleteReadError):
            await client.answer()

    _run(opened, scenario)


def test_unknown_key_is_told_so_when_the_server_is_behind(opened: ServedModel, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-at-least-16-characters shop\n")

    async def scenario(client: Client) -> None:
        client.falls_behind()
        client.send(_late())
        assert (await client.answer())[0] == 401
        client.send(_late(x_api_key="a-key-of-at-least-16-characters"))
        assert (await client.answer())[0] == 503

    _run(opened, scenario, api_keys=keys)
