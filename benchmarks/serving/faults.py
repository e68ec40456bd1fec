"""Faults that a server is made to suffer while it answers, and how to see when it is well again."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from rankine.errors import EngineError
from rankine.observation.load.answer import Answer
from serving.clock import set_ahead

FROZEN_S, STEP_S = 2.0, 3600
WINDOW_S, WELL_SHARE = 0.2, 0.95
_DISK_KB = 64


@dataclass(frozen=True)
class Fault:
    """Something that happens to a running server.

    Attributes:
        strike: does it, given the server's process and the folder of its log; what it returns ends it.
        lasts_s: until it is ended.
        from_end: recovery counts from the end, since nothing can be done before; else from when it strikes.
        options: of `rankine serve`.
        fakes_clock: the server's wall clock is that of :mod:`serving.clock`.
        fills_disk: its log is on a small disk of its own.
        ends: the server goes away, in peace.
    """

    name: str
    title: str
    strike: Callable[[psutil.Process, Path], Callable[[], None]]
    lasts_s: float = 0.0
    from_end: bool = False
    options: Sequence[str] = ()
    fakes_clock: bool = False
    fills_disk: bool = False
    ends: bool = False


def well_after_s(answers: Sequence[Answer], from_s: float, bound_ms: float, until_s: float) -> float | None:
    """Seconds after ``from_s`` from which requests are answered in time again; None where they never are.

    Of the windows of ``WINDOW_S`` by when requests were due, the first that is well and whose follower is too.
    """
    count = int((until_s - from_s) / WINDOW_S)
    due, good = [0] * count, [0] * count
    for one in answers:
        at = int((one.due_s - from_s) / WINDOW_S)
        if one.due_s >= from_s and at < count:
            due[at] += 1
            good[at] += one.correct and one.latency_ms <= bound_ms
    well = [right >= WELL_SHARE * all_ for right, all_ in zip(good, due, strict=True)]
    return next((at * WINDOW_S for at in range(count - 1) if well[at] and well[at + 1]), None)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """``folder`` as a file system of its own, with little room.

    Raises:
        EngineError: nothing may be mounted here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_KB}k", "tmpfs", str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        raise EngineError("nothing may be mounted here", where=str(folder), got=told.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _nothing() -> None:
    """What ends a fault that is over at once."""


def _terminate(server: psutil.Process, folder: Path) -> Callable[[], None]:
    server.send_signal(signal.SIGTERM)
    return _nothing


def _freeze(server: psutil.Process, folder: Path) -> Callable[[], None]:
    server.suspend()
    return server.resume


def _step_clock(server: psutil.Process, folder: Path) -> Callable[[], None]:
    for ahead_s in (STEP_S, -STEP_S):
        set_ahead(folder, ahead_s)
        time.sleep(0.5)
    return _nothing


def _fill(server: psutil.Process, folder: Path) -> Callable[[], None]:
    with (folder / "other").open("wb", buffering=0) as other:
        try:
            while True:
                other.write(b"x" * 1024)
        except OSError:  # it is full
            return _nothing


def _children(server: psutil.Process, word: str) -> list[psutil.Process]:
    found = [child for child in server.children(recursive=True) if word in " ".join(child.cmdline())]
    if not found:
        raise EngineError("the server has no such process", where=word)
    return sorted(found, key=lambda child: -child.cpu_times().user)  # one that works, not one that waits


def _kill_worker(server: psutil.Process, folder: Path) -> Callable[[], None]:
    _children(server, "isolation.worker")[0].kill()
    return _nothing


def _freeze_worker(server: psutil.Process, folder: Path) -> Callable[[], None]:
    worker = _children(server, "isolation.worker")[0]
    worker.suspend()

    def resume() -> None:
        if worker.is_running():  # else it has been replaced
            worker.resume()

    return resume


def _kill_front_end(server: psutil.Process, folder: Path) -> Callable[[], None]:
    _children(server, "rankine.serving.process")[0].kill()
    return _nothing


ISOLATED, SEVERAL = ("--isolate",), ("--processes", "2")
FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("terminate", "SIGTERM", _terminate, ends=True),
        Fault("freeze", f"SIGSTOP of the server for {FROZEN_S:g} s", _freeze, FROZEN_S, from_end=True),
        Fault("clock", "wall clock an hour ahead, then one behind", _step_clock, fakes_clock=True),
        Fault("disk", "full disk for the log (64 KiB)", _fill, options=("--log-requests",), fills_disk=True),
        Fault("kill_worker", "kill -9 of an engine worker", _kill_worker, options=ISOLATED),
        Fault(
            "freeze_worker",
            f"SIGSTOP of an engine worker for {FROZEN_S:g} s",
            _freeze_worker,
            FROZEN_S,
            options=ISOLATED,
        ),
        Fault("kill_front_end", "kill -9 of one of two front ends", _kill_front_end, options=SEVERAL),
    )
}
