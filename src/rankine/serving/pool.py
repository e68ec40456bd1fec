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
from typing import Any, ClassVar

import numpy as np

from rankine.errors import CapacityExceeded, DeadlineExceeded, EngineError, RankineError
from rankine.models.columns import Columns
from rankine.policy.admission import Admission, Gates, admit
from rankine.policy.autoscale import Signals
from rankine.policy.backlog import Backlog, Decision, Slice
from rankine.policy.batching import Limits
from rankine.policy.ladder import RungChoice
from rankine.policy.lanes import Lane
from rankine.policy.priorities import Priorities, Priority
from rankine.policy.reason import Reason
from rankine.policy.rules import Rules
from rankine.policy.sessions import SessionRungs
from rankine.serving.bodies import ClientGone
from rankine.serving.cores import pin
from rankine.serving.devices import PoolDevice, complete_on
from rankine.serving.elastic import Elastic
from rankine.serving.isolation.lost import WorkerLost, lost_twice
from rankine.serving.logs import LOGGER
from rankine.serving.pieces import Assembly, part_of
from rankine.serving.placing import Placing, Taken, Worker
from rankine.serving.results import Result, as_error, deliver, scatter, too_late
from rankine.serving.rungs import ServedRung
from rankine.serving.work import Outcome, Work, join

__all__ = ["Asked", "BatchRun", "OverQuota", "Pool", "QueueRefused"]

_TIMED = 3
"""Runs of each size in the warm-up whose median is the first prediction."""
_OPENED_WITHIN_S = 300.0
_REPLACED_WITHIN_S = 10.0
"""What was lost with its worker waits so long for another."""
_SEAT_S = 0.1
_LOOK_AGAIN_S = 0.005
"""A worker that leaves what waits to other devices looks so often whether they do as was predicted."""


class QueueRefused(CapacityExceeded):
    """A request was not let into the queue; ``retry_after_s`` says when to try again, ``reason`` why."""

    def __init__(self, message: str, retry_after_s: float, reason: Reason = Reason.QUEUE_FULL) -> None:
        super().__init__(message, hint=f"Try again in {retry_after_s:.3g} s.")
        self.retry_after_s = retry_after_s
        self.reason = reason


class OverQuota(QueueRefused):
    """A tenant has used up its quota, or its share while others wait."""

    code = "quota"
    http_status: ClassVar[int] = 429


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
DecisionObserver = Callable[[Reason], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of which only the head is there, as the policies see it."""

    rows: int
    requests: int
    arrived_s: float
    deadline_s: float
    tenant: str = ""
    priority: Priority = Priority.NORMAL


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
        self._elastic = Elastic(self._devices)
        self._rules = Rules()
        self._priorities = Priorities()
        self._gates = self._opened(limits)
        self._sessions = SessionRungs()
        self._assembly = Assembly()
        self._unanswered = 0
        self._draining = False
        self._stopping = False
        self._changed = threading.Condition()
        self._warm: Callable[[Worker], None] = _nothing
        self._placing = Placing(self._devices)
        self._workers = self._placing.workers
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
                self._elastic = Elastic(self._devices, [first[number] for number in range(len(self._devices))])
                self._gates = self._opened(self._gates.limits)

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._gates.backlog.rows

    @property
    def predicted_wait_s(self) -> float:
        """How long a request that came now would wait for the start of its batch."""
        now_s = perf_counter()
        with self._changed:
            lanes = self._lanes(now_s)
            work_s = self._gates.backlog.work_s + sum((lane.free_s - now_s) / lane.slowdown for lane in lanes)
            return work_s / sum(1 / lane.slowdown for lane in lanes)

    @property
    def predicted_finish_s(self) -> float:
        """How long a request of middling size that came now would take: what processes of a host compare."""
        return self.predicted_wait_s + self.middling_s

    @property
    def middling_s(self) -> float:
        """How long it would take if nobody else was there."""
        with self._changed:
            return self._elastic.middling_s()

    @property
    def signals(self) -> Signals:
        """What an autoscaler looks at, without the refusals."""
        with self._changed:
            return self._elastic.signals(perf_counter())

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
        return self._elastic.at

    @property
    def rungs_in_use(self) -> tuple[int, ...]:
        """Numbers of the rungs that are faster here than all better ones, the best first."""
        return self._elastic.numbers

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return self._unanswered > 0

    def govern(self, rules: Rules) -> None:
        """From now on these rules hold."""
        with self._changed:
            self._rules = rules
            self._ruled(self._gates)

    def rows_that_fit(self, least: int, asked: Asked) -> int:
        """How many of a request's rows there is time for: all, or half and half again, never fewer than ``least``."""
        with self._changed:
            while asked.rows > least and not self._admit(asked, commit=False).admitted:
                asked = replace(asked, rows=max(least, asked.rows // 2))
        return asked.rows

    def ask(self, head: Asked) -> None:
        """Whether a request of which only the head is there would be let in now; nothing is queued.

        Raises:
            QueueRefused, DeadlineExceeded: as :meth:`run`.
        """
        with self._changed:
            found = self._admit(head, commit=False)
            if not found.admitted:  # one that is let in counts once its body is there
                self._elastic.offered(head.rows, 1, perf_counter())
        if not found.admitted:
            self._decided(found.reason)
            raise _refusal(found)

    async def run(self, work: Work) -> Outcome:
        """Queue ``work`` and wait for its outcome.

        Raises:
            QueueRefused: it, or another request, would be late; the queue is full or the server is draining.
            DeadlineExceeded: the deadline passed while it waited, or cannot be met.
            BadRequest, EngineError: as the engine raised it.
            ClientGone: its client left while it waited; it did not run.
        """
        work.future = asyncio.get_running_loop().create_future()
        with self._changed:
            work.queued_s = perf_counter()
            found = self._admit(work, commit=True)
            if found.admitted:
                work.in_flight = self._unanswered
                self._unanswered += 1
                self._wake()
        self._decided(found.reason)
        if found.would is not None:
            self._would(found.would)
        if not found.admitted:
            raise _refusal(found)
        return await work.future

    def drain(self) -> None:
        """Take nothing new; what was taken is still answered."""
        with self._changed:
            self._draining = True

    def close(self) -> None:
        """Answer what waits, then end the threads and free the runner."""
        with self._changed:
            self._draining = self._stopping = True
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

    def _opened(self, limits: Limits) -> Gates[Work]:
        cost = self._elastic.costs[self._elastic.fastest]
        return self._ruled(Gates(Backlog(cost, limits), cost, limits))

    def _ruled(self, gates: Gates[Work]) -> Gates[Work]:
        rules = self._rules
        gates.quotas, gates.shares, gates.concurrency = rules.quotas, rules.shares, rules.concurrency
        gates.dry_run = rules.dry_run
        return gates

    def _lanes(self, now_s: float) -> list[Lane]:
        return self._placing.lanes(now_s, self._elastic, self._gates.backlog.shape.target_rows)

    def _wake(self) -> None:
        """Something waits; the lock is held. Which of several devices should take it, each finds out by itself."""
        if self._placing.several:
            self._changed.notify_all()
        else:
            self._changed.notify()

    def _admit(self, work: Work | Asked, *, commit: bool) -> Admission:
        """The policies' decision; the lock is held."""
        now_s = perf_counter()
        session = work.session if isinstance(work, Work) else ""
        if commit:
            self._elastic.offered(work.rows, work.requests, now_s)
        queued: Any = work  # of what is only asked nothing is kept
        return admit(
            self._gates,
            queued,
            now_s,
            self._lanes(now_s),
            in_flight=self._unanswered,
            tenant=work.tenant,
            below_top=self._priorities.below_top(work.priority, now_s),
            rung=self._sessions.rung(session, now_s) if session else None,
            draining=self._draining,
            commit=commit,
        )

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
            taken, results = found
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
        while not seats.ready(_SEAT_S) and not self._stopping:
            continue
        with self._changed:
            worker.running = False

    def _next(self, worker: Worker) -> tuple[Taken, list[Result]] | None:
        """Wait for what a worker runs next; None where it is to end. The lock is held."""
        while True:
            now_s = perf_counter()
            if worker.given:
                return self._begun(worker, worker.given.popleft(), now_s), []
            at = self._placing.next_batch(worker, self._gates.backlog, self._elastic, now_s)
            if at is not None:
                worker.leaves = False
                taken, results = self._take(worker, at, now_s)
                return self._begun(worker, taken, now_s), results
            left = len(self._gates.backlog) > 0
            if self._stopping and not left:
                return None
            if left and not worker.leaves:
                self._decided(Reason.LEAVE)
            worker.leaves = left
            self._changed.wait(_LOOK_AGAIN_S if left else None)

    def _begun(self, worker: Worker, taken: Taken, now_s: float) -> Taken:
        """The batch, from now on the worker's own; the lock is held."""
        # What runs elsewhere on other cores is a part of what a device's batches take, and its own model learns that.
        others = [each for each in self._workers if each.device == worker.device]
        co_running = sum(each.running for each in others)
        worker.running = bool(taken.decision.slices)
        worker.free_s = now_s + taken.predicted_s
        return replace(taken, co_running=co_running)

    def _take(self, worker: Worker, at: int, now_s: float) -> tuple[Taken, list[Result]]:
        """A planned batch without what nobody waits for, and what is answered without running; the lock is held."""
        choice = self._chosen(now_s)
        results = self._emptied(now_s)
        decision = self._gates.backlog.take(now_s, at)
        results += [(work, too_late(work)) for work in (*decision.expired, *decision.hopeless)]
        for reason, works in ((Reason.EXPIRED, decision.expired), (Reason.HOPELESS, decision.hopeless)):
            for _ in works:
                self._decided(reason)
        gone = [piece for piece in decision.slices if piece.work.presence is not None and piece.work.presence.gone]
        for piece in gone:
            self._gates.backlog.remove(piece.work, now_s)
            results.append((piece.work, ClientGone()))
        if gone:
            decision = _without(decision, gone)
        rung, text = self._kept(decision, choice, now_s)
        taken = self._on(worker.device, Taken(decision, rung, text, 0.0, 0))
        return (self._shared(worker, taken, now_s) if self._placing.several else taken), results

    def _emptied(self, now_s: float) -> list[Result]:
        """What is dropped from the head of a queue that stands; the lock is held."""
        backlog, standing = self._gates.backlog, self._rules.standing
        if standing is None or not backlog.planned:
            return []
        work = backlog.planned[0].pieces[0].entry.work
        waited_s = now_s - work.queued_s
        if not standing.drops(waited_s, now_s, last=len(backlog) == 1):
            return []
        if self._rules.dry_run:
            self._would(Reason.STANDING_QUEUE)
            return []
        self._decided(Reason.STANDING_QUEUE)
        backlog.remove(work, now_s)
        text = f"the queue stands: requests wait for {1000 * waited_s:.0f} ms"
        return [(work, QueueRefused(text, waited_s, Reason.STANDING_QUEUE))]

    def _on(self, device: int, taken: Taken) -> Taken:
        """A batch on its way to a device."""
        decision = taken.decision
        cost = self._elastic.by_device[device][taken.rung]
        predicted_s = cost.mean_s(decision.rows, decision.requests) if decision.slices else 0.0
        return replace(taken, device=device, predicted_s=predicted_s)

    def _shared(self, worker: Worker, taken: Taken, now_s: float) -> Taken:
        """A worker's part of a batch: all of it, or of one request that nothing waits behind what pays to divide."""
        decision = taken.decision
        if len(decision.slices) != 1 or len(self._gates.backlog) or self._stopping:
            if decision.slices:
                self._wake()  # what waits has one batch less before it: for another device it may look otherwise now
            return replace(taken, placed=Reason.LEAST_FINISH)
        found = self._placing.shared(worker, decision.rows, decision.requests, self._elastic, now_s)
        if found is None:
            return replace(taken, placed=Reason.LEAST_FINISH)
        placement, workers = found
        piece, mine = decision.slices[0], taken
        for part, other in zip(placement.parts, workers, strict=True):
            own = Slice(piece.work, piece.first_row + part.first_row, part.rows)
            divided = replace(taken, decision=replace(decision, slices=(own,), rows=part.rows), placed=Reason.SPREAD)
            self._assembly.begin(own, taken.rung)
            if other is worker:
                mine = self._on(worker.device, divided)
            else:
                other.given.append(self._on(other.device, divided))
        self._changed.notify_all()
        return mine

    def _chosen(self, now_s: float) -> RungChoice | None:
        """The rung that the load asks for, with all that waits; None where there is nothing to choose."""
        backlog = self._gates.backlog
        if len(self._rungs) == 1 or not backlog.planned:
            return None
        wait_s = now_s - min(piece.entry.work.queued_s for piece in backlog.planned[0].pieces)
        return self._elastic.choose(now_s, backlog, self._lanes(now_s), wait_s)

    def _kept(self, decision: Decision[Work], choice: RungChoice | None, now_s: float) -> tuple[int, str]:
        """The rung for a batch: of a request of which a part has run it is the same, of a session that of before."""
        if choice is None or not decision.slices:
            return 0, decision.text
        begun = [rung for piece in decision.slices if (rung := self._assembly.rung_of(piece.work)) is not None]
        if begun:
            rung, text = begun[0], "the rest of a request keeps to its variant"
        elif decision.rung is not None:
            rung, text = decision.rung, "its session keeps to it"
        else:
            self._decided(choice.reason)
            rung, text = int(choice.rung.variant), choice.text
        for piece in decision.slices:
            self._assembly.begin(piece, rung)
            if piece.work.session:
                self._sessions.saw(piece.work.session, rung, now_s)
        return rung, f"{decision.text}; {self._rungs[rung].variant}: {text}"

    def _run(self, taken: Taken) -> list[Result]:
        begin = perf_counter()
        device = self._devices[taken.device]
        pieces, rung = taken.decision.slices, device.rungs[taken.rung]
        try:
            works = [part_of(piece) for piece in pieces]
            batch = join(works, self.complete)
            out = np.empty((batch.rows, self._tasks), np.float32)
            if device.seats is not None:
                cost = self._elastic.by_device[taken.device][taken.rung]
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
            self._elastic.ran(taken.rung, batch.rows, requests, taken.co_running, run_s, now_s, taken.device)
            self._placing.worked(taken.device)
            debt = self._elastic.debt.recent(now_s)
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
            elif seats is not None and not seats.ready(0.0 if self._stopping else min(_REPLACED_WITHIN_S, left_s)):
                self._settle([(piece.work, lost)])
            else:
                self._settle(self._run(replace(_alone(taken, piece), again=True)))
        return []

    def _moved(self, taken: Taken, error: Exception) -> bool:
        """Whether another device has a batch now on which its own failed; that one gets nothing for a while."""
        if not self._placing.several or (isinstance(error, RankineError) and not isinstance(error, EngineError)):
            return False  # there is no other, or it is the request that is at fault
        with self._changed:
            now_s = perf_counter()
            other = None if self._stopping else self._placing.failed(taken, now_s, self._elastic)
            if other is None:
                return False
            moved = replace(taken, failed_on=taken.device, placed=Reason.DEVICE_FAILED)
            other.given.append(self._on(other.device, moved))
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
            whole = self._assembly.add(piece, result)
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
                self._assembly.forget(work)
                if self._rules.concurrency is not None and isinstance(result, Outcome):
                    self._rules.concurrency.observe(perf_counter() - work.queued_s, work.in_flight)
                if isinstance(result, Outcome | DeadlineExceeded):
                    self._gates.answered(late=isinstance(result, DeadlineExceeded) or perf_counter() > work.deadline_s)
                if not isinstance(result, Outcome):
                    self._gates.backlog.remove(work, perf_counter())
        try:
            deliver(answered)
        except RuntimeError:  # the event loop is closed: nobody waits any more
            LOGGER.exception("a batch could not be delivered")
        finally:
            with self._changed:
                self._unanswered -= len(answered)


def _refusal(found: Admission) -> RankineError:
    if found.status == DeadlineExceeded.http_status:
        return DeadlineExceeded("the deadline cannot be met", where="deadline", got=found.text)
    kind = OverQuota if found.status == OverQuota.http_status else QueueRefused
    return kind(found.text, found.retry_after_s, found.reason)


def _without(decision: Decision[Work], gone: Sequence[Slice[Work]]) -> Decision[Work]:
    kept = tuple(piece for piece in decision.slices if piece not in gone)
    rows = sum(piece.rows for piece in kept)
    return replace(decision, slices=kept, rows=rows, requests=sum(piece.work.requests for piece in kept))


def _alone(taken: Taken, piece: Slice[Work]) -> Taken:
    decision = replace(taken.decision, slices=(piece,), rows=piece.rows, requests=piece.work.requests)
    return replace(taken, decision=decision, text="alone: its batch failed")


def _ignored(reason: Reason) -> None:
    """Where nobody counts decisions."""


def _nothing(worker: Worker) -> None:
    """Where there is nothing to warm up with."""
