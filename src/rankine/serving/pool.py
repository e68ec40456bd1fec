"""Worker threads that take batches from one queue, as the batching policy decides, and run them on an engine.

Engines release the GIL while they compute, so threads are enough. Results go back to the event loop with one wake-up a
batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from rankine.compilation.engine import Runner
from rankine.errors import BadRequest, CapacityExceeded, DeadlineExceeded, EngineError, RankineError
from rankine.policy import admit, form_batch
from rankine.serving.bodies import ClientGone
from rankine.serving.logs import LOGGER
from rankine.serving.work import Outcome, Work, join

__all__ = ["BatchRun", "Pool", "QueueRefused"]


class QueueRefused(CapacityExceeded):
    """A request was not let into the queue; ``retry_after_s`` says when to try again."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, hint=f"Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One batch, as the pool reports it to its observer.

    Attributes:
        run_s: from joining it, which completes items given inline, to its logits.
        queue_s: the waits of its requests.
    """

    rows: int
    requests: int
    run_s: float
    queue_s: tuple[float, ...]


Result = tuple[Work, "Outcome | RankineError | ClientGone"]
Observer = Callable[[BatchRun], None]


class Pool:
    """A bounded queue and the threads that empty it.

    Args:
        runner: what computes; shared by all workers.
        tasks: columns of the runner's logits.
        workers: number of threads.
        max_batch_rows, max_queue_rows: see :class:`~rankine.serving.config.ServeConfig`.
        observe: called from worker threads after every engine call.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        tasks: int,
        workers: int,
        max_batch_rows: int,
        max_queue_rows: int,
        observe: Observer,
    ) -> None:
        self._runner = runner
        self._tasks = tasks
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._observe = observe
        self._queue: list[Work] = []
        self._queued_rows = 0
        self._in_flight = 0
        self._rows_per_s = 0.0
        self._draining = False
        self._stopping = False
        self._changed = threading.Condition()
        self._warm: Callable[[], None] = _nothing
        self._threads = [
            threading.Thread(target=self._serve, name=f"rankine-worker-{number}", daemon=True)
            for number in range(workers)
        ]

    def start(self, warm: Sequence[Work] = ()) -> None:
        """Start the workers, each of which runs ``warm`` first (engines keep buffers a thread); returns when all did.

        Raises:
            EngineError: the engine failed on one of them.
        """
        waiting = threading.Semaphore(0)
        failures: list[RankineError] = []
        self._warm = lambda: self._warm_up(warm, failures, waiting)
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            waiting.acquire()
        self._warm = _nothing  # let go of the works, which hold a generation of the catalog
        if failures:
            raise failures[0]

    @property
    def queued_rows(self) -> int:
        return self._queued_rows

    @property
    def predicted_wait_s(self) -> float:
        """How long a request that came now would wait for the start of its batch; 0 where nothing was measured yet."""
        rows_per_s = self._rows_per_s * len(self._threads)
        return self._queued_rows / rows_per_s if rows_per_s > 0 else 0.0

    @property
    def alive(self) -> bool:
        """Whether there is a worker to answer what is queued."""
        return any(thread.is_alive() for thread in self._threads)

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._queue) or self._in_flight > 0

    async def run(self, work: Work) -> Outcome:
        """Queue ``work`` and wait for its outcome.

        Raises:
            QueueRefused: the queue is full or the server is draining.
            DeadlineExceeded: the deadline passed while it waited.
            BadRequest, EngineError: as the engine raised it.
            ClientGone: its client left while it waited; it did not run.
        """
        work.future = asyncio.get_running_loop().create_future()
        with self._changed:
            admission = admit(
                work.rows,
                queued_rows=self._queued_rows,
                max_queue_rows=self._max_queue_rows,
                rows_per_s=self._rows_per_s * len(self._threads),
                draining=self._draining,
            )
            if not admission.admitted:
                raise QueueRefused(admission.reason, admission.retry_after_s)
            work.queued_s = perf_counter()
            self._queue.append(work)
            self._queued_rows += work.rows
            self._changed.notify()
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
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._runner.close()

    def _warm_up(self, works: Sequence[Work], failures: list[RankineError], done: threading.Semaphore) -> None:
        try:
            for work in works:
                self._runner.run(join([work], self._runner.complete), np.empty((work.rows, self._tasks), np.float32))
        except Exception as error:  # noqa: BLE001  told to whoever starts the pool
            failures.append(_as_error(error))
        finally:
            done.release()

    def _serve(self) -> None:
        self._warm()
        while True:
            with self._changed:
                while not self._queue and not self._stopping:
                    self._changed.wait()
                if not self._queue:
                    return
                gone = self._drop_gone()
                taken, expired, reason = self._take(perf_counter())
            results: list[Result] = [(work, ClientGone()) for work in gone]
            results += [(work, _too_late(work)) for work in expired]
            try:
                results += self._run(taken, reason) if taken else []
            except Exception as error:  # noqa: BLE001  of an observer: a worker must outlive it, and its batch be answered
                LOGGER.exception("a batch failed outside of its engine")
                results += [(work, _as_error(error)) for work in taken]
            try:
                _deliver(results)
            except RuntimeError:  # the event loop is closed: nobody waits any more
                LOGGER.exception("a batch could not be delivered")
            finally:
                with self._changed:
                    self._in_flight -= len(taken)

    def _drop_gone(self) -> list[Work]:
        """Remove from the queue what nobody waits for any more; the lock is held."""
        gone: list[Work] = []
        kept: list[Work] = []
        for work in self._queue:  # each is looked at once: the event loop may set it meanwhile
            (gone if work.presence is not None and work.presence.gone else kept).append(work)
        self._queue = kept
        self._queued_rows -= sum(work.rows for work in gone)
        return gone

    def _take(self, now_s: float) -> tuple[list[Work], list[Work], str]:
        """Remove the next batch and what is too late from the queue; the lock is held."""
        decision = form_batch(self._queue, now_s, self._max_batch_rows)
        taken = [self._queue[at] for at in decision.taken]
        expired = [self._queue[at] for at in decision.expired]
        gone = {*decision.taken, *decision.expired}
        self._queue = [work for at, work in enumerate(self._queue) if at not in gone]
        self._queued_rows -= sum(work.rows for work in taken) + sum(work.rows for work in expired)
        self._in_flight += len(taken)
        return taken, expired, decision.reason

    def _run(self, works: Sequence[Work], reason: str) -> list[Result]:
        begin = perf_counter()
        try:
            batch = join(works, self._runner.complete)
            out = np.empty((batch.rows, self._tasks), np.float32)
            self._runner.run(batch, out)
            run_s = perf_counter() - begin  # joining counts: it runs the catalog's part on items given inline
        except Exception as error:  # noqa: BLE001  a worker thread must outlive whatever an engine raises
            if len(works) == 1:
                return [(works[0], _as_error(error))]
            # One bad request must not spoil the others that happened to be in its batch.
            alone = "alone: its batch failed"
            return [result for work in works for result in self._run([work], alone)]
        queue_s = tuple(begin - work.queued_s for work in works)
        self._observe(BatchRun(batch.rows, len(works), run_s, queue_s))
        rate = batch.rows / run_s if run_s > 0 else 0.0
        self._rows_per_s = rate if self._rows_per_s == 0 else 0.9 * self._rows_per_s + 0.1 * rate
        return _scatter(works, out, begin, run_s, reason)


def _nothing() -> None:
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
