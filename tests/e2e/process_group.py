"""Several processes behind one port: which they are, what they count, and one of them standing still."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.counting_client import Counted, CountingClient, CountingConnection
from e2e.serve_process import ServerProcess

__all__ = [
    "LIMIT_S",
    "answer_of",
    "counted",
    "decisions",
    "frozen",
    "pids",
    "scrape",
    "start_clients",
    "stop_clients",
    "wait_for",
]

LIMIT_S = 60.0


def pids(server: ServerProcess) -> dict[int, int]:
    """The newest process of each number, as the log has it."""
    ready = [line for line in map(json.loads, list(server.log)) if line["message"] == "ready"]
    return {line["process"]: line["pid"] for line in ready}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def counted(server: ServerProcess, name: str) -> dict[int, float]:
    """A metric by process, its other labels added up."""
    found: dict[int, float] = {}
    for number, value in re.findall(rf'^{name}\{{process="(\d+)".*\}} (\S+)$', scrape(server), re.MULTILINE):
        found[int(number)] = found.get(int(number), 0.0) + float(value)
    return found


def decisions(server: ServerProcess, reason: str) -> float:
    found = re.findall(rf'^rankine_decisions_total\{{process="\d+",reason="{reason}"\}} (\S+)$', scrape(server), re.M)
    return sum(map(float, found))


def scrape(server: ServerProcess) -> str:
    return server.ask("GET", "/metrics").body.decode()


def answer_of(server: ServerProcess) -> Counted:
    """One small request on a connection of its own."""
    connection = CountingConnection(server.port)
    try:
        return connection.ask()
    finally:
        connection.connection.close()


def start_clients(server: ServerProcess, count: int = 6) -> list[CountingClient]:
    clients = [CountingClient(server.port) for _ in range(count)]
    for client in clients:
        client.start()
    wait_for(lambda: min(len(client.answers) for client in clients) >= 5)
    return clients


def stop_clients(clients: list[CountingClient]) -> None:
    for client in clients:
        client.over.set()
    for client in clients:
        client.join(LIMIT_S)
        assert not client.is_alive()
