"""Clients that end their side of a connection: those that listen are answered, those that left are dropped."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from rankine.serving.model import ServedModel
from unit.numpy_served import numpy_model
from unit.served_app import QUICK, Served, rank_request, received, run_served
from waiting import until

_GENERAL = "application/json; charset=utf-8"
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture
def opened(tmp_path: Path) -> ServedModel:
    return numpy_model(tmp_path)


async def busy(served: Served) -> socket.socket:
    """A client whose request runs until the gate is opened."""
    served.runner.gate.clear()
    client = served.connect()
    client.sendall(rank_request())
    await until(lambda: served.app.pool.busy and served.app.pool.queued_rows == 0)
    return client


@pytest.mark.parametrize("content_type", [QUICK, _GENERAL])
@pytest.mark.parametrize("requests", [1, 3])
def test_all_is_answered_when_the_client_ends_its_side_at_once(
    opened: ServedModel, content_type: str, requests: int
) -> None:
    async def scenario(served: Served) -> None:
        for _ in range(20):
            with served.connect() as client:
                client.sendall(rank_request(content_type=content_type) * requests)
                client.shutdown(socket.SHUT_WR)
                assert (await received(client)).count(b"HTTP/1.1 200 OK\r\n") == requests
        assert served.counted(200) == 20 * requests

    run_served(opened, scenario)


@pytest.mark.parametrize("content_type", [QUICK, _GENERAL])
def test_answer_follows_an_interim_one_when_a_client_that_ended_its_side_waits_long(
    opened: ServedModel, content_type: str
) -> None:
    async def scenario(served: Served) -> None:
        with await busy(served), served.connect() as client:
            client.sendall(rank_request(content_type=content_type))
            client.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(60):
                assert await asyncio.get_running_loop().sock_recv(client, len(_INTERIM)) == _INTERIM
            await asyncio.sleep(0.05)  # it is looked at several times meanwhile
            served.runner.gate.set()
            assert (await received(client)).startswith(b"HTTP/1.1 200 OK\r\n")
        assert served.counted(499) == 0

    run_served(opened, scenario)


@pytest.mark.parametrize("content_type", [QUICK, _GENERAL])
def test_request_never_runs_when_its_client_has_closed_the_connection(opened: ServedModel, content_type: str) -> None:
    async def scenario(served: Served) -> None:
        with await busy(served):
            with served.connect() as client:
                client.sendall(rank_request(content_type=content_type))
                await until(lambda: served.app.pool.queued_rows > 0)
            await until(lambda: len(served.state.connections) == 1)
            served.runner.gate.set()
            await until(lambda: served.counted(499) == 1)
        assert len(served.runner.batches) == 1

    run_served(opened, scenario)


def test_no_interim_answer_is_sent_when_the_client_speaks_http_1_0(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        with await busy(served), served.connect() as client:
            client.sendall(rank_request().replace(b"HTTP/1.1", b"HTTP/1.0"))
            client.shutdown(socket.SHUT_WR)
            await until(lambda: served.app.pool.queued_rows > 0)
            await asyncio.sleep(0.05)
            served.runner.gate.set()
            assert (await received(client)).startswith(b"HTTP/1.1 200 OK\r\n")

    run_served(opened, scenario)


@pytest.mark.parametrize("content_type", [QUICK, _GENERAL])
def test_connection_ends_without_an_answer_when_the_last_request_is_not_whole(
    opened: ServedModel, content_type: str
) -> None:
    async def scenario(served: Served) -> None:
        with served.connect() as client:
            client.sendall(rank_request(content_type=content_type)[:-10])
            client.shutdown(socket.SHUT_WR)
            assert await received(client) == b""
        await until(lambda: served.counted(499) == 1)

    run_served(opened, scenario)
