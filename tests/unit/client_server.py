"""A tiny real HTTP server that behaves and misbehaves on order: slow, full, broken, dead, and back again."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rankine.client import ClientSettings

REQUEST = {"user": 7}
IDS = [1, 2, 3]
CALM = ClientSettings(deadline_s=20, hedge_share=0, network_allowance_s=0)
"""Nothing happens that a test did not order."""
GOOD = {
    "ids": [3, 1],
    "scores": [0.9, 0.25],
    "request_id": "r-1",
    "artifact": "d1gest",
    "generation": 4,
    "variant": "baseline",
    "engine": "native",
}


def run(test: Coroutine[Any, Any, None]) -> None:
    """A test with a time limit."""
    asyncio.run(asyncio.wait_for(test, 60))


@dataclass(frozen=True)
class Behavior:
    """How one request is answered.

    Attributes:
        cut: bytes of the reply after which the connection is closed; None for a whole reply.
    """

    status: int = 200
    body: Any = field(default_factory=lambda: GOOD)
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: int | None = None


@dataclass(frozen=True)
class Received:
    """One request as it came; names of headers are lower case."""

    path: str
    headers: Mapping[str, str]
    body: Any


def full(retry_after: str = "1", **headers: str) -> Behavior:
    """A refusal for want of room, as Rankine's server writes it."""
    error = {"code": "capacity", "message": "the queue is full", "hint": "Try again in 1 s."}
    return Behavior(503, {"error": error, "request_id": "r-2"}, {"retry-after": retry_after, **headers})


class TestServer:
    """One server of the running event loop; use as an asynchronous context manager.

    Attributes:
        behave: gives the behavior for the n-th rank request, from 0.
        ready: what the readiness probe says.
        received: the rank requests.
        probes: how often the probe was asked.
        abandoned: requests whose client left before the answer.
    """

    __test__ = False

    def __init__(self, behave: Callable[[int], Behavior] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.behave = behave or (lambda number: Behavior())
        self.ready = True
        self.received: list[Received] = []
        self.probes = 0
        self.abandoned = 0
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.kill()

    async def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """Stop listening and reset every connection, as a killed process does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._writers.add(writer)
        self._handlers.add(task)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()  # the client left, or this server is being killed
        finally:
            self._writers.discard(writer)
            self._handlers.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        if path == "/v2/health/ready":
            self.probes += 1
            behavior = Behavior(200 if self.ready else 503, {})
        else:
            self.received.append(Received(path, headers, json.loads(raw)))
            behavior = self.behave(len(self.received) - 1)
        if behavior.delay_s and await _left_within(reader, behavior.delay_s):
            self.abandoned += 1
            return False
        reply = _render(behavior)
        writer.write(reply if behavior.cut is None else reply[: behavior.cut])
        await writer.drain()
        return behavior.cut is None


async def _left_within(reader: asyncio.StreamReader, delay_s: float) -> bool:
    """Wait; whether the client closed the connection meanwhile."""
    try:
        async with asyncio.timeout(delay_s):
            return await reader.read(1) == b""
    except TimeoutError:
        return False


def _render(behavior: Behavior) -> bytes:
    body = behavior.body if isinstance(behavior.body, bytes) else json.dumps(behavior.body).encode()
    lines = [f"HTTP/1.1 {behavior.status} Any", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in behavior.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
