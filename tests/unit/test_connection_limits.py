"""Bounds on the number of HTTP connections, and on the time that a whole request may take."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from rankine.serving.heads import LimitedProtocol

_HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n"
_SETTLE_S = 0.02


async def _application(scope: object, receive: Callable[[], Awaitable[object]], send: object) -> None:
    await receive()
    await asyncio.Event().wait()


async def _connect(state: ServerState, **limits: Any) -> tuple[Any, Any, socket.socket]:
    """The server's transport and protocol of a new connection, and the client's end of it."""
    config = uvicorn.Config(_application, lifespan="off", log_config=None)
    config.load()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(
        lambda: LimitedProtocol(config=config, server_state=state, app_state={}, **limits), ours
    )
    return transport, protocol, theirs


def test_connection_is_closed_when_its_body_never_stops_but_takes_too_long() -> None:
    async def scenario() -> list[bool]:
        transport, protocol, theirs = await _connect(ServerState(), max_read_s=60.0)
        theirs.sendall(_HEAD + b"a")
        await asyncio.sleep(_SETTLE_S)
        begun_s = asyncio.get_running_loop().time()
        closed = []
        for after_s in (15, 30, 45, 59, 61):  # a byte now and then: never a pause of STALL_S
            protocol.loop = _At(begun_s + after_s)
            theirs.sendall(b"b")
            await asyncio.sleep(_SETTLE_S)
            protocol.close_if_stalled(begun_s + after_s)
            closed.append(transport.is_closing())
        transport.close()
        theirs.close()
        return closed

    assert asyncio.run(scenario()) == [False, False, False, False, True]


class _At:
    """An event loop's clock, in the test's hands; all else is the running loop's."""

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s
        self._loop = asyncio.get_running_loop()

    def time(self) -> float:
        return self._now_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def test_connection_is_refused_with_503_when_there_are_as_many_as_allowed() -> None:
    async def scenario() -> tuple[bytes, bool, bytes]:
        state = ServerState()
        first, _, theirs_first = await _connect(state, max_connections=1)
        second, _, theirs_second = await _connect(state, max_connections=1)
        theirs_second.sendall(_HEAD)
        await asyncio.sleep(_SETTLE_S)
        refusal = theirs_second.recv(1000)
        stays = not first.is_closing()
        first.close()  # then there is room again
        second.close()
        await asyncio.sleep(_SETTLE_S)
        third, protocol, theirs_third = await _connect(state, max_connections=1)
        theirs_third.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.sleep(_SETTLE_S)
        asked = protocol.scope["method"].encode()
        for task in protocol.tasks:
            task.cancel()
        third.close()
        for end in (theirs_first, theirs_second, theirs_third):
            end.close()
        await asyncio.sleep(0)
        return refusal, stays, asked

    refusal, stays, asked = asyncio.run(scenario())
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert json.loads(refusal.partition(b"\r\n\r\n")[2])["error"]["code"] == "capacity"
    assert b"connection: close" in refusal
    assert stays
    assert asked == b"GET"


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505", "version of HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", b"400", "this is TLS"),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", b"431", "head is too large"),
    ],
    ids=["h2 preface", "TLS", "large head"],
)
def test_what_never_becomes_a_request_is_told_as_json(sent: bytes, status: bytes, message: str) -> None:
    async def scenario() -> bytes:
        transport, _, theirs = await _connect(ServerState())
        theirs.sendall(sent)
        await asyncio.sleep(_SETTLE_S)
        answer = theirs.recv(10_000)
        transport.close()
        theirs.close()
        await asyncio.sleep(0)
        return answer

    head, _, body = asyncio.run(scenario()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in head
    assert f"content-length: {len(body)}".encode() in head
    assert message in json.loads(body)["error"]["message"]
