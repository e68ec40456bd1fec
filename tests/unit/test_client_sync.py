"""The client that waits, used from several threads."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from rankine.client import Client, ClientSettings
from rankine.errors import DeadlineExceeded, UsageError
from unit.client_server import IDS, Behavior, TestServer


@contextmanager
def served(server: TestServer) -> Iterator[TestServer]:
    """A server in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.kill(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_rank_answers_every_thread_when_many_share_a_client() -> None:
    settings = ClientSettings(deadline_s=30)
    with served(TestServer()) as server, Client([server.url], settings) as client, ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda user: client.rank({"user": user}, IDS), range(100)))
    assert [reply.ids for reply in replies] == [[3, 1]] * 100
    assert sorted(received.body["request"]["user"] for received in server.received) == list(range(100))


def test_rank_raises_deadline_when_the_server_is_silent() -> None:
    silent = TestServer(lambda number: Behavior(delay_s=30))
    with served(silent), Client([silent.url]) as client, pytest.raises(DeadlineExceeded):
        client.rank({}, IDS, deadline_s=0.1)


def test_rank_ends_when_another_thread_closes_the_client() -> None:
    with served(TestServer(lambda number: Behavior(delay_s=30))) as server, ThreadPoolExecutor(1) as threads:
        client = Client([server.url], ClientSettings(deadline_s=60))
        waiting = threads.submit(client.rank, {}, IDS)
        while not server.received:
            pass
        client.close()
        with pytest.raises(UsageError, match="closed"):
            waiting.result(30)


def test_rank_is_refused_when_the_client_is_closed() -> None:
    client = Client(["http://127.0.0.1:1"])
    client.close()
    client.close()
    with pytest.raises(UsageError, match="the client is closed"):
        client.rank({}, IDS)


def test_import_loads_neither_aiohttp_nor_numpy_when_only_the_client_is_imported() -> None:
    program = "import sys, rankine.client; print([n for n in ('aiohttp', 'numpy', 'uvicorn') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
