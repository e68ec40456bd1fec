"""What a server does when the machine or its clients misbehave. That SIGTERM loses nothing: test_serve_end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from conftest import end_without
from e2e.clock import fake_clock, faketime_library, set_clock
from e2e.serve_process import ServerProcess, run_server, start_server
from e2e.small_served import rank_body
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e
RANK = "/v1/models/small/rank"
IN_TIME = {"x-rankine-deadline-ms": "5000"}
FROZEN_S = 2.0


def ask(server: ServerProcess, times: int = 1) -> list[int]:
    """Statuses of requests with a deadline, one after the other."""
    return [server.ask("POST", RANK, rank_body(20), IN_TIME).status for _ in range(times)]


def ran(server: ServerProcess) -> int:
    """Requests that the engine has run."""
    metrics = server.ask("GET", "/metrics").body.decode()
    found = re.search(r"^rankine_batch_requests_sum (\S+)$", metrics, re.MULTILINE)
    assert found is not None
    return round(float(found.group(1)))


# The clock


def test_deadlines_hold_when_the_wall_clock_is_set(config: ServeConfig, tmp_path: Path) -> None:
    library = faketime_library()
    if library is None:
        end_without("libfaketime is not installed: pip install libfaketime")
    told = tmp_path / "clock"
    logged = config.model_copy(update={"log_requests": True, "default_deadline_ms": 5000.0})
    server = start_server(logged, fake_clock(library, told))
    statuses = ask(server, 3)
    for ahead_s in (3600, 0, -3600, 0):
        set_clock(told, ahead_s)
        statuses += ask(server, 3)
    # Both clocks of the server moved while requests were under way, too.
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, server, 20) for _ in range(4)]
        for ahead_s in (3600, -3600, 3600):
            set_clock(told, ahead_s)
        statuses += [status for one in asked for status in one.result()]
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log]
    times = [datetime.fromisoformat(line["time"]) for line in lines if line["message"] == "request"]
    steps_s = [(later - sooner).total_seconds() for sooner, later in pairwise(times)]
    assert max(steps_s) > 3000  # it was really set
    assert min(steps_s) < -3000
    assert statuses == [200] * len(statuses)


# Logs that cannot be written


@contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    """A file on a file system of 64 KiB that is full; ``/dev/full`` where nothing may be mounted."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        yield Path("/dev/full")
        return
    try:
        (folder / "other").write_bytes(b"x" * (60 << 10))
        yield folder / "log"
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_requests_are_answered_when_the_disk_of_the_log_is_full(config: ServeConfig, tmp_path: Path) -> None:
    logged = config.model_copy(update={"log_requests": True})
    with full_disk(tmp_path / "disk") as path, path.open("ab") as log:
        server = _without_log(run_server(logged, stderr=log))
        assert ask(server, 150) == [200] * 150  # far more lines than there is room for
        assert server.stop() == 0


def test_requests_are_answered_when_nobody_reads_the_log(config: ServeConfig) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb") as log:
        server = _without_log(run_server(config.model_copy(update={"log_requests": True}), stderr=log))
        statuses = ask(server, 500)  # about twice what a pipe holds
        assert statuses == [200] * 500
        assert server.stop() == 0


def _without_log(process: subprocess.Popen[str]) -> ServerProcess:
    """A started server whose log goes elsewhere."""
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url, f"the server ended with status {process.wait(30)}"
    return ServerProcess(process, url, int(url.rsplit(":", 1)[1]), [], None)


# Clients that hang


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-le", id="half a head"),
        pytest.param(b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n{", id="half a body"),
    ],
)
def test_others_are_answered_and_the_server_ends_when_clients_hang_in_a_request(
    config: ServeConfig, sent: bytes
) -> None:
    server = start_server(config.model_copy(update={"max_read_s": 1.0}))
    hanging = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
    for one in hanging:
        one.sendall(sent)
    assert ask(server, 20) == [200] * 20
    for one in hanging:
        one.settimeout(10)
        assert one.recv(1) == b""  # the server has ended it
        one.close()
    assert ask(server, 3) == [200] * 3
    assert server.stop() == 0


# A server that stands still


def test_requests_do_not_run_when_they_expired_while_the_server_stood_still(config: ServeConfig) -> None:
    server = start_server(config)
    assert ask(server, 5) == [200] * 5
    before = ran(server)
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(12) as threads:
            short = [
                threads.submit(server.ask, "POST", RANK, rank_body(20), {"x-rankine-deadline-ms": "500"})
                for _ in range(12)
            ]
            time.sleep(FROZEN_S)
            os.kill(server.process.pid, signal.SIGCONT)
            statuses = [one.result().status for one in short]
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    # 503 is the answer of a server that is behind, 504 that of one that had let them in before.
    assert set(statuses) <= {503, 504}
    assert ran(server) == before
    assert ask(server, 5) == [200] * 5
    assert server.stop() == 0
