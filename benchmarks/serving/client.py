"""The generator's own HTTP/1.1: little work a request, so that one core can drive a server that is quick.

As many keep-alive connections as there are requests under way; the one that was used last is used first. Bodies are
prepared before the clock starts; only the time that is left is written when a request is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import NamedTuple, Self, cast
from urllib.parse import urlsplit

from rankine.observation.load.answer import Answer, Body, Timings


class Reply(NamedTuple):
    """What a server answered, best first; ``run_ms`` of the engine, where it was told."""

    ids: Sequence[int]
    scores: Sequence[float]
    run_ms: float | None = None


Read = Callable[[bytes, bytes], Reply | None]
"""Head and body of a reply with status 200 to what they say; None where they are no answer."""

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\ncontent-length:"


@dataclass(frozen=True, slots=True)
class Message(Body):
    """A request that is ready to be sent, but for its deadline.

    Attributes:
        head: request line and headers, without the blank line at their end.
        deadline_ms: from when it is due; a later answer is of no use.
    """

    head: bytes
    deadline_ms: float


class Client:
    """Sends messages to one server, never waiting for a connection; use as an asynchronous context manager.

    Args:
        read: of the server's wire.
        deadline_header: name of the header that takes the time left in milliseconds; None where the server has none.
        bound_ms: an answer that is later than its own shorter deadline has the outcome ``late``; this is the usual one.
        timeout_s: then a client gives up, and closes its connection.
    """

    def __init__(
        self, url: str, read: Read, *, deadline_header: bytes | None, bound_ms: float, timeout_s: float = 1.0
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._read, self._deadline_header = read, deadline_header
        self._bound_ms, self._timeout_s = bound_ms, timeout_s
        self._free: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in self._free:
            connection.close()
        self._free.clear()

    async def rank(self, body: Message, due_s: float, start: float) -> Answer:
        """Send ``body`` and wait for its answer; times count from ``start`` (a ``perf_counter`` reading)."""
        sent_s = perf_counter() - start
        left_ms = body.deadline_ms - 1e3 * (sent_s - due_s)
        try:
            status, reply_head, raw = await self._exchange(self._whole(body, left_ms))
        except TimeoutError:
            return Answer(due_s, sent_s, perf_counter() - start, "timeout", False, body.rows)
        except ConnectionRefusedError:
            return Answer(due_s, sent_s, perf_counter() - start, "unreachable", False, body.rows)
        except OSError:
            return Answer(due_s, sent_s, perf_counter() - start, "disconnected", False, body.rows)
        done_s = perf_counter() - start
        if status != 200:
            return Answer(due_s, sent_s, done_s, str(status), False, body.rows)
        reply = self._read(reply_head, raw)
        if body.deadline_ms < self._bound_ms and 1e3 * (done_s - due_s) > body.deadline_ms:
            return Answer(due_s, sent_s, done_s, "late", False, body.rows)
        right = reply is not None and len(reply.ids) == len(reply.scores) == body.expected_ids
        timings = None if reply is None or reply.run_ms is None else Timings(reply.run_ms)
        return Answer(due_s, sent_s, done_s, "200", right, body.rows, timings)

    async def reply(self, body: Message) -> Reply | None:
        """What the server answers to ``body``; None where that is no answer.

        Raises:
            OSError: the connection failed, or nothing came in time.
        """
        status, head, raw = await self._exchange(self._whole(body, body.deadline_ms))
        return self._read(head, raw) if status == 200 else None

    def _whole(self, body: Message, left_ms: float) -> bytes:
        if self._deadline_header is None:
            return body.head + _HEAD_END + body.payload
        return b"%b\r\n%b: %.1f%b%b" % (body.head, self._deadline_header, left_ms, _HEAD_END, body.payload)

    async def _exchange(self, data: bytes) -> tuple[int, bytes, bytes]:
        while self._free:
            connection = self._free.pop()
            try:
                return await self._use(connection, data)
            except _Stale:  # the server closed it while it was idle: it has not seen the request
                continue
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return await self._use(connection, data)

    async def _use(self, connection: _Connection, data: bytes) -> tuple[int, bytes, bytes]:
        try:
            reply = await connection.exchange(data, self._timeout_s)
        except BaseException:  # also a cancelled request: what comes back on this connection is of no use
            connection.close()
            raise
        if connection.reusable:
            self._free.append(connection)
        else:
            connection.close()
        return reply


class _Stale(ConnectionError):
    """A kept connection had been closed by the server."""


class _Connection(asyncio.Protocol):
    """One connection, one request at a time; replies have a length (chunked ones are refused)."""

    def __init__(self) -> None:
        self.reusable = True
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self._received = bytearray()
        self._head_bytes = self._total_bytes = self._requests = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its base class

    async def exchange(self, data: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
        if self._transport is None or self._transport.is_closing():
            raise _Stale
        self._reply = self._loop.create_future()
        self._received.clear()
        self._head_bytes = 0
        self._requests += 1
        self._transport.write(data)
        timer = self._loop.call_later(timeout_s, self._fail, TimeoutError())
        try:
            return await self._reply
        finally:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._head_bytes:
            end = self._received.find(_HEAD_END)
            if end < 0:
                return
            self._head_bytes = end + len(_HEAD_END)
            length = self._length(bytes(self._received[: self._head_bytes]).lower())
            if length is None:
                self._fail(ConnectionError("a reply without content-length"))
                return
            self._total_bytes = self._head_bytes + length
        if len(self._received) >= self._total_bytes and self._reply is not None and not self._reply.done():
            raw = bytes(self._received)
            head = raw[: self._head_bytes]
            self._reply.set_result((int(head[9:12]), head, raw[self._head_bytes : self._total_bytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        untouched = self._requests > 1 and not self._received
        self._fail(_Stale() if untouched else ConnectionResetError("closed by the server"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _length(self, head: bytes) -> int | None:
        self.reusable = self.reusable and b"\nconnection: close" not in head
        at = head.find(_LENGTH)
        return None if at < 0 else int(head[at + len(_LENGTH) : head.find(b"\r", at)])

    def _fail(self, error: Exception) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
