"""Server processes of peers: started on the cores that they are given, waited for, ended with all their children."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from rankine.errors import EngineError

_START_S, _STOP_S, _POLL_S = 120.0, 15.0, 0.25
_NOTHING: Mapping[str, str] = {}
BENCHMARKS = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def server_process(url: str) -> psutil.Process:
    """The process that this one has started and that listens at ``url``, or the supervisor of those that do.

    Raises:
        EngineError: there is none.
    """
    port = url.rsplit(":", 1)[1]
    for child in psutil.Process().children():
        if port in child.cmdline():
            return child
    raise EngineError("the server is gone", where=url)


def cpu_s(process: psutil.Process) -> float:
    """Processor time that a process and all its children have used.

    Where the scheduler tells it, to the nanosecond, and with what a thread did for packets meanwhile; else by the clock
    that ticks a hundred times a second.
    """
    found = 0.0
    for one in (process, *process.children(recursive=True)):
        told = list(Path(f"/proc/{one.pid}/task").glob("*/schedstat"))
        times = one.cpu_times()
        found += sum(int(each.read_text().split()[0]) for each in told) / 1e9 if told else times.user + times.system
    return found


@contextmanager
def running(
    command: Sequence[str],
    *,
    cores: Sequence[int],
    port: int,
    ready: str,
    folder: Path,
    environment: Mapping[str, str] = _NOTHING,
) -> Iterator[None]:
    """Run ``command`` pinned to ``cores`` while the context is open.

    Args:
        port: that the server listens on.
        ready: path that answers 200 as soon as the server can be used.
        folder: for its log.
        environment: added to this process's; every library gets one thread.

    Raises:
        EngineError: the server ended or was not ready in time; carries the last errors in its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    paths = os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths}
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
    with log.open("wb") as out:
        process = subprocess.Popen(
            pinned,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **one_thread, **environment},
            cwd=folder,
            start_new_session=True,
        )
    try:
        _wait(process, port, ready, log)
        yield
    finally:
        _stop(process)


def _wait(process: subprocess.Popen[bytes], port: int, ready: str, log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", ready)
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):  # it does not listen yet
            time.sleep(_POLL_S)
        finally:
            connection.close()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line for line in lines if "rror" in line] or lines
    raise EngineError("the server did not start", where=str(log), got=" ".join(told[-3:]) or "no output")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole session: servers have workers of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
