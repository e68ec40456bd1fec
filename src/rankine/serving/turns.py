"""On one core the event loop runs what is planned itself, one batch a turn.

Only one of a worker and the loop can run there, unless the worker has a core of its own. A worker would have to be
woken and to wake the loop, the two would take the interpreter from one another, and each would find the caches full
of the other's data several times a batch. So the loop reads all that has come, answers what it can, runs a batch,
sends its replies, and looks again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import perf_counter

from rankine.policy.one_core import HELD_S, may_run_here
from rankine.serving.desk import Desk
from rankine.serving.placing import Taken, Worker
from rankine.serving.results import Result

__all__ = ["Turns"]


class Turns:
    """Runs planned batches on the event loop. Its methods are called there alone.

    Args:
        desk: that gives batches away; ``changed``: its lock, notified for a worker where a batch is too long for that.
        worker: in whose name they run.
        finish: runs a batch and answers its requests.

    Attributes:
        crowded: whether others wait for the loop, which might still join.
    """

    def __init__(
        self,
        desk: Desk,
        changed: threading.Condition,
        worker: Worker,
        finish: Callable[[Worker, Taken, list[Result], float | None], None],
    ) -> None:
        self._desk, self._changed, self._worker, self._finish = desk, changed, worker, finish
        self._is_soon, self._since_s = False, 0.0
        self._goes_on_s: float | None = None
        self.crowded: Callable[[], bool] = _never

    def soon(self) -> None:
        """Something waits: run a batch when all that was there has begun."""
        if not self._is_soon:
            self._is_soon = True
            self._since_s = perf_counter()
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        if self.crowded() and perf_counter() - self._since_s < HELD_S:
            asyncio.get_running_loop().call_soon(self._turn)
            return
        self._is_soon = False
        goes_on_s, self._goes_on_s = self._goes_on_s, None
        with self._changed:
            backlog = self._desk.gates.backlog
            if self._worker.running or not backlog.planned:
                return
            if not may_run_here(backlog.planned[0].duration_s, joined=False, one_core=True):
                self._changed.notify()
                return
            now_s = perf_counter()
            taken, results = self._desk.take(self._worker, 0, now_s)
            taken = self._desk.begun(self._worker, taken, now_s)
        self._finish(self._worker, taken, results, goes_on_s)
        if len(backlog):
            self._goes_on_s = perf_counter()
            self.soon()


def _never() -> bool:
    """Where nobody waits for the loop."""
    return False
