"""Running batches: the engine's call, and what becomes of the requests in it; for workers and for the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from rankine.errors import DeadlineExceeded, EngineError, RankineError
from rankine.models.columns import Columns
from rankine.policy.backlog import Slice
from rankine.policy.one_core import counted_s
from rankine.policy.reason import Reason
from rankine.serving.desk import DecisionObserver, Desk
from rankine.serving.devices import PoolDevice, complete_on
from rankine.serving.isolation.lost import WorkerLost, lost_twice
from rankine.serving.logs import LOGGER
from rankine.serving.pieces import part_of
from rankine.serving.placing import Taken, Worker
from rankine.serving.remote.lost import RemoteLost
from rankine.serving.rest import Rest
from rankine.serving.results import Result, as_error, deliver, scatter, too_late
from rankine.serving.work import Outcome, Work, join

__all__ = ["BatchRun", "Observer", "Runs"]

_AFTER_RATE, _MOST_AFTER_S = 0.05, 0.001
_REPLACED_WITHIN_S = 10.0
"""What was lost with its worker waits so long for another."""


class BatchRun(Struct, frozen=True):
    """One batch, as the pool reports it to its observer.

    Attributes:
        requests: of which it ran rows; ``first``: of which it ran the first rows, as a large one is divided.
        run_s: from joining it, which completes items given inline, to its logits.
        spent_s: until the answers to its requests were on their way. ``predicted_s``: what was expected of that.
        queue_s: the waits of its requests.
        rung: number of the variant that ran. ``debt``: the quality debt of the last minute.
        device: that ran it. ``placed``: why there; None where the pool has one device.
    """

    rows: int
    requests: int
    first: int
    run_s: float
    queue_s: tuple[float, ...]
    spent_s: float = 0.0
    predicted_s: float = 0.0
    reason: Reason = Reason.ALONE
    rung: int = 0
    debt: float = 0.0
    device: str = ""
    placed: Reason | None = None


Observer = Callable[[BatchRun], None]


class _Ran(Struct, frozen=True):
    """An engine's call that went well."""

    taken: Taken
    rows: int
    run_s: float
    queue_s: tuple[float, ...]


class Runs:
    """Runs batches that a :class:`~rankine.serving.desk.Desk` has given away, and answers their requests.

    Args:
        lock: of the desk. ``rest``: of the event loop that waits for the answers.
        tasks: columns of the runner's logits.
        observe: called after every engine call, by whoever made it.
        decided: called with the reason of what is decided on the way.
    """

    def __init__(
        self,
        desk: Desk,
        lock: threading.RLock,
        devices: Sequence[PoolDevice],
        rest: Rest,
        *,
        tasks: int,
        observe: Observer,
        decided: DecisionObserver,
    ) -> None:
        self._desk, self._lock, self._devices, self._tasks = desk, lock, tuple(devices), tasks
        self._rest, self._observe, self._decided = rest, observe, decided
        self._after_s = 0.0  # usually, from the scores of a batch until it is counted and its answers are on their way

    def finish(self, worker: Worker, taken: Taken, results: list[Result], since_s: float | None = None) -> None:
        """Run a batch, and answer its requests and those that were answered without running.

        Args:
            since_s: where something else had the core first while it waited: from then on its time counts.
        """
        begin_s = ran_s = perf_counter()
        ran: list[_Ran] = []
        try:
            results += self._run(taken, ran) if taken.decision.slices else []
            ran_s = perf_counter()
            spent_s = ran_s - begin_s
            if since_s is not None:
                spent_s = counted_s(spent_s, ran_s - since_s)
            self._learn(ran, spent_s + self._after_s)
        except Exception as error:  # noqa: BLE001  of an observer: a worker must outlive it, and its batch be answered
            LOGGER.exception("a batch failed outside of its engine")
            results += [(piece.work, as_error(error)) for piece in taken.decision.slices]
        finally:
            worker.running = False
        answered = self._settled(results)
        if ran:
            self._after_s += _AFTER_RATE * (min(perf_counter() - ran_s, _MOST_AFTER_S) - self._after_s)
        self._deliver(answered)

    def fail(self, works: Sequence[Work], error: Exception) -> None:
        """Answer requests that did not run, because of an error that is none of theirs."""
        self._deliver(self._settled([(work, as_error(error)) for work in works]))

    def _learn(self, ran: Sequence[_Ran], spent_s: float) -> None:
        """Tell what ran, and how long it took: what comes next waits for all of it, not for the engine's call alone."""
        if not ran:
            return
        again = any(one.taken.again for one in ran)  # then much of the time was that of a worker that was lost
        factor = 1.0 if again else spent_s / sum(one.run_s for one in ran)
        for one in ran:
            taken, now_s = one.taken, perf_counter()
            requests, seconds = taken.decision.requests, one.run_s * factor
            first = sum(piece.work.requests for piece in taken.decision.slices if piece.first_row == 0)
            with self._lock:
                elastic = self._desk.elastic
                elastic.ran(taken.rung, one.rows, requests, taken.co_running, seconds, now_s, taken.device)
                elastic.ranked(taken.rung, first, one.run_s, now_s)
                self._desk.placing.ran(taken, one.rows, seconds, now_s)
                self._desk.placing.follow(self._desk.gates, elastic, now_s)
                debt = elastic.debt.recent(now_s)
            told = BatchRun(
                one.rows,
                len(one.queue_s),
                first,
                one.run_s,
                one.queue_s,
                spent_s=seconds,
                predicted_s=taken.predicted_s,
                reason=taken.decision.reason,
                rung=taken.rung,
                debt=debt,
                device=self._devices[taken.device].name,
                placed=taken.placed,
            )
            self._observe(told)

    def _run(self, taken: Taken, ran: list[_Ran]) -> list[Result]:
        begin = perf_counter()
        device = self._devices[taken.device]
        pieces, rung = taken.decision.slices, device.rungs[taken.rung]
        try:
            works = [part_of(piece) for piece in pieces]
            batch = join(works, self.complete)
            out = np.empty((batch.rows, self._tasks), np.float32)
            if device.elsewhere is not None:
                device.elsewhere.within(min(work.deadline_s for work in works) - perf_counter())
            if device.seats is not None:
                cost = self._desk.elastic.by_device[taken.device][taken.rung]
                device.seats.expect(*cost.predict(batch.rows, taken.decision.requests, taken.co_running))
            rung.runner.run(batch, out)
            run_s = perf_counter() - begin  # joining counts: it runs the catalog's part on items given inline
        except WorkerLost as lost:
            return self._again(taken, lost, ran)
        except Exception as error:  # noqa: BLE001  a worker thread must outlive whatever an engine raises
            if isinstance(error, RemoteLost):
                return self._elsewhere(taken, error)
            if self._moved(taken, error):
                return []
            if len(pieces) == 1:
                return [(pieces[0].work, as_error(error))]
            # One bad request must not spoil the others that happened to be in its batch.
            return [result for piece in pieces for result in self._run(_alone(taken, piece), ran)]
        ran.append(_Ran(taken, batch.rows, run_s, tuple(begin - work.queued_s for work in works)))
        found = scatter(works, out, begin, run_s, taken.text, rung)
        with self._lock:
            return list(self._assembled(pieces, found))

    def _again(self, taken: Taken, lost: WorkerLost, ran: list[_Ran]) -> list[Result]:
        """What ran when its worker was lost, once more: each request alone, so that one that kills workers harms no
        other. Nothing of it was answered, as only this process answers."""
        if taken.again:
            return [(piece.work, lost_twice(lost)) for piece in taken.decision.slices]
        seats = self._devices[taken.device].seats
        for piece in taken.decision.slices:
            self._decided(Reason.WORKER_LOST)
            left_s = piece.work.deadline_s - perf_counter()
            if left_s <= 0:
                self._deliver(self._settled([(piece.work, too_late(piece.work))]))
            elif seats is not None and not seats.ready(0.0 if self._desk.stopping else min(_REPLACED_WITHIN_S, left_s)):
                self._deliver(self._settled([(piece.work, lost)]))
            else:
                self._deliver(self._settled(self._run(replace(_alone(taken, piece), again=True), ran)))
        return []

    def _moved(self, taken: Taken, error: Exception) -> bool:
        """Whether another device has a batch now on which its own failed; that one gets nothing for a while."""
        if not self._desk.placing.several or (isinstance(error, RankineError) and not isinstance(error, EngineError)):
            return False  # there is no other, or it is the request that is at fault
        with self._lock:
            now_s = perf_counter()
            other = None if self._desk.stopping else self._desk.placing.failed(taken, now_s, self._desk.elastic)
            if other is None:
                return False
            moved = replace(taken, failed_on=taken.device, placed=Reason.DEVICE_FAILED, trial=None)
            other.given.append(self._desk.on(other.device, moved))
            self._desk.wake_all()
        self._decided(Reason.DEVICE_FAILED)
        fields = {"device": self._devices[taken.device].name, "to": self._devices[other.device].name}
        fields |= {"error": str(as_error(error))}
        LOGGER.warning(
            "a device failed: its batch goes to another, and it is left out for a while", extra={"fields": fields}
        )
        return True

    def _elsewhere(self, taken: Taken, error: RemoteLost) -> list[Result]:
        """A batch that another server did not run goes to another device; what is too late by now is answered."""
        now_s = perf_counter()
        late = [piece for piece in taken.decision.slices if piece.work.deadline_s <= now_s]
        results: list[Result] = [(piece.work, too_late(piece.work)) for piece in late]
        kept = tuple(piece for piece in taken.decision.slices if piece.work.deadline_s > now_s)
        with self._lock:
            other, lost_on = self._desk.placing.lost(taken, now_s, self._desk.elastic)
            if kept and other is not None and not self._desk.stopping:
                rows, requests = sum(piece.rows for piece in kept), sum(piece.work.requests for piece in kept)
                decision = replace(taken.decision, slices=kept, rows=rows, requests=requests)
                placed = Reason.DEVICE_FAILED
                moved = replace(taken, decision=decision, lost_on=lost_on, placed=placed, trial=None)
                other.given.append(self._desk.on(other.device, moved))
                self._desk.wake_all()
                kept = ()
        self._decided(Reason.DEVICE_FAILED)
        LOGGER.debug("a batch runs on another device", extra={"fields": {"error": str(error)}})
        return results + [(piece.work, error) for piece in kept]

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

    def _settled(self, results: Sequence[Result]) -> list[Result]:
        """Those that are answered now; of a request that failed, nothing further runs."""
        answered: list[Result] = []
        desk, on_time = self._desk, 0
        with self._lock:
            now_s, concurrency = perf_counter(), desk.rules.concurrency
            for work, result in results:
                if work.answered:
                    continue
                work.answered = True
                answered.append((work, result))
                desk.assembly.forget(work)
                if isinstance(result, Outcome):
                    if concurrency is not None:
                        concurrency.observe(now_s - work.queued_s, work.in_flight)
                    if now_s <= work.deadline_s:
                        on_time += 1
                    else:
                        desk.gates.answered(late=1)
                    continue
                if isinstance(result, DeadlineExceeded):
                    desk.gates.answered(late=1)
                desk.gates.backlog.remove(work, now_s)
            if on_time:
                desk.gates.answered(on_time=on_time)
        return answered

    def _deliver(self, answered: Sequence[Result]) -> None:
        """Wake those who wait."""
        try:
            deliver(answered, self._rest.soon)
            self._rest.end()
        except RuntimeError:  # the event loop is closed: nobody waits any more
            LOGGER.exception("a batch could not be delivered")
        finally:
            with self._lock:
                self._desk.unanswered -= len(answered)

    def complete(self, items: Columns) -> Columns:
        """Columns of items, and beside them what every rung computes of an item ahead of time."""
        return complete_on(self._devices, items)


def _alone(taken: Taken, piece: Slice[Work]) -> Taken:
    decision = replace(taken.decision, slices=(piece,), rows=piece.rows, requests=piece.work.requests)
    return replace(taken, decision=decision, text="alone: its batch failed", trial=None)
