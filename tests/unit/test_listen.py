"""Addresses that a server takes, or does not get, on real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop

from rankine.errors import UsageError
from rankine.serving import ServeConfig
from rankine.serving.listen import bind, reserve, several

CONFIG = ServeConfig(artifact=Path("x"), port=0, grpc_port=0)


def test_grpc_port_is_refused_when_another_server_of_the_same_user_shares_it() -> None:
    holder = reserve(CONFIG)
    assert holder is not None
    with holder, pytest.raises(UsageError, match=r"cannot listen: Address already in use.*--grpc-port"):
        reserve(CONFIG.model_copy(update={"grpc_port": holder.getsockname()[1]}))


def test_processes_of_one_server_share_the_grpc_port_when_it_is_reserved() -> None:
    holder = reserve(CONFIG)
    assert holder is not None
    address = holder.getsockname()
    with holder, socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(address)
            one.listen()
    again = reserve(CONFIG.model_copy(update={"grpc_port": address[1]}))  # they are gone
    assert again is not None
    again.close()


def test_http_port_is_refused_when_another_server_listens_there() -> None:
    with bind(CONFIG) as listener:
        listener.listen()
        with pytest.raises(UsageError, match=r"cannot listen: Address already in use.*--port"):
            bind(CONFIG.model_copy(update={"port": listener.getsockname()[1]}))


def test_host_is_refused_when_it_does_not_exist() -> None:
    with pytest.raises(UsageError, match="cannot listen"):
        bind(CONFIG.model_copy(update={"host": "host.invalid"}))


def test_connections_are_accepted_many_at_a_time_when_a_loop_turns_slowly() -> None:
    turn_s, count = 0.05, 64

    async def accepted() -> int:
        loop = asyncio.get_running_loop()
        made: list[asyncio.BaseTransport] = []

        class Connection(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.append(transport)

        def slow() -> None:
            time.sleep(turn_s)
            loop.call_soon(slow)

        with bind(CONFIG) as listener, ExitStack() as clients:
            servers = [await loop.create_server(Connection, sock=one, backlog=count) for one in several(listener)]
            for _ in range(count):
                clients.enter_context(socket.create_connection(listener.getsockname()))
            loop.call_soon(slow)
            end_s = loop.time() + 10 * turn_s
            while loop.time() < end_s:
                await asyncio.sleep(0)
            for server in servers:
                server.close()
            for transport in made:
                transport.close()
        return len(made)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(accepted()) == count  # one a turn would have been ten
