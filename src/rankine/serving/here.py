"""Batches so short that the event loop runs them itself: to wake a worker and be woken takes as long as they do. Where
the only worker has no core of its own, a longer request runs there too: the loop would only wait for it.

Requests for which there is time several times over need no place in the plan: they are kept beside it. One that is
alone runs at once. Where others wait for the event loop, what is ready is held until they are ready too, or there is
enough for an efficient batch: nothing idles meanwhile, since the loop works on those others, and a call of the engine,
with all that is counted around it, is paid once for all of them. Where the loop is busy most of the time the same holds
of those that come within a moment: what is saved is less than they wait, and more than they would wait without it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from time import perf_counter

from rankine.policy.one_core import HELD_S, MOMENT_S, Company, is_enough, may_join, may_run_here
from rankine.serving.desk import Desk
from rankine.serving.items import Items
from rankine.serving.logs import LOGGER
from rankine.serving.placing import Taken, Worker
from rankine.serving.results import Result
from rankine.serving.work import Work

__all__ = ["Here"]


class Here:
    """Decides what runs on the event loop, and runs it there. Its methods are called on that loop alone.

    Args:
        desk: that gives batches away; ``lock``: of it.
        worker: in whose name they run.
        finish: runs a batch and answers its requests. ``fail``: answers requests with an error.

    Attributes:
        enabled: nothing runs on the loop by a guess: it is set once predictions are measured.
        one_core: the worker has none of its own.
        crowded: whether others wait for the event loop. ``busy``: the share of its time that it works.
        rows: of what is held.
    """

    def __init__(
        self,
        desk: Desk,
        lock: threading.RLock,
        worker: Worker,
        finish: Callable[[Worker, Taken, list[Result]], None],
        fail: Callable[[Sequence[Work], Exception], None],
    ) -> None:
        self._desk, self._lock, self._worker, self._finish, self._fail = desk, lock, worker, finish, fail
        self._held: list[Work] = []
        self._requests = 0
        self._predicted_s = self._with_next_s = 0.0
        self._due_s = 0.0
        self._scheduled: asyncio.Handle | None = None
        self._company = Company()
        self._waited_with = 0  # so many were held when it was decided to wait
        self._since_s = 0.0
        self.rows = 0
        self.enabled = self.one_core = False
        self.crowded: Callable[[], bool] = _never
        self.busy: Callable[[], float] = _idle

    def watch(self, loop_per_s: Callable[[float], float]) -> None:
        """From now on it is known how many seconds the event loop works a second, its batches included."""
        self._desk.loop_per_s = loop_per_s

    def line_is_long(self) -> None:
        """Those in line for the event loop take much of the time that requests have: a cheaper rung would help them."""
        self._desk.line_is_long = True

    def make_room(self, work: Work) -> None:
        """Run what is held, if one more request would make it too much."""
        if self._held:
            rows = self.rows + work.rows
            predicted_s = self._desk.gates.cost.mean_s(rows, self._requests + work.requests)
            fits = may_run_here(predicted_s, joined=True, one_core=self.one_core)
            if not fits or rows > self._desk.gates.backlog.shape.most_rows:
                self._go()

    def takes(self, work: Work, now_s: float) -> bool:
        """Whether a request is for the event loop, if it is let in: then it is to be held. The lock is held."""
        desk = self._desk
        if not self.enabled or self._busy or len(desk.gates.backlog):
            return False
        if work.items and not isinstance(work.items, Items):
            return False  # no prediction knows what is computed of items given inline
        if work.session and len(desk.elastic.numbers) > 1:
            return False  # it may keep to a variant
        rows, requests = self.rows + work.rows, self._requests + work.requests
        if rows > desk.gates.backlog.shape.most_rows:
            return False
        predicted_s = self._with_next_s = desk.gates.cost.mean_s(rows, requests)
        if not self._may_run(predicted_s) or not self._has_time_for(work, predicted_s, now_s):
            return False
        costs = desk.elastic.costs
        return len(costs) == 1 or all(
            self._may_run(costs[at].mean_s(rows, requests)) for at in desk.elastic.numbers
        )  # on whichever rung

    def _has_time_for(self, work: Work, predicted_s: float, now_s: float) -> bool:
        """Whether it, and what is held, are in time if all of them run next."""
        if self._desk.is_at_ease(work, predicted_s, now_s):
            return True
        due_s = min(self._due_s, work.deadline_s) if self._held else work.deadline_s
        return may_join(predicted_s, due_s - now_s)

    def _may_run(self, predicted_s: float) -> bool:
        """Whether what is held may be run here, with one request more."""
        return may_run_here(predicted_s, joined=bool(self._held), one_core=self.one_core)

    def hold(self, work: Work) -> None:
        """Keep the request that :meth:`takes` was just asked about, and that was let in; :meth:`run` is to be called.

        The lock is held.
        """
        self._due_s = min(self._due_s, work.deadline_s) if self._held else work.deadline_s
        self._held.append(work)
        self.rows += work.rows
        self._requests += work.requests
        self._predicted_s = self._with_next_s

    def run(self) -> None:
        """Run what is held: now, or together with what comes in the next turns of the event loop."""
        if self._scheduled is None:
            self._since_s = perf_counter()
            self._turn()
        elif self._is_enough or not self._has_time(perf_counter()):
            self._go()

    def _turn(self) -> None:
        self._scheduled = None
        now_s = perf_counter()
        if self._is_enough or not self._has_time(now_s):
            self._go()
        elif self.crowded():
            self._scheduled = asyncio.get_running_loop().call_soon(self._turn)
        elif self._company.is_expected(self.busy()):
            self._waited_with = len(self._held)
            self._scheduled = asyncio.get_running_loop().call_later(MOMENT_S, self._turn)
        else:
            self._go()

    def _go(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        if not self._held:
            return
        now_s = perf_counter()
        works, predicted_s = self._held, self._predicted_s
        if self._waited_with:
            self._company.waited(came=len(works) > self._waited_with)
            self._waited_with = 0
        self._held, self.rows, self._requests = [], 0, 0
        try:
            with self._lock:
                # A worker has begun something else meanwhile, or is about to: it takes these when it is done.
                if self._busy or len(self._desk.gates.backlog):
                    self._desk.put(works, now_s)
                    return
                taken, results = self._desk.joined(works, predicted_s, now_s)
                taken = self._desk.begun(self._worker, taken, now_s)
        except Exception as error:  # noqa: BLE001  whatever it is, they wait for an answer
            LOGGER.exception("what was held could not be begun")
            self._fail(works, error)
        else:
            self._finish(self._worker, taken, results)

    @property
    def _busy(self) -> bool:
        """Whether a worker runs something: it takes what waits when it is done."""
        return any(worker.running for worker in self._desk.placing.workers)

    @property
    def _is_enough(self) -> bool:
        """Whether what is held need not wait for others."""
        return is_enough(self.rows, self._desk.gates.backlog.shape.target_rows, self._predicted_s)

    def _has_time(self, now_s: float) -> bool:
        """Whether what is held may wait for more."""
        return now_s - self._since_s < HELD_S and now_s + self._predicted_s + HELD_S < self._due_s


def _idle() -> float:
    """Where nobody knows how busy the loop is."""
    return 0.0


def _never() -> bool:
    """Where nobody waits for the loop."""
    return False
