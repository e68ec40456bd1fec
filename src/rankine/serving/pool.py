"""Worker threads that take batches from one queue, as the policies decide, and run them on an engine, or on several.

A request is let in only if it and all that were let in before will be in time, by what batches are predicted to take;
the prediction is measured in the warm-up and follows what is seen. Engines release the GIL while they compute, so
threads are enough. Results go back to the event loop with one wake-up a batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from rankine.errors import DeadlineExceeded, EngineError, RankineError
from rankine.models.columns import Columns
from rankine.policy.autoscale import Signals
from rankine.policy.backlog import Slice
from rankine.policy.batching import Limits
from rankine.policy.reason import Reason
from rankine.policy.rules import Rules
from rankine.serving.cores import pin
from rankine.serving.desk import Asked, DecisionObserver, Desk
from rankine.serving.devices import PoolDevice, complete_on
from rankine.serving.isolation.lost import WorkerLost, lost_twice
from rankine.serving.items import Items
from rankine.serving.logs import LOGGER
from rankine.serving.pieces import part_of
from rankine.serving.placing import Taken, Worker
from rankine.serving.refusals import refusal
from rankine.serving.results import Result, as_error, deliver, scatter, too_late
from rankine.serving.rungs import ServedRung
from rankine.serving.work import Outcome, Work, join

__all__ = ["BatchRun", "Pool"]

_TIMED = 3
"""Runs of each size in the warm-up whose median is the first prediction."""
_OPENED_WITHIN_S = 300.0
_REPLACED_WITHIN_S = 10.0
"""What was lost with its worker waits so long for another."""
_HERE_S = 3e-4
"""What is predicted to be done so soon runs on the event loop: to wake a worker and be woken takes as long."""
_HERE_CROWDED_S = 1e-4
"""The same where others wait for the event loop: what a worker then spares it is what handing over would cost."""
_SEAT_S = 0.1
_LOOK_AGAIN_S = 0.005
"""A worker that leaves what waits to other devices looks so often whether they do as was predicted."""


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One batch, as the pool reports it to its observer.

    Attributes:
        run_s: from joining it, which completes items given inline, to its logits. ``predicted_s``: what was expected.
        queue_s: the waits of its requests.
        rung: number of the variant that ran. ``debt``: the quality debt of the last minute.
        device: that ran it. ``placed``: why there; None where the pool has one device.
    """

    rows: int
    requests: int
    run_s: float
    queue_s: tuple[float, ...]
    predicted_s: float = 0.0
    reason: Reason = Reason.ALONE
    rung: int = 0
    debt: float = 0.0
    device: str = ""
    placed: Reason | None = None


Observer = Callable[[BatchRun], None]


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
        self._observe = observe
        self._decided = decided or _ignored
        self._would = would or _ignored
        self._changed = threading.Condition()
        self._desk = Desk(self._devices, limits, self._changed, self._decided, self._would)
        self._warm: Callable[[Worker], None] = _nothing
        self._here_s = 0.0  # nothing runs on the event loop by a guess
        self._workers = self._desk.placing.workers
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
            with self._changed:
                first = {worker.device: worker.timed for worker in reversed(self._workers)}
                self._desk.timed([first[number] for number in range(len(self._devices))])
            if len(self._devices) == 1 and self._devices[0].seats is None:
                self._here_s = _HERE_S

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._desk.gates.backlog.rows

    @property
    def predicted_wait_s(self) -> float:
        """How long a request that came now would wait for the start of its batch."""
        with self._changed:
            return self._desk.wait_s(perf_counter())

    @property
    def predicted_finish_s(self) -> float:
        """How long a request of middling size that came now would take: what processes of a host compare."""
        return self.predicted_wait_s + self.middling_s

    @property
    def middling_s(self) -> float:
        """How long it would take if nobody else was there."""
        with self._changed:
            return self._desk.elastic.middling_s()

    @property
    def signals(self) -> Signals:
        """What an autoscaler looks at, without the refusals."""
        with self._changed:
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
        with self._changed:
            self._desk.govern(rules)

    def rows_that_fit(self, least: int, asked: Asked) -> int:
        """How many of a request's rows there is time for: all, or half and half again, never fewer than ``least``."""
        with self._changed:
            while asked.rows > least and not self._desk.admit(asked, commit=False).admitted:
                asked = replace(asked, rows=max(least, asked.rows // 2))
        return asked.rows

    def ask(self, head: Asked) -> None:
        """Whether a request of which only the head is there would be let in now; nothing is queued.

        Raises:
            QueueRefused, DeadlineExceeded: as :meth:`run`.
        """
        with self._changed:
            found = self._desk.admit(head, commit=False)
            if not found.admitted:  # one that is let in counts once its body is there
                self._desk.elastic.offered(head.rows, 1, perf_counter())
        if not found.admitted:
            self._decided(found.reason)
            raise refusal(found)

    async def run(self, work: Work, *, crowded: bool = False) -> Outcome:
        """Queue ``work`` and wait for its outcome; ``crowded``: others wait for the event loop.

        Raises:
            QueueRefused: it, or another request, would be late; the queue is full or the server is draining.
            DeadlineExceeded: the deadline passed while it waited, or cannot be met.
            BadRequest, EngineError: as the engine raised it.
            ClientGone: its client left while it waited; it did not run.
        """
        work.future = asyncio.get_running_loop().create_future()
        with self._changed:
            work.queued_s = perf_counter()
            found = self._desk.admit(work, commit=True)
            if found.admitted:
                work.in_flight = self._desk.unanswered
                self._desk.unanswered += 1
            here = self._taken_here(work, crowded=crowded) if found.admitted else None
            if found.admitted and here is None:
                self._desk.wake()
        self._decided(found.reason)
        if found.would is not None:
            self._would(found.would)
        if not found.admitted:
            raise refusal(found)
        if here is not None:
            self._finish(self._workers[0], *here)
        return await work.future

    def drain(self) -> None:
        """Take nothing new; what was taken is still answered."""
        with self._changed:
            self._desk.draining = True

    def close(self) -> None:
        """Answer what waits, then end the threads and free the runner."""
        with self._changed:
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

    def complete(self, items: Columns) -> Columns:
        """Columns of items, and beside them what every rung computes of an item ahead of time."""
        return complete_on(self._devices, items)

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
                    rung.runner.run(join([work], self.complete), np.empty((work.rows, self._tasks), np.float32))
                    timed.setdefault(work.rows, []).append(perf_counter() - begin)
                worker.timed.append({rows: spent_s[1 : 1 + _TIMED] or spent_s for rows, spent_s in timed.items()})
        except Exception as error:  # noqa: BLE001  told to whoever starts the pool
            failures.append(as_error(error))
        finally:
            done.release()

    def _serve(self, worker: Worker) -> None:
        self._warm(worker)
        while True:
            self._await_seat(worker)
            with self._changed:
                found = self._next(worker)
            if found is None:
                return
            self._finish(worker, *found)

    def _taken_here(self, work: Work, *, crowded: bool) -> tuple[Taken, list[Result]] | None:
        """The batch of a request that is alone and done sooner than a worker wakes up, for the event loop to run; None
        where it is for a worker. The lock is held."""
        desk, now_s = self._desk, perf_counter()
        within_s = min(self._here_s, _HERE_CROWDED_S) if crowded else self._here_s
        if len(desk.gates.backlog) != 1 or len(desk.gates.backlog.planned) != 1:
            return None
        if any(worker.running for worker in self._workers):
            return None
        if work.items and not isinstance(work.items, Items):  # no prediction knows what is computed of inline items
            return None
        costs = desk.elastic.costs
        # On whichever rung: its session may keep to a slow one.
        if any(costs[at].mean_s(work.rows, work.requests) > within_s for at in desk.elastic.numbers):
            return None
        taken, results = desk.take(self._workers[0], 0, now_s)
        return desk.begun(self._workers[0], taken, now_s), results

    def _finish(self, worker: Worker, taken: Taken, results: list[Result]) -> None:
        """Run a batch, and answer its requests and those that were answered without running."""
        try:
            results += self._run(taken) if taken.decision.slices else []
        except Exception as error:  # noqa: BLE001  of an observer: a worker must outlive it, and its batch be answered
            LOGGER.exception("a batch failed outside of its engine")
            results += [(piece.work, as_error(error)) for piece in taken.decision.slices]
        finally:
            with self._changed:
                worker.running = False
        self._settle(results)

    def _await_seat(self, worker: Worker) -> None:
        """Where batches run in processes: wait for one, and leave the queue to other workers meanwhile."""
        seats = self._devices[worker.device].seats
        if seats is None or seats.ready(0.0):
            return
        with self._changed:
            worker.running, worker.free_s = True, perf_counter() + seats.start_s
        while not seats.ready(_SEAT_S) and not self._desk.stopping:
            continue
        with self._changed:
            worker.running = False

    def _next(self, worker: Worker) -> tuple[Taken, list[Result]] | None:
        """Wait for what a worker runs next; None where it is to end. The lock is held."""
        while True:
            now_s = perf_counter()
            if worker.given:
                return self._desk.begun(worker, worker.given.popleft(), now_s), []
            at = self._desk.placing.next_batch(worker, self._desk.gates.backlog, self._desk.elastic, now_s)
            if at is not None:
                worker.leaves = False
                taken, results = self._desk.take(worker, at, now_s)
                return self._desk.begun(worker, taken, now_s), results
            left = len(self._desk.gates.backlog) > 0
            if self._desk.stopping and not left:
                return None
            if left and not worker.leaves:
                self._decided(Reason.LEAVE)
            worker.leaves = left
            self._changed.wait(_LOOK_AGAIN_S if left else None)

    def _run(self, taken: Taken) -> list[Result]:
        begin = perf_counter()
        device = self._devices[taken.device]
        pieces, rung = taken.decision.slices, device.rungs[taken.rung]
        try:
            works = [part_of(piece) for piece in pieces]
            batch = join(works, self.complete)
            out = np.empty((batch.rows, self._tasks), np.float32)
            if device.seats is not None:
                cost = self._desk.elastic.by_device[taken.device][taken.rung]
                device.seats.expect(*cost.predict(batch.rows, taken.decision.requests, taken.co_running))
            rung.runner.run(batch, out)
            run_s = perf_counter() - begin  # joining counts: it runs the catalog's part on items given inline
        except WorkerLost as lost:
            return self._again(taken, lost)
        except Exception as error:  # noqa: BLE001  a worker thread must outlive whatever an engine raises
            if self._moved(taken, error):
                return []
            if len(pieces) == 1:
                return [(pieces[0].work, as_error(error))]
            # One bad request must not spoil the others that happened to be in its batch.
            return [result for piece in pieces for result in self._run(_alone(taken, piece))]
        queue_s = tuple(begin - work.queued_s for work in works)
        now_s, requests = begin + run_s, taken.decision.requests
        with self._changed:
            self._desk.elastic.ran(taken.rung, batch.rows, requests, taken.co_running, run_s, now_s, taken.device)
            self._desk.placing.worked(taken.device)
            debt = self._desk.elastic.debt.recent(now_s)
        reason = taken.decision.reason
        ran = BatchRun(batch.rows, len(works), run_s, queue_s, taken.predicted_s, reason, taken.rung, debt)
        self._observe(replace(ran, device=device.name, placed=taken.placed))
        found = scatter(works, out, begin, run_s, taken.text, rung)
        with self._changed:
            return list(self._assembled(pieces, found))

    def _again(self, taken: Taken, lost: WorkerLost) -> list[Result]:
        """What ran when its worker was lost, once more: each request alone, so that one that kills workers harms no
        other. Nothing of it was answered, as only this process answers."""
        if taken.again:
            return [(piece.work, lost_twice(lost)) for piece in taken.decision.slices]
        seats = self._devices[taken.device].seats
        for piece in taken.decision.slices:
            self._decided(Reason.WORKER_LOST)
            left_s = piece.work.deadline_s - perf_counter()
            if left_s <= 0:
                self._settle([(piece.work, too_late(piece.work))])
            elif seats is not None and not seats.ready(0.0 if self._desk.stopping else min(_REPLACED_WITHIN_S, left_s)):
                self._settle([(piece.work, lost)])
            else:
                self._settle(self._run(replace(_alone(taken, piece), again=True)))
        return []

    def _moved(self, taken: Taken, error: Exception) -> bool:
        """Whether another device has a batch now on which its own failed; that one gets nothing for a while."""
        if not self._desk.placing.several or (isinstance(error, RankineError) and not isinstance(error, EngineError)):
            return False  # there is no other, or it is the request that is at fault
        with self._changed:
            now_s = perf_counter()
            other = None if self._desk.stopping else self._desk.placing.failed(taken, now_s, self._desk.elastic)
            if other is None:
                return False
            moved = replace(taken, failed_on=taken.device, placed=Reason.DEVICE_FAILED)
            other.given.append(self._desk.on(other.device, moved))
            self._changed.notify_all()
        self._decided(Reason.DEVICE_FAILED)
        fields = {"device": self._devices[taken.device].name, "to": self._devices[other.device].name}
        fields |= {"error": str(as_error(error))}
        LOGGER.warning(
            "a device failed: its batch goes to another, and it is left out for a while", extra={"fields": fields}
        )
        return True

    def _assembled(self, pieces: Sequence[Slice[Work]], found: Sequence[Result]) -> Iterable[Result]:
        """Results of requests that are complete with these; the lock is held."""
        for piece, (_, result) in zip(pieces, found, strict=True):
            if piece.work.answered:  # by another part that failed
                continue
            if not isinstance(result, Outcome):
                yield piece.work, result
                continue
            whole = self._desk.assembly.add(piece, result)
            if whole is not None:
                yield piece.work, whole

    def _settle(self, results: Sequence[Result]) -> None:
        """Answer; of a request that failed, nothing further runs."""
        answered: list[Result] = []
        with self._changed:
            for work, result in results:
                if work.answered:
                    continue
                work.answered = True
                answered.append((work, result))
                self._desk.assembly.forget(work)
                if self._desk.rules.concurrency is not None and isinstance(result, Outcome):
                    self._desk.rules.concurrency.observe(perf_counter() - work.queued_s, work.in_flight)
                if isinstance(result, Outcome | DeadlineExceeded):
                    self._desk.gates.answered(
                        late=isinstance(result, DeadlineExceeded) or perf_counter() > work.deadline_s
                    )
                if not isinstance(result, Outcome):
                    self._desk.gates.backlog.remove(work, perf_counter())
        try:
            deliver(answered)
        except RuntimeError:  # the event loop is closed: nobody waits any more
            LOGGER.exception("a batch could not be delivered")
        finally:
            with self._changed:
                self._desk.unanswered -= len(answered)


def _alone(taken: Taken, piece: Slice[Work]) -> Taken:
    decision = replace(taken.decision, slices=(piece,), rows=piece.rows, requests=piece.work.requests)
    return replace(taken, decision=decision, text="alone: its batch failed")


def _ignored(reason: Reason) -> None:
    """Where nobody counts decisions."""


def _nothing(worker: Worker) -> None:
    """Where there is nothing to warm up with."""
