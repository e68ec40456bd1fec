"""What becomes of a request whose process dies, against a real socket that ends as a dead process's does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

import pytest

from rankine.policy.reason import Reason
from rankine.serving.board import Board, Slot, State
from rankine.serving.http import Reply, Request
from rankine.serving.neighbors import Neighbors, ProcessDied
from rankine.serving.process import ServerProcess

BODY = b"x" * 100
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_and_die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(BODY)
    writer.close()


async def die_unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(0.05)
    writer.transport.abort()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(BODY)
    writer.write(OK)
    await writer.drain()
    writer.close()


def asked(folder: Path, serve: Serve | None, *, wait_s: float) -> tuple[Reply | None, list[Reason]]:
    """What comes of a request that process 1 has, which tells of so long a wait; ``serve`` None: it is gone."""
    board, board_fd = Board.create(2)
    os.close(board_fd)
    process = ServerProcess(0, board, folder, os.getpid(), 1.0)
    reasons: list[Reason] = []

    async def ask() -> Reply | None:
        board.put(1, Slot(perf_counter(), State.READY, 1, finish_s=wait_s + 0.001, middling_s=0.001))
        server = None if serve is None else await asyncio.start_unix_server(serve, process.socket_of(1))
        neighbors = Neighbors(process, lambda: 1.0, reasons.append)
        try:
            return await neighbors.ask(1, Request("r1", "POST", "/v1/rank", b"", {}, perf_counter(), None), BODY)
        finally:
            neighbors.close()
            if server is not None:
                server.close()

    return asyncio.run(ask()), reasons


def test_request_is_not_run_again_when_the_process_that_may_have_begun_with_it_dies(tmp_path: Path) -> None:
    with pytest.raises(ProcessDied, match="process 1: the process that was to answer has died") as caught:
        asked(tmp_path, read_and_die, wait_s=0.0)
    assert (caught.value.http_status, caught.value.code) == (500, "process_died")


def test_request_is_taken_back_when_the_process_that_has_it_dies_before_its_turn(tmp_path: Path) -> None:
    assert asked(tmp_path, read_and_die, wait_s=60.0) == (None, [Reason.HANDED_OVER, Reason.TAKEN_BACK])


def test_request_is_taken_back_when_the_process_died_before_it_was_sent(tmp_path: Path) -> None:
    assert asked(tmp_path, None, wait_s=0.0) == (None, [Reason.HANDED_OVER, Reason.TAKEN_BACK])


def test_request_is_taken_back_when_the_process_dies_before_it_has_read_it(tmp_path: Path) -> None:
    assert asked(tmp_path, die_unread, wait_s=0.0) == (None, [Reason.HANDED_OVER, Reason.TAKEN_BACK])


def test_request_is_answered_by_the_other_process_when_that_lives(tmp_path: Path) -> None:
    reply, reasons = asked(tmp_path, answer, wait_s=0.0)
    assert reply is not None
    assert (reply.status, reply.body, reasons) == (200, b"ok", [Reason.HANDED_OVER])
