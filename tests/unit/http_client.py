"""A client of an application in this process: its answers as status, headers and body."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from rankine.serving.app import App
from unit.standing_line import fall_behind

__all__ = ["Answer", "HttpClient", "Inside"]

Answer = tuple[int, dict[str, str], Any]

_LIMIT_S = 5


class HttpClient:
    """One connection. What it waits for comes within seconds, or the test fails."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def ask(self, raw: bytes) -> Answer:
        self.send(raw)
        return await self.answer()

    async def answer(self) -> Answer:
        """The next one.

        Raises:
            IncompleteReadError: the connection was closed.
        """
        async with asyncio.timeout(_LIMIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip()
            status, *lines = head.split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers["content-length"]))
            return int(status.split()[1]), headers, json.loads(body) if body else None

    async def received(self) -> bytes:
        """What comes next at once."""
        async with asyncio.timeout(_LIMIT_S):
            return await self.reader.read(1 << 16)


class Inside:
    """What a test sees of an application and does to it that no client could."""

    def __init__(self, app: App) -> None:
        self.app = app

    @property
    def counted(self) -> str:
        return self.app.metrics.render(0).decode()

    def falls_behind(self) -> None:
        """From now on many are in line, and nobody is let in to try whether it is so."""
        fall_behind(self.app.reception)
