"""Worker threads that take batches from one queue, as the policies decide, and run them on an engine, or on several.

A request is let in only if it and all that were let in before will be in time, by what batches are predicted to take;
the prediction is measured in the warm-up and follows what is seen. Engines release the GIL while they compute, so
threads are enough. Results go back to the event loop with one wake-up a batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
from msgspec.structs import replace

from rankine.errors import RankineError
from rankine.policy.admission import Admission
from rankine.policy.autoscale import Signals
from rankine.policy.batching import Limits
from rankine.policy.front_end import Ahead
from rankine.policy.priorities import Priority
from rankine.policy.reason import Reason
from rankine.policy.rules import Rules
from rankine.policy.standing import Standing
from rankine.serving.cores import give_way, pin, usable_cores
from rankine.serving.desk import Asked, DecisionObserver, Desk
from rankine.serving.devices import PoolDevice
from rankine.serving.here import Here
from rankine.serving.placing import Taken, Worker
from rankine.serving.refusals import refusal
from rankine.serving.remote.lost import RemoteLost
from rankine.serving.rest import Rest
from rankine.serving.results import Result, as_error
from rankine.serving.rungs import ServedRung
from rankine.serving.running import Observer, Runs
from rankine.serving.turns import Turns
from rankine.serving.work import Outcome, Work, join

__all__ = ["Pool"]

_TIMED = 3
"""Runs of each size in the warm-up whose median is the first prediction."""
_OPENED_WITHIN_S = 300.0
_SEAT_S = 0.1
_LOOK_AGAIN_S = 0.005
"""A worker that leaves what waits to other devices looks so often whether they do as was predicted."""


class Pool:
    """A bounded queue and the threads that empty it.

    Args:
        rungs: what computes, the best first; shared by all workers. Where there are several, the load decides.
        tasks: columns of the runner's logits.
        workers: number of threads.
        devices: several that share the work, instead of one that has these rungs and workers; all have the same
            variants and certificates that let each serve them.
        limits: of batches and of the queue.
        observe: called from worker threads after every engine call.
        decided: called with the reason of every request's admission or refusal, and of what left the queue unanswered.
        would: called with the reason for which the operator's rules would have refused one, were they in force.

    Attributes:
        here, turns: what runs on the event loop, at once and as it is planned. ``rest``: when that leaves the core to a
            worker.
    """

    def __init__(
        self,
        rungs: Sequence[ServedRung],
        *,
        tasks: int,
        workers: int,
        limits: Limits,
        observe: Observer,
        decided: DecisionObserver | None = None,
        would: DecisionObserver | None = None,
        devices: Sequence[PoolDevice] = (),
    ) -> None:
        self._rungs = tuple(rungs)
        self._devices = tuple(devices) or (PoolDevice(self._rungs[0].engine, self._rungs, workers),)
        self._tasks = tasks
        self._decided = decided or _ignored
        self._would = would or _ignored
        self._lock = threading.RLock()  # by itself it costs half of what it costs as a condition
        self._changed = threading.Condition(self._lock)
        self._desk = Desk(self._devices, limits, self._changed, self._decided, self._would)
        self._warm: Callable[[Worker], None] = _nothing
        self._workers = self._desk.placing.workers
        self.rest = Rest(self._workers)
        self._runs = Runs(
            self._desk, self._lock, self._devices, self.rest, tasks=tasks, observe=observe, decided=self._decided
        )
        self.here = Here(self._desk, self._lock, self._workers[0], self._runs.finish, self._runs.fail)
        self.turns = Turns(self._desk, self._changed, self._workers[0], self._runs.finish)
        for number, worker in enumerate(self._workers):
            name = f"rankine-worker-{number}"
            worker.thread = threading.Thread(target=self._serve, args=(worker,), name=name, daemon=True)

    def start(self, warm: Sequence[Work] = ()) -> None:
        """Start the workers, each of which runs ``warm`` first (engines keep buffers a thread); returns when all did.

        Times of the warm-up are the first predictions.

        Raises:
            EngineError: the engine failed on one of them.
        """
        waiting = threading.Semaphore(0)
        failures: list[RankineError] = []
        self._warm = lambda worker: self._warm_up(worker, warm, failures, waiting)
        for worker in self._workers:
            if worker.thread is not None:
                worker.thread.start()
        for _ in self._workers:
            waiting.acquire()
        self._warm = _nothing  # let go of the works, which hold a generation of the catalog
        if failures:
            raise failures[0]
        for device in self._devices:
            if device.seats is not None:
                device.seats.settle()
        if warm:
            with self._lock:
                first = {worker.device: worker.timed for worker in reversed(self._workers)}
                usual = next((timed for timed in first.values() if timed), [])
                self._desk.timed([first[number] or usual for number in range(len(self._devices))])
            if len(self._devices) == 1 and self._devices[0].seats is None:
                self.here.enabled = True
                self.rest.enabled = usable_cores() <= 1 and not self._devices[0].has_own_cores
                self.here.one_core = self.rest.enabled and len(self._workers) == 1
                self._desk.on_loop = self.turns.soon if self.here.one_core else None

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._desk.gates.backlog.rows + self.here.rows

    @property
    def predicted_wait_s(self) -> float:
        """How long a request that came now would wait for the start of its batch."""
        with self._lock:
            return self._desk.wait_s(perf_counter())

    @property
    def middling_s(self) -> float:
        """How long it would take if nobody else was there."""
        with self._lock:
            return self._desk.elastic.middling_s()

    @property
    def signals(self) -> Signals:
        """What an autoscaler looks at, without the refusals."""
        with self._lock:
            return self._desk.elastic.signals(perf_counter())

    @property
    def alive(self) -> bool:
        """Whether there is a worker to answer what is queued."""
        return any(
            worker.thread is not None and worker.thread.is_alive() and (seats is None or seats.up > 0)
            for worker in self._workers
            for seats in (self._devices[worker.device].seats,)
        )

    @property
    def rung(self) -> int:
        """Number of the rung in use."""
        return self._desk.elastic.at

    @property
    def rungs_in_use(self) -> tuple[int, ...]:
        """Numbers of the rungs that are faster here than all better ones, the best first."""
        return self._desk.elastic.numbers

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return self._desk.unanswered > 0

    def govern(self, rules: Rules) -> None:
        """From now on these rules hold."""
        with self._lock:
            self._desk.govern(rules)

    def rows_that_fit(self, least: int, asked: Asked) -> int:
        """How many of a request's rows there is time for: all, or half and half again, never fewer than ``least``."""
        with self._lock:
            while asked.rows > least and not self._desk.admit(asked, commit=False).admitted:
                asked = replace(asked, rows=max(least, asked.rows // 2))
        return asked.rows

    @property
    def standing(self) -> Standing:
        """Of the queue here and those that will come to it."""
        return self._desk.standing

    def ahead(self, line_rows: int, line_requests: int, priority: Priority) -> Ahead | None:
        """What the engine has to do before a request that comes now; None while there is a cheaper rung to go to."""
        if not self._desk.is_on_fastest:
            return None
        with self._lock:
            return self._desk.ahead(line_rows, line_requests, priority, perf_counter())

    def ask(self, head: Asked) -> Admission | None:
        """Why a request of which only the head is there would not be let in now, None where it would.

        Nothing is queued, and nothing is counted: that is for whoever refuses it.
        """
        with self._lock:
            now_s = perf_counter()
            if self._desk.passes(head, now_s):
                return None
            found = self._desk.admit(head, commit=False)
            if not found.admitted:  # else it counts as offered once its body is there
                self._desk.elastic.offered(head.rows, 1, now_s)
                return found
            if found.would is Reason.PRIORITY:
                self._would(found.would)
            return None

    def refused(self, rows: int, requests: int) -> None:
        """Requests were refused without a question, with so many rows in all."""
        with self._lock:
            self._desk.elastic.offered(rows, requests, perf_counter())
        self.rest.refused()

    async def run(self, work: Work) -> Outcome:
        """The outcome of ``work``; see :meth:`submit`."""
        return await self.submit(work)

    def submit(self, work: Work) -> asyncio.Future[Outcome]:
        """Queue ``work``, on the event loop that waits for its outcome.

        The future may raise
            DeadlineExceeded: the deadline passed while it waited.
            BadRequest, EngineError: as the engine raised it.
            ClientGone: its client left while it waited; it did not run.

        Raises:
            QueueRefused: it, or another request, would be late; the queue is full; the server drains and had not let it
                in.
            DeadlineExceeded: the deadline cannot be met.
        """
        future = work.future = asyncio.get_running_loop().create_future()
        self.queue(work)
        return future

    def queue(self, work: Work) -> None:
        """Queue ``work`` that has a ``future``; otherwise as :meth:`submit`. That may have its outcome before this
        returns."""
        self.here.make_room(work)
        with self._lock:
            work.queued_s = perf_counter()
            now_s = work.queued_s
            here = self.here.takes(work, now_s)
            at_ease = here or self._desk.has_time(work, now_s)
            found = self._desk.admit(work, commit=True, at_ease=at_ease)
            if found.admitted:
                work.in_flight = self._desk.unanswered
                self._desk.unanswered += 1
                if here:
                    self.here.hold(work)
                elif at_ease:
                    self._desk.put((work,), now_s)
                else:
                    self._desk.wake()
        self._decided(found.reason)
        if found.would is not None:
            self._would(found.would)
        if not found.admitted:
            self.rest.refused()
            raise refusal(found)
        if here:
            self.here.run()

    def run_alone(self, work: Work) -> bool:
        """Run ``work`` in the calling thread, if nothing waits or runs and it need not be divided; else do nothing.

        Its ``future`` has the outcome when this returns True. For callers without an event loop.
        """
        worker = self._workers[0]
        with self._lock:
            now_s = perf_counter()
            desk, work.queued_s = self._desk, now_s
            predicted_s = desk.gates.cost.mean_s(work.rows, work.requests)
            waits = desk.unanswered > 0 or desk.stopping or work.rows > desk.gates.backlog.shape.most_rows
            if waits or len(self._devices) > 1 or not desk.is_at_ease(work, predicted_s, now_s):
                return False
            if not desk.admit(work, commit=True, at_ease=True).admitted:
                return False
            desk.unanswered += 1
            taken, results = desk.joined((work,), predicted_s, now_s)
            taken = desk.begun(worker, taken, now_s)
        self._runs.finish(worker, taken, results)
        return True

    def without_loop(self) -> None:
        """From now on workers run everything: requests come from threads that have no event loop."""
        self.here.enabled = self.here.one_core = self.rest.enabled = False
        self._desk.on_loop = None

    def drain(self) -> None:
        """Take nothing new; what was taken, or let in by its head, is still answered."""
        with self._lock:
            self._desk.draining = True

    def close(self) -> None:
        """Answer what waits, then end the threads and free the runner."""
        with self._lock:
            self._desk.draining = self._desk.stopping = True
            self._changed.notify_all()
        for worker in self._workers:
            if worker.thread is not None and worker.thread.is_alive():
                worker.thread.join()
        for device in self._devices:
            if device.seats is not None:
                device.seats.close()
            for rung in device.rungs:
                rung.runner.close()

    def _warm_up(
        self, worker: Worker, works: Sequence[Work], failures: list[RankineError], done: threading.Semaphore
    ) -> None:
        device = self._devices[worker.device]
        try:
            if device.cores is not None:
                pin(device.cores, f"cores of {device.name}")
            if device.seats is not None:
                device.seats.ready(_OPENED_WITHIN_S)  # or running raises why not
            for rung in device.rungs:
                timed: dict[int, list[float]] = {}
                for work in works:
                    begin = perf_counter()
                    rung.runner.run(join([work], self._runs.complete), np.empty((work.rows, self._tasks), np.float32))
                    timed.setdefault(work.rows, []).append(perf_counter() - begin)
                worker.timed.append({rows: spent_s[1 : 1 + _TIMED] or spent_s for rows, spent_s in timed.items()})
        except RemoteLost:  # it is looked after, and may be back later
            worker.timed.clear()
        except Exception as error:  # noqa: BLE001  told to whoever starts the pool
            failures.append(as_error(error))
        finally:
            done.release()

    def _serve(self, worker: Worker) -> None:
        self._warm(worker)
        if self._devices[worker.device].cores is None:
            give_way()
        while True:
            self._await_seat(worker)
            with self._lock:
                found = self._next(worker)
            if found is None:
                return
            self._runs.finish(worker, *found)

    def _await_seat(self, worker: Worker) -> None:
        """Where batches run in processes: wait for one, and leave the queue to other workers meanwhile."""
        seats = self._devices[worker.device].seats
        if seats is None or seats.ready(0.0):
            return
        with self._lock:
            worker.running, worker.free_s = True, perf_counter() + seats.start_s
        while not seats.ready(_SEAT_S) and not self._desk.stopping:
            continue
        with self._lock:
            worker.running = False

    def _next(self, worker: Worker) -> tuple[Taken, list[Result]] | None:
        """Wait for what a worker runs next; None where it is to end. The lock is held."""
        while True:
            now_s = perf_counter()
            if worker.given:
                return self._desk.begun(worker, worker.given.popleft(), now_s), []
            placing = self._desk.placing
            at, trial = placing.next_batch(worker, self._desk.gates, self._desk.elastic, now_s)
            if at is not None:
                worker.leaves = False
                taken, results = self._desk.take(worker, at, now_s)
                if trial is not None:
                    taken = placing.tries(trial, taken, now_s)
                return self._desk.begun(worker, taken, now_s), results
            left = len(self._desk.gates.backlog) > 0
            if self._desk.stopping and not left:
                return None
            if left and not worker.leaves:
                self._decided(Reason.LEAVE)
            worker.leaves = left
            self._changed.wait(_LOOK_AGAIN_S if left else None)


def _ignored(reason: Reason) -> None:
    """Where nobody counts decisions."""


def _nothing(worker: Worker) -> None:
    """Where there is nothing to warm up with."""
