"""Worker threads that take batches from one queue, as the policies decide, and run them on an engine.

A request is let in only if it and all that were let in before will be in time, by what batches are predicted to take;
the prediction is measured in the warm-up and follows what is seen. Engines release the GIL while they compute, so
threads are enough. Results go back to the event loop with one wake-up a batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from rankine.compilation.engine import Runner
from rankine.errors import BadRequest, CapacityExceeded, DeadlineExceeded, EngineError, RankineError
from rankine.policy.admission import Admission, Gates, admit
from rankine.policy.backlog import Backlog, Decision, Slice
from rankine.policy.batching import Limits
from rankine.policy.cost import CostModel
from rankine.policy.lanes import Lane
from rankine.policy.reason import Reason
from rankine.serving.bodies import ClientGone
from rankine.serving.logs import LOGGER
from rankine.serving.pieces import Assembly, part_of
from rankine.serving.work import Outcome, Work, join

__all__ = ["BatchRun", "Pool", "QueueRefused"]

_GUESS = ((1, 1e-4), (512, 1e-3))
"""Seconds of rows where nothing was measured: too little rather than too much, so that nobody is refused by a guess."""
_TIMED = 3
"""Runs of each size in the warm-up whose median is the first prediction."""


class QueueRefused(CapacityExceeded):
    """A request was not let into the queue; ``retry_after_s`` says when to try again, ``reason`` why."""

    def __init__(self, message: str, retry_after_s: float, reason: Reason = Reason.QUEUE_FULL) -> None:
        super().__init__(message, hint=f"Try again in {retry_after_s:.3g} s.")
        self.retry_after_s = retry_after_s
        self.reason = reason


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One batch, as the pool reports it to its observer.

    Attributes:
        run_s: from joining it, which completes items given inline, to its logits. ``predicted_s``: what was expected.
        queue_s: the waits of its requests.
    """

    rows: int
    requests: int
    run_s: float
    queue_s: tuple[float, ...]
    predicted_s: float = 0.0
    reason: Reason = Reason.ALONE


Result = tuple[Work, "Outcome | RankineError | ClientGone"]
Observer = Callable[[BatchRun], None]
DecisionObserver = Callable[[Reason], None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request of which only the head is there, as the policies see it."""

    rows: int
    requests: int
    arrived_s: float
    deadline_s: float


@dataclass(slots=True)
class _Worker:
    """Attributes:
    free_s: when what it runs is predicted to be done.
    """

    thread: threading.Thread | None = None
    running: bool = False
    free_s: float = 0.0
    timed: dict[int, list[float]] = field(default_factory=dict)


class Pool:
    """A bounded queue and the threads that empty it.

    Args:
        runner: what computes; shared by all workers.
        tasks: columns of the runner's logits.
        workers: number of threads.
        limits: of batches and of the queue.
        observe: called from worker threads after every engine call.
        decided: called with the reason of every request's admission or refusal, and of what left the queue unanswered.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        tasks: int,
        workers: int,
        limits: Limits,
        observe: Observer,
        decided: DecisionObserver | None = None,
    ) -> None:
        self._runner = runner
        self._tasks = tasks
        self._observe = observe
        self._decided = decided or _ignored
        self._gates = _gates(limits, _GUESS)
        self._assembly = Assembly()
        self._unanswered = 0
        self._draining = False
        self._stopping = False
        self._changed = threading.Condition()
        self._warm: Callable[[_Worker], None] = _nothing
        self._workers = [_Worker() for _ in range(workers)]
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
        profile = [(rows, float(np.median(spent_s))) for rows, spent_s in sorted(self._workers[0].timed.items())]
        if profile:
            with self._changed:
                self._gates = _gates(self._gates.limits, profile)

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._gates.backlog.rows

    @property
    def predicted_wait_s(self) -> float:
        """How long a request that came now would wait for the start of its batch."""
        now_s = perf_counter()
        with self._changed:
            running_s = sum(max(0.0, worker.free_s - now_s) for worker in self._workers if worker.running)
            return (self._gates.backlog.work_s + running_s) / len(self._workers)

    @property
    def alive(self) -> bool:
        """Whether there is a worker to answer what is queued."""
        return any(worker.thread is not None and worker.thread.is_alive() for worker in self._workers)

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return self._unanswered > 0

    def ask(self, rows: int, *, arrived_s: float, deadline_s: float) -> None:
        """Whether a request of which only the head is there would be let in now; nothing is queued.

        Raises:
            QueueRefused, DeadlineExceeded: as :meth:`run`.
        """
        asked = _Asked(rows, 1, arrived_s, deadline_s)
        with self._changed:
            # The backlog only plans with it: what it plans with is never taken, as nothing is committed.
            found = self._admit(asked, commit=False)  # type: ignore[arg-type]
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
                self._unanswered += 1
                self._changed.notify()
        self._decided(found.reason)
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
        self._runner.close()

    def _admit(self, work: Work, *, commit: bool) -> Admission:
        """The policies' decision; the lock is held."""
        now_s = perf_counter()
        lanes = [Lane(max(now_s, worker.free_s) if worker.running else now_s) for worker in self._workers]
        gates = self._gates
        return admit(gates, work, now_s, lanes, in_flight=self._unanswered, draining=self._draining, commit=commit)

    def _warm_up(
        self, worker: _Worker, works: Sequence[Work], failures: list[RankineError], done: threading.Semaphore
    ) -> None:
        try:
            for work in works:
                begin = perf_counter()
                self._runner.run(join([work], self._runner.complete), np.empty((work.rows, self._tasks), np.float32))
                worker.timed.setdefault(work.rows, []).append(perf_counter() - begin)
            worker.timed = {rows: spent_s[1 : 1 + _TIMED] or spent_s for rows, spent_s in worker.timed.items()}
        except Exception as error:  # noqa: BLE001  told to whoever starts the pool
            failures.append(_as_error(error))
        finally:
            done.release()

    def _serve(self, worker: _Worker) -> None:
        self._warm(worker)
        while True:
            with self._changed:
                while not len(self._gates.backlog) and not self._stopping:
                    self._changed.wait()
                if not len(self._gates.backlog):
                    return
                taken, results = self._take(worker)
                co_running = sum(other.running for other in self._workers) - 1
            try:
                results += self._run(taken, co_running) if taken.slices else []
            except Exception as error:  # noqa: BLE001  of an observer: a worker must outlive it, and its batch be answered
                LOGGER.exception("a batch failed outside of its engine")
                results += [(piece.work, _as_error(error)) for piece in taken.slices]
            finally:
                with self._changed:
                    worker.running = False
            self._settle(results)

    def _take(self, worker: _Worker) -> tuple[Decision[Work], list[Result]]:
        """The next batch without what nobody waits for, and what is answered without running; the lock is held."""
        now_s = perf_counter()
        decision = self._gates.backlog.take(now_s)
        results: list[Result] = [(work, _too_late(work)) for work in (*decision.expired, *decision.hopeless)]
        for reason, works in ((Reason.EXPIRED, decision.expired), (Reason.HOPELESS, decision.hopeless)):
            for _ in works:
                self._decided(reason)
        gone = [piece for piece in decision.slices if piece.work.presence is not None and piece.work.presence.gone]
        for piece in gone:
            self._gates.backlog.remove(piece.work, now_s)
            results.append((piece.work, ClientGone()))
        if gone:
            decision = _without(decision, gone)
        worker.running = bool(decision.slices)
        worker.free_s = now_s + decision.predicted_s
        return decision, results

    def _run(self, taken: Decision[Work], co_running: int) -> list[Result]:
        begin = perf_counter()
        pieces = taken.slices
        try:
            works = [part_of(piece) for piece in pieces]
            batch = join(works, self._runner.complete)
            out = np.empty((batch.rows, self._tasks), np.float32)
            self._runner.run(batch, out)
            run_s = perf_counter() - begin  # joining counts: it runs the catalog's part on items given inline
        except Exception as error:  # noqa: BLE001  a worker thread must outlive whatever an engine raises
            if len(pieces) == 1:
                return [(pieces[0].work, _as_error(error))]
            # One bad request must not spoil the others that happened to be in its batch.
            return [result for piece in pieces for result in self._run(_alone(taken, piece), co_running)]
        queue_s = tuple(begin - work.queued_s for work in works)
        with self._changed:
            self._gates.cost.observe(batch.rows, taken.requests, co_running, run_s)
        self._observe(BatchRun(batch.rows, len(works), run_s, queue_s, taken.predicted_s, taken.reason))
        found = _scatter(works, out, begin, run_s, taken.text)
        with self._changed:
            return list(self._assembled(pieces, found))

    def _assembled(self, pieces: Sequence[Slice[Work]], found: Sequence[Result]) -> Iterable[Result]:
        """Results of requests that are complete with these; the lock is held."""
        for piece, (_, result) in zip(pieces, found, strict=True):
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
                if not isinstance(result, Outcome):
                    self._gates.backlog.remove(work, perf_counter())
        try:
            _deliver(answered)
        except RuntimeError:  # the event loop is closed: nobody waits any more
            LOGGER.exception("a batch could not be delivered")
        finally:
            with self._changed:
                self._unanswered -= len(answered)


def _gates(limits: Limits, profile: Iterable[tuple[int, float]]) -> Gates[Work]:
    cost = CostModel(profile)
    return Gates(Backlog(cost, limits), cost, limits)


def _refusal(found: Admission) -> RankineError:
    if found.status == DeadlineExceeded.http_status:
        return DeadlineExceeded("the deadline cannot be met", got=found.text)
    return QueueRefused(found.text, found.retry_after_s, found.reason)


def _without(decision: Decision[Work], gone: Sequence[Slice[Work]]) -> Decision[Work]:
    kept = tuple(piece for piece in decision.slices if piece not in gone)
    rows = sum(piece.rows for piece in kept)
    return replace(decision, slices=kept, rows=rows, requests=sum(piece.work.requests for piece in kept))


def _alone(decision: Decision[Work], piece: Slice[Work]) -> Decision[Work]:
    text = "alone: its batch failed"
    return replace(decision, slices=(piece,), rows=piece.rows, requests=piece.work.requests, text=text)


def _ignored(reason: Reason) -> None:
    """Where nobody counts decisions."""


def _nothing(worker: _Worker) -> None:
    """Where there is nothing to warm up with."""


def _scatter(works: Sequence[Work], logits: np.ndarray, begin_s: float, run_s: float, reason: str) -> list[Result]:
    results: list[Result] = []
    start = 0
    for work in works:
        mine = logits[start : start + work.rows]
        start += work.rows
        if np.isfinite(mine).all():
            queue_s = begin_s - work.queued_s
            results.append((work, Outcome(mine, queue_s, run_s, len(logits), len(works), reason)))
        else:
            hint = "A number of the request is too far from what the model was trained on."
            results.append((work, BadRequest("the model has no finite score for this request", hint=hint)))
    return results


def _too_late(work: Work) -> DeadlineExceeded:
    waited_ms = 1000 * (perf_counter() - work.arrived_s)
    return DeadlineExceeded("the deadline passed while the request waited", got=f"{waited_ms:.1f} ms since its arrival")


def _as_error(error: Exception) -> RankineError:
    return (
        error if isinstance(error, RankineError) else EngineError(f"the engine failed: {type(error).__name__}: {error}")
    )


def _deliver(results: Sequence[Result]) -> None:
    """Set all futures with one wake-up of each event loop (there is one, but a test may use several)."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Result]] = {}
    for work, outcome in results:
        if work.future is not None:
            by_loop.setdefault(work.future.get_loop(), []).append((work, outcome))
    for loop, mine in by_loop.items():
        loop.call_soon_threadsafe(_settle, mine)


def _settle(results: Sequence[Result]) -> None:
    for work, outcome in results:
        if work.future is None or work.future.done():
            continue
        if isinstance(outcome, Outcome):
            work.future.set_result(outcome)
        else:
            work.future.set_exception(outcome)
