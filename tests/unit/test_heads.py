"""Connections that keep the server waiting, with the event loop's clock in the test's hands."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvicorn
from uvicorn.server import ServerState

from rankine.serving.heads import LimitedProtocol
from rankine.serving.stalls import STALL_S

_HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n"


Receive = Callable[[], Awaitable[object]]
Send = Callable[[dict[str, object]], Awaitable[None]]


async def _application(scope: dict[str, object], receive: Receive, send: Send) -> None:
    await receive()
    if scope["method"] == "POST":
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def _stays_open(sent: bytes, after_s: float, then: bytes = b"") -> bool:
    """Whether a connection to which ``sent`` and then ``then`` have come outlives a look at it ``after_s`` later."""

    async def scenario() -> bool:
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(_application, lifespan="off", log_config=None)
        config.load()
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.connect_accepted_socket(
            lambda: LimitedProtocol(config=config, server_state=ServerState(), app_state={}), ours
        )
        theirs.sendall(sent)
        await asyncio.sleep(0.02)
        theirs.sendall(then)
        await asyncio.sleep(0.02)
        protocol.close_if_stalled(loop.time() + after_s)
        closed = transport.is_closing()
        for task in protocol.tasks:
            task.cancel()
        transport.close()
        theirs.close()
        await asyncio.sleep(0)
        return not closed

    return asyncio.run(scenario())


@pytest.mark.parametrize("sent", [_HEAD[:20], _HEAD, _HEAD + b"\r\n", _HEAD + b"\r\nab"])
def test_connection_is_closed_when_head_or_body_stops_in_the_middle(sent: bytes) -> None:
    assert _stays_open(sent, STALL_S - 5)
    assert not _stays_open(sent, STALL_S + 5)


def test_connection_stays_open_when_its_request_is_whole_and_waits_for_the_answer() -> None:
    assert _stays_open(_HEAD + b"\r\nabcd", 10 * STALL_S)


def test_connection_is_closed_when_it_never_says_anything() -> None:
    assert _stays_open(b"", 2 * STALL_S)
    assert not _stays_open(b"", 5 * STALL_S)


@pytest.mark.parametrize("then", [b"", b"\r\n"])
def test_connection_is_closed_when_nothing_is_asked_for_long_after_an_answer(then: bytes) -> None:
    answered = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    assert _stays_open(answered, 3 * STALL_S, then=then)
    assert not _stays_open(answered, 5 * STALL_S, then=then)
