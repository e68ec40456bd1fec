"""The client that server processes ask each other with, against a real server on a Unix socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rankine.serving.unix_http import UnixClient

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Rankine-Process:  1\r\n\r\nok"
CLOSING = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
ASK = b"GET / HTTP/1.1\r\n\r\n"


class Server:
    """Answers each request by the next of ``replies``; an empty one ends the connection."""

    def __init__(self, path: Path, replies: list[bytes]) -> None:
        self.path, self.replies = path, replies
        self.connections = 0

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                reply = self.replies.pop(0)
                writer.write(reply)
                await writer.drain()
                if not reply or b"close" in reply:
                    return
        except asyncio.IncompleteReadError:
            return  # the client has closed
        finally:
            writer.close()


def test_client_keeps_its_connection_when_the_reply_is_whole(tmp_path: Path) -> None:
    async def ask() -> int:
        async with Server(tmp_path / "s", [REPLY, REPLY]) as server:
            client = UnixClient(server.path)
            for _ in range(2):
                reply = await client.ask(ASK)
                assert (reply.status, reply.body) == (200, b"ok")
                assert (b"x-rankine-process", b"1") in reply.headers
            client.close()
            return server.connections

    assert asyncio.run(ask()) == 1


def test_client_connects_anew_when_the_other_side_has_closed(tmp_path: Path) -> None:
    async def ask() -> int:
        async with Server(tmp_path / "s", [CLOSING, REPLY, REPLY]) as server:
            client = UnixClient(server.path)
            assert [(await client.ask(ASK)).status for _ in range(3)] == [503, 200, 200]
            client.close()
            return server.connections

    assert asyncio.run(ask()) == 2


def test_client_says_so_when_the_other_side_ends_without_an_answer(tmp_path: Path) -> None:
    async def ask() -> None:
        async with Server(tmp_path / "s", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nclose"]) as server:
            client = UnixClient(server.path)
            with pytest.raises((EOFError, OSError)):
                await client.ask(ASK)
            assert (await client.ask(ASK)).body == b"close"
            client.close()

    asyncio.run(ask())


def test_client_says_so_when_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        asyncio.run(UnixClient(tmp_path / "none").ask(ASK))
