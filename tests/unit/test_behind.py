"""How far the server is behind: what lies in sockets, and how long a turn of the event loop takes."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from rankine.serving.heads import WAITED
from rankine.serving.kernel_wait import kernel_wait_s, tcp_socket
from rankine.serving.lag import LoopLag


def test_lag_is_zero_when_the_loop_is_idle() -> None:
    async def scenario() -> float:
        lag = LoopLag()
        assert lag.seconds == 0.0  # nothing is watched yet
        lag.start()
        await asyncio.sleep(0.05)
        return lag.seconds

    assert asyncio.run(scenario()) < 0.05


def test_lag_tells_a_turn_when_it_was_long() -> None:
    async def scenario() -> tuple[float, float]:
        lag = LoopLag()
        lag.start()
        await asyncio.sleep(0.02)
        time.sleep(0.2)
        within = lag.seconds
        await asyncio.sleep(0.001)
        return within, lag.seconds

    within, after = asyncio.run(scenario())
    assert within >= 0.15
    assert after >= 0.15


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the kernel does not tell")
def test_wait_in_the_kernel_is_told_when_nobody_has_read_a_connection() -> None:
    found: list[float] = []

    class Probe(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            found.append(kernel_wait_s(tcp_socket(self.transport)))

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Probe, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(0.3)
        await asyncio.sleep(0.1)
        client.close()
        server.close()

    asyncio.run(scenario())
    assert WAITED == "rankine.waited"
    assert 0.2 < found[0] < 5
