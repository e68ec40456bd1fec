"""Servers with few file descriptors: whom they cannot take they tell so."""

from __future__ import annotations

import contextlib
import json
import socket
from collections import Counter
from pathlib import Path

import pytest

from e2e.serve_process import ServerProcess, run_server, start_server
from e2e.small_served import rank_body
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e
CLIENTS = 400


def statuses(server: ServerProcess, clients: int = CLIENTS) -> Counter[bytes]:
    """How many of so many clients, all connected at once, got which answer; empty where there was none."""
    body = json.dumps(rank_body(3)).encode()
    head = (
        f"POST /v1/rank HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with contextlib.ExitStack() as leave:
        opened = [
            leave.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            for _ in range(clients)
        ]
        for client in opened:
            with contextlib.suppress(ConnectionError):  # of one that was refused already; its answer is there
                client.sendall(head.encode() + body)
        return Counter(client.recv(1 << 16)[9:12] for client in opened)


@pytest.mark.parametrize("more", [{}, {"processes": 2}, {"isolate": True}, {"grpc_port": 0}], ids=str)
def test_every_client_is_answered_when_there_are_fewer_descriptors_than_clients(
    config: ServeConfig, more: dict[str, object]
) -> None:
    server = start_server(config.model_copy(update=more), limits="-n 256")
    found = statuses(server)
    assert server.stop() == 0
    assert set(found) == {b"200", b"503"}
    warnings = [line for line in map(json.loads, server.log) if "file descriptors" in line["message"]]
    assert len(warnings) == config.model_copy(update=more).processes
    assert all(line["descriptors"] == 256 and "ulimit -n" in line["hint"] for line in warnings)
    assert found[b"200"] <= sum(line["allowed"] for line in warnings)
    assert found[b"200"] >= max(line["allowed"] for line in warnings)


def test_limit_is_raised_and_all_are_served_when_the_hard_limit_allows_it(config: ServeConfig) -> None:
    server = start_server(config.model_copy(update={"max_connections": 500}), limits="-Sn 256")
    assert statuses(server) == {b"200": CLIENTS}
    [line] = [line for line in Path(f"/proc/{server.process.pid}/limits").read_text().splitlines() if "files" in line]
    assert int(line.split()[3]) == 500 + 1024
    assert server.stop() == 0
    assert not [line for line in server.log if "descriptor" in line]


def test_serve_refuses_to_start_when_there_is_no_descriptor_for_a_connection(config: ServeConfig) -> None:
    process = run_server(config, limits="-n 90")
    _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "too few file descriptors (got 90; allowed: at least " in log
