"""A real server's connection whose last request cannot be read: what was asked before is answered first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
import uvicorn

from rankine.serving.heads import LimitedProtocol

FIRST = b"GET /1 HTTP/1.1\r\nhost: x\r\n\r\n"
SEEN: list[Mapping[bytes, bytes]] = []


async def slow(scope: Any, receive: Any, send: Any) -> None:
    SEEN.append(dict(scope["headers"]))
    await asyncio.sleep(0.1)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"FIRST"})


def exchanged(*parts: bytes, ends: bool = False) -> bytes:
    """All that a server answers on one connection to these bytes, a read each."""

    async def scenario() -> bytes:
        config = uvicorn.Config(slow, http=LimitedProtocol, port=0, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname()[:2])
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.02)
        if ends:
            writer.write_eof()
        got = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        server.should_exit = True
        await task
        return got

    return asyncio.run(scenario())


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("second", [b"GET /2 HTTP/1.1\r\n\r\n", b"garbage\r\n\r\n"])
def test_refusal_comes_after_the_answer_when_both_were_asked_in_one_read(second: bytes, ends: bool) -> None:
    first, refusal = exchanged(FIRST + second, ends=ends).split(b"FIRST")
    assert b"HTTP/1.1 200" in first  # after an interim response, where the client has ended its side
    assert refusal.startswith(b"HTTP/1.1 400")


def test_refusal_comes_after_all_answers_when_several_were_asked() -> None:
    answers = exchanged(FIRST, FIRST + FIRST + b"garbage\r\n\r\n")
    assert [part[:12] for part in answers.split(b"FIRST")] == [b"HTTP/1.1 200"] * 3 + [b"HTTP/1.1 400"]


def test_refusal_is_told_when_the_body_before_it_breaks_off() -> None:
    chunked = b"POST /1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n"
    assert exchanged(chunked).startswith(b"HTTP/1.1 400")


def test_spaces_behind_a_value_are_no_part_of_it_when_the_parser_reads_it() -> None:
    SEEN.clear()
    exchanged(b"GET /1 HTTP/1.1\r\nhost: x\r\nx-rankine-ten", b"ant: gold \t \r\nconnection: close\r\n\r\n")
    assert SEEN[0][b"x-rankine-tenant"] == b"gold"
