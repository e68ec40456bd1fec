"""How the processes of a server end: nothing that they have begun is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from e2e.counting_client import CountingConnection
from e2e.process_group import LIMIT_S, pids, start_clients, stop_clients, wait_for
from e2e.serve_process import ServerProcess, start_server
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e


def test_no_request_is_lost_when_one_process_is_terminated_under_load(two: ServerProcess) -> None:
    wait_for(lambda: len(pids(two)) == 2)
    clients = start_clients(two)
    before = pids(two)
    os.kill(before[0], signal.SIGTERM)
    wait_for(lambda: pids(two)[0] != before[0])
    stop_clients(clients)
    assert [(client.lost, client.extra) for client in clients] == [([], b"")] * len(clients)
    assert {answer.status for client in clients for answer in client.answers} == {200}
    assert pids(two)[1] == before[1]


@pytest.mark.parametrize("one_before", [False, True])
def test_no_request_is_cut_when_all_processes_are_terminated_under_load(
    two_config: ServeConfig, *, one_before: bool
) -> None:
    server = start_server(two_config)
    clients = start_clients(server)
    wait_for(lambda: len(pids(server)) == 2)
    if one_before:
        os.kill(pids(server)[0], signal.SIGTERM)
        wait_for(lambda: any('"draining"' in line for line in list(server.log)))
    server.terminate()
    for client in clients:
        client.join(LIMIT_S)
        assert not client.is_alive()
    assert server.wait() == 0
    assert [(client.lost, client.extra) for client in clients] == [([], b"")] * len(clients)
    assert {answer.status for client in clients for answer in client.answers} <= {200, 503}


@pytest.mark.parametrize("processes", [1, 2])
def test_no_request_is_cut_when_the_terminal_of_a_server_under_load_is_closed(
    two_config: ServeConfig, *, processes: int
) -> None:
    server = start_server(two_config.model_copy(update={"processes": processes}))
    connections = [CountingConnection(server.port, rows=2000) for _ in range(4)]
    for connection in connections:
        connection.send()
    for _ in range(2):  # the kernel sends one, a shell another
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    assert server.wait() == 0
    assert {connection.receive().status for connection in connections} == {200}
    for connection in connections:
        connection.connection.close()


def test_all_processes_end_when_the_supervisor_is_killed(two_config: ServeConfig, tmp_path: Path) -> None:
    server = start_server(two_config, {"TMPDIR": str(tmp_path)})
    wait_for(lambda: len(pids(server)) == 2)
    assert len(list(tmp_path.glob("rankine-*/*.sock"))) == 2
    server.process.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids(server).values()))
    assert list(tmp_path.glob("rankine-*/*.sock")) == []
    assert server.wait() == -signal.SIGKILL
