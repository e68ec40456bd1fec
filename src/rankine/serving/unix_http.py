"""A small HTTP/1.1 client over Unix sockets, for the server processes of one host among themselves.

The other side is this same server, which always announces the length of what it answers.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RawReply", "UnixClient"]

_HEAD_BYTES = 256 << 10
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class RawReply:
    """A response; names of headers are lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class UnixClient:
    """Asks one server, on connections that it keeps; for one event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, message: bytes) -> RawReply:
        """The reply to a whole request, head and body as they go over the wire.

        A call that is canceled closes its connection, so that the other side drops the request.

        Raises:
            OSError, EOFError: the other side is not there, or ended meanwhile.
        """
        reader, writer = self._kept() or await asyncio.open_unix_connection(self._path, limit=_HEAD_BYTES)
        whole = False
        try:
            writer.write(message)
            await writer.drain()
            reply = await _read(reader)
            whole = (b"connection", b"close") not in reply.headers
        finally:
            if whole:
                self._keep(reader, writer)
            else:
                writer.close()
        return reply

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop()[1].close()

    def _keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._idle and self._idle[0][0].at_eof():  # what was needed once in a burst does not stay open for ever
            self._idle.pop(0)[1].close()
        self._idle.append((reader, writer))

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None


async def _read(reader: asyncio.StreamReader) -> RawReply:
    head = await reader.readuntil(_END)
    first, *lines = head[: -len(_END)].split(b"\r\n")
    headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines))
    length = int(dict(headers).get(b"content-length", b"0"))
    return RawReply(int(first.split(b" ", 2)[1]), headers, await reader.readexactly(length))
