"""Requests that are refused where their heads are parsed: bytes into the HTTP protocol, bytes out of it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from e2e.small_served import rank_body
from rankine.serving import ServeConfig
from rankine.serving.app import App
from rankine.serving.door import Door
from rankine.serving.heads import LimitedProtocol
from rankine.serving.metrics import ServerMetrics
from rankine.serving.model import ServedModel
from rankine.serving.pool import Pool
from unit.numpy_served import numpy_model
from unit.standing_line import fall_behind


class Client:
    """One connection: what is sent on it, and its answers as status, headers and body."""

    def __init__(self, app: App, end: socket.socket) -> None:
        self.app = app
        self._end = end
        self._received = b""

    def send(self, raw: bytes) -> None:
        self._end.sendall(raw)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        async with asyncio.timeout(5):
            while b"\r\n\r\n" not in self._received:
                await self._more()
            head, _, rest = self._received.partition(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            size = int(headers["content-length"])
            while len(rest) < size:
                await self._more()
                rest = self._received.partition(b"\r\n\r\n")[2]
            self._received = rest[size:]
            return int(status.split()[1]), headers, json.loads(rest[:size])

    async def received(self) -> bytes:
        """What comes next at once."""
        return await asyncio.get_running_loop().sock_recv(self._end, 1 << 16)

    async def _more(self) -> None:
        loop = asyncio.get_running_loop()
        self._received += await loop.sock_recv(self._end, 1 << 16) or _closed()

    def falls_behind(self) -> None:
        """From now on many are in line, and nobody is let in to try whether it is so."""
        fall_behind(self.app.reception)

    @property
    def counted(self) -> str:
        return self.app.metrics.render(0).decode()


def _closed() -> bytes:
    raise AssertionError("the connection was closed")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


@asynccontextmanager
async def _connected(model: ServedModel, **options: Any) -> AsyncIterator[Client]:
    config = ServeConfig(artifact=model.artifact.path, **options)
    metrics = ServerMetrics()
    pool = Pool(model.rungs, tasks=1, workers=1, limits=config.limits, observe=metrics.ran, decided=metrics.decided)
    app: Any = App(config, model, pool, metrics)
    settings = uvicorn.Config(app, lifespan="off", log_config=None)
    settings.load()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    pool.start()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
        lambda: LimitedProtocol(config=settings, server_state=ServerState(), app_state={}, door=Door(app)), ours
    )
    try:
        yield Client(app, theirs)
    finally:
        transport.close()
        theirs.close()
        pool.close()
        app.close()


def _run(model: ServedModel, scenario: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    async def whole() -> None:
        async with _connected(model, **options) as client:
            await scenario(client)

    asyncio.run(whole())


def _request(path: str = "/v1/rank", body: bytes | None = None, **headers: object) -> bytes:
    raw = json.dumps(rank_body(3)).encode() if body is None else body
    lines = {"host": "x", "content-type": "application/json", "content-length": len(raw)}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + raw


def _late(**more: Any) -> bytes:
    return _request(x_rankine_deadline_ms=10, **more)


def test_request_is_answered_when_it_is_let_in_at_the_door(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.send(_request(x_rankine_deadline_ms=5000, x_rankine_candidates=3, x_request_id="mine"))
        status, headers, reply = await client.answer()
        assert (status, len(reply["ids"]), headers["x-request-id"]) == (200, 3, "mine")
        assert 'rankine_requests_total{protocol="rank",status="200"} 1.0' in client.counted

    _run(opened, scenario)


def test_answer_comes_in_one_piece_when_the_request_was_let_in(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.send(_request(x_rankine_deadline_ms=5000))
        head, _, body = (await client.received()).partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head
        assert len(body) > 0
        client.send(_request(x_rankine_deadline_ms=5000))
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
        client.send(_request(x_rankine_deadline_ms=60_000))
        assert (await client.answer())[0] == 200

    _run(opened, scenario)


def test_answers_keep_their_order_when_requests_are_pipelined(opened: ServedModel) -> None:
    async def scenario(client: Client) -> None:
        client.falls_behind()
        good = _request(x_rankine_deadline_ms=60_000, x_request_id="good")
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
        client.send(_request(x_rankine_deadline_ms="soon"))
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
        with pytest.raises(AssertionError, match="closed"):
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
