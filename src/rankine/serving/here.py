"""Batches so short that the event loop runs them itself: to wake a worker and be woken takes as long as they do.

A request that is alone runs at once. Where others wait for the event loop, what is ready is held until they are ready
too, or there is enough for an efficient batch: nothing idles meanwhile, since the loop works on those others, and a
call of the engine, with all that is counted around it, is paid once for all of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import perf_counter

from rankine.policy.batching import FormedBatch
from rankine.serving.desk import Desk
from rankine.serving.items import Items
from rankine.serving.placing import Taken, Worker
from rankine.serving.results import Result
from rankine.serving.work import Work

__all__ = ["Here"]

_ALONE_S = 3e-4
"""What is predicted to take longer is worth waking a worker for."""
_JOINED_S = 1e-3
"""Several requests together may take so long: nothing else runs on the loop meanwhile, not even a refusal."""
_HELD_S = 2e-3


class Here:
    """Decides what runs on the event loop, and runs it there. Its methods are called on that loop alone.

    Args:
        desk: that gives batches away; ``lock``: of it.
        worker: in whose name they run.
        finish: runs a batch and answers its requests.

    Attributes:
        enabled: nothing runs on the loop by a guess: it is set once predictions are measured.
        crowded: whether others wait for the event loop.
    """

    def __init__(
        self,
        desk: Desk,
        lock: threading.Condition,
        worker: Worker,
        finish: Callable[[Worker, Taken, list[Result]], None],
    ) -> None:
        self._desk, self._lock, self._worker, self._finish = desk, lock, worker, finish
        self._turns: asyncio.Handle | None = None
        self._since_s = 0.0
        self.enabled = False
        self.crowded: Callable[[], bool] = _never

    def keeps(self) -> bool:
        """Whether what was just let in is for the event loop: then :meth:`run` is to be called. The lock is held."""
        if self._turns is not None:  # it goes with those that are held, wherever they go
            return True
        if not self.enabled or self._busy:
            return False
        planned = self._desk.gates.backlog.planned
        return len(planned) == 1 and len(planned[0].pieces) == 1 and self._fits(planned[0])

    def run(self) -> None:
        """Run what was kept: now, or together with what comes in the next turns of the event loop."""
        if self._turns is None:
            self._since_s = perf_counter()
            self._turn()

    def _turn(self) -> None:
        self._turns = None
        with self._lock:
            planned = self._desk.gates.backlog.planned
            if not planned:
                return
            if self._busy:
                self._desk.wake()
                return
            now_s = perf_counter()
            if len(planned) == 1 and self._holds(planned[0], now_s):
                self._turns = asyncio.get_running_loop().call_soon(self._turn)
                return
            if not self._fits(planned[0]):
                self._desk.wake()
                return
            taken, results = self._desk.take(self._worker, 0, now_s)
            taken = self._desk.begun(self._worker, taken, now_s)
            if planned:
                self._since_s = now_s
                self._turns = asyncio.get_running_loop().call_soon(self._turn)
        self._finish(self._worker, taken, results)

    @property
    def _busy(self) -> bool:
        """Whether a worker runs something: it takes what waits when it is done."""
        return any(worker.running for worker in self._desk.placing.workers)

    def _holds(self, batch: FormedBatch[Work], now_s: float) -> bool:
        """Whether a batch waits for those that the event loop is at."""
        if not self.crowded() or batch.rows >= self._desk.gates.backlog.shape.target_rows:
            return False
        return now_s - self._since_s < _HELD_S and now_s + batch.duration_s + _HELD_S < batch.due_s

    def _fits(self, batch: FormedBatch[Work]) -> bool:
        """Whether the loop may run it, on whichever rung: a session may keep to a slow one."""
        if any(not isinstance(piece.entry.work.items, Items) for piece in batch.pieces if piece.entry.work.items):
            return False  # no prediction knows what is computed of items given inline
        within_s = _ALONE_S if len(batch.pieces) == 1 else _JOINED_S
        elastic = self._desk.elastic
        if len(elastic.numbers) == 1:
            return batch.duration_s <= within_s
        return all(elastic.costs[at].mean_s(batch.rows, batch.requests) <= within_s for at in elastic.numbers)


def _never() -> bool:
    """Where nobody waits for the loop."""
    return False
