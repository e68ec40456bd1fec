"""The worker processes of a pool: started, watched and replaced by a thread of their own, one a worker and some spare.

A thread of the pool has a *seat*: the process that runs its batches. Where that is lost, the thread takes the spare
one, which has opened and run everything already, and another is started in the background.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from rankine.errors import RankineError
from rankine.models.columns import Batch
from rankine.serving.isolation.frame import compacted
from rankine.serving.isolation.lost import WorkerDied, WorkerHung, WorkerLost
from rankine.serving.isolation.messages import WorkerSpec
from rankine.serving.isolation.pace import is_slow
from rankine.serving.isolation.process import WorkerProcess
from rankine.serving.isolation.tables import Tables
from rankine.serving.logs import LOGGER
from rankine.serving.results import as_error

__all__ = ["Crew", "CrewLimits", "Lost"]

_FIRST_CALL_S = 60.0
"""Without a prediction: engines allocate, tune and compile on first use."""
_OPEN_S = 300.0
_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.1, 5.0
_SLOW_PAUSE_S = 60.0
_END_S = 5.0
_HANGS_AT = 20.0
_NEXT = {
    "died": "Look for a crash of the engine, or for the kernel's out-of-memory killer (dmesg), at this time.",
    "hung": "If it happens again without a busy machine, raise --worker-hang-s or report the engine.",
    "slow": "Look for what shares its core.",
    "start": "It is tried again and again; the server answers with the workers that are left.",
}

Lost = Callable[[str], None]
"""Told why a worker process was lost: ``died``, ``hung``, ``slow``, or did not ``start``."""


@dataclass(frozen=True, slots=True)
class CrewLimits:
    """How many processes, and how long they may take.

    Attributes:
        workers: that run at the same time.
        spares: that wait, opened and warm.
        hang_s: without an answer for so long, or for 20 times what a batch is predicted to take in 99 of 100 cases, a
            process is taken to hang.
    """

    workers: int
    spares: int
    hang_s: float


class _Seat(threading.local):
    """What a thread of the pool has: its process, and what its next batch is predicted to take."""

    process: WorkerProcess | None = None
    mean_s: float = 0.0
    limit_s: float = _FIRST_CALL_S


class Crew:
    """Worker processes; thread-safe.

    Args:
        spec: what each opens.
        tables: of items that batches may refer to.
        lost: called with a reason whenever one is lost.
    """

    def __init__(self, spec: WorkerSpec, limits: CrewLimits, tables: Tables, lost: Lost) -> None:
        self._spec, self._limits, self._tables, self._told = spec, limits, tables, lost
        self._seat = _Seat()
        self._wanted = limits.workers
        self._all: list[WorkerProcess] = []
        self._starting: set[WorkerProcess] = set()
        self._spare: list[WorkerProcess] = []
        self._warm: dict[tuple[int, int, int], Batch] = {}
        self._warming = True
        self._started = 0
        self._failed = 0
        self._retry_s = 0.0
        self._slow_until_s = 0.0
        self._failure: RankineError | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.start_s = 1.0
        self._thread = threading.Thread(target=self._keep, name="rankine-crew", daemon=True)
        self._thread.start()

    @property
    def up(self) -> int:
        """Processes that can run a batch: those that do, and spare ones."""
        with self._changed:
            return sum(not one.lost and one not in self._starting for one in self._all)

    @property
    def pids(self) -> list[int]:
        """Of the processes that are up or starting."""
        with self._changed:
            return [one.pid for one in self._all if not one.lost]

    def ready(self, timeout_s: float) -> bool:
        """Whether the calling thread has a process that runs its next batch; waits for one."""
        seat, end_s = self._seat, perf_counter() + timeout_s
        while seat.process is None or seat.process.lost or seat.process.ended:
            if seat.process is not None:
                self._lose(seat.process, "died")
            with self._changed:
                left_s = max(0.0, end_s - perf_counter())
                self._changed.wait_for(lambda: self._spare or self._closing or self._given_up, left_s)
                if not self._spare:
                    return False
                seat.process = self._spare.pop()
        return True

    def expect(self, mean_s: float, p99_s: float) -> None:
        """Tell what the calling thread's next batch is predicted to take."""
        self._seat.mean_s, self._seat.limit_s = mean_s, max(self._limits.hang_s, _HANGS_AT * p99_s)

    def run(self, rung: int, batch: Batch, out: np.ndarray) -> None:
        """Run a batch on the calling thread's process; see :meth:`WorkerProcess.run`.

        Raises:
            WorkerLost: it was lost while it ran, or there is none.
        """
        seat = self._seat
        if not self.ready(0.0) or seat.process is None:
            raise self._none_up()
        process, begin_s = seat.process, perf_counter()
        try:
            process.run(rung, batch, out, _FIRST_CALL_S if self._warming else seat.limit_s)
        except WorkerLost as lost:
            self._lose(process, "hung" if isinstance(lost, WorkerHung) else "died")
            raise
        if self._warming:
            self._remember(rung, batch, out.shape[1])
            return
        process.pace.observe(perf_counter() - begin_s, seat.mean_s)
        if process.pace.batches % 16 == 0:
            self._replace_slow(process)

    def settle(self) -> None:
        """All threads have run what warms an engine up: keep it for later processes, and start the spare ones."""
        with self._changed:
            self._warming = False
            self._wanted = self._limits.workers + self._limits.spares
        self._wake_up()

    def close(self) -> None:
        """End all processes, once nothing runs in them any more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._wake_up()
        self._thread.join()
        os.close(self._wake)

    # What follows runs in the thread that keeps the processes, but for _lose and what it calls.

    def _keep(self) -> None:
        while not self._closing:
            try:
                self._start_lacking()
                self._give_up_late()
                for one in self._await():
                    self._look_at(one)
            except Exception:  # noqa: BLE001  the workers would end with this thread
                LOGGER.exception("worker processes could not be looked after")
                time.sleep(_FIRST_PAUSE_S)
        self._end_all()

    def _start_lacking(self) -> None:
        now_s = perf_counter()
        with self._changed:
            lacking = self._wanted - sum(not one.lost for one in self._all)
        for _ in range(lacking if now_s >= self._retry_s else 0):
            self._started += 1
            try:
                process = WorkerProcess(self._started, self._spec, self._tables)
            except (OSError, WorkerLost) as error:
                self._failed_to_start(str(error))
                return
            with self._changed:
                self._all.append(process)
                self._starting.add(process)

    def _give_up_late(self) -> None:
        """Of processes that take too long to open."""
        for one in list(self._starting):
            if perf_counter() - one.started_s > _OPEN_S:
                self._lose(one, "start", f"it did not open within {_OPEN_S:g} s")

    def _await(self) -> list[WorkerProcess]:
        """Processes that have opened, or ended; empty after a while, or where something else is to be looked at."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        by_fd: dict[int, WorkerProcess] = {}
        with self._changed:
            for one in self._all:
                by_fd[one.pidfd] = one
                if one in self._starting and not one.lost:
                    by_fd[one.fileno()] = one
            urgent = bool(self._starting) or len(self._all) < self._wanted
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        found = {fd for fd, _ in poll.poll(100 if urgent else None)}
        if self._wake in found:
            os.eventfd_read(self._wake)
        return list({by_fd[fd] for fd in found & by_fd.keys()})

    def _look_at(self, process: WorkerProcess) -> None:
        if process in self._starting and not process.lost:
            self._welcome(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            how = process.reap()
            if not process.lost:
                self._lose(process, "died", how)
            elif process.lost == "died":
                LOGGER.info("how a worker process ended", extra={"fields": {"pid": process.pid, "how": how}})
            with self._changed:
                self._all.remove(process)

    def _welcome(self, process: WorkerProcess) -> None:
        """It has opened what it should, or failed to."""
        out: np.ndarray
        try:
            process.opened()
            for (rung, _, tasks), batch in list(self._warm.items()):
                out = np.empty((batch.rows, tasks), np.float32)
                process.run(rung, batch, out, _FIRST_CALL_S)
        except Exception as found:  # noqa: BLE001  whatever it is, this one cannot serve
            error = as_error(found)
            with self._changed:
                self._failure = error
                self._changed.notify_all()
            self._lose(process, "start", str(error))
            return
        self._failed, self._retry_s = 0, 0.0
        with self._changed:
            self.start_s = perf_counter() - process.started_s
            self._starting.discard(process)
            self._spare.append(process)
            self._changed.notify()
        LOGGER.info("a worker process is ready", extra={"fields": self._fields(process)})

    def _failed_to_start(self, why: str) -> None:
        pause_s = min(_MOST_PAUSE_S, _FIRST_PAUSE_S * 2**self._failed)
        self._failed += 1
        self._retry_s = perf_counter() + pause_s
        fields = {"error": why, "again_s": pause_s, "next": _NEXT["start"]}
        LOGGER.error("a worker process did not start", extra={"fields": fields})

    def _end_all(self) -> None:
        with self._changed:
            left = list(self._all)
        for one in left:
            with contextlib.suppress(OSError):
                one.leave()
        end_s = perf_counter() + _END_S
        for one in left:
            try:
                one.reap(max(0.0, end_s - perf_counter()))
            except subprocess.TimeoutExpired:
                one.kill()
                one.reap(_END_S)

    def _lose(self, process: WorkerProcess, reason: str, how: str = "") -> None:
        """Count a process no more, and end it; by whoever sees first that it is of no use."""
        with self._changed:
            if process.lost or self._closing:
                return
            process.lost = reason
            started = process not in self._starting
            self._starting.discard(process)
            if process in self._spare:
                self._spare.remove(process)
        process.kill()
        if started:
            fields = self._fields(process) | {"reason": reason, "next": _NEXT[reason]} | ({"how": how} if how else {})
            LOGGER.warning("a worker process was lost: another takes its place", extra={"fields": fields})
        else:
            self._failed_to_start(how)
        self._told(reason)
        self._wake_up()

    def _replace_slow(self, process: WorkerProcess) -> None:
        """After an answer: nothing is lost, as nothing runs in it."""
        now_s = perf_counter()
        with self._changed:
            others = [one.pace for one in self._all if one is not process and not one.lost]
            replaced = bool(self._spare) and now_s >= self._slow_until_s and is_slow(process.pace, others)
            if replaced:
                self._slow_until_s = now_s + _SLOW_PAUSE_S
        if replaced:
            self._lose(process, "slow")

    def _remember(self, rung: int, batch: Batch, tasks: int) -> None:
        """What later processes are to run before they count, with items of its own."""
        self._warm.setdefault((rung, batch.rows, tasks), compacted(batch))

    @property
    def _given_up(self) -> bool:
        """Whether the server cannot start, as no process has opened what it should; later ones are tried for ever."""
        return self._warming and self._failure is not None

    def _none_up(self) -> RankineError:
        if self._given_up and self._failure is not None:
            return self._failure
        return WorkerDied("no worker process is up", hint="They are started again; try again.")

    def _fields(self, process: WorkerProcess) -> dict[str, object]:
        return {"worker": process.number, "pid": process.pid}

    def _wake_up(self) -> None:
        os.eventfd_write(self._wake, 1)
