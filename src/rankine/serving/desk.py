"""Where a pool decides: which requests are let in, which batch a worker takes, on which rung and which device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from rankine.policy.admission import AT_EASE, Admission, Gates, admit
from rankine.policy.backlog import Backlog, Decision, Slice
from rankine.policy.batching import Limits
from rankine.policy.front_end import Ahead
from rankine.policy.ladder import RungChoice
from rankine.policy.lanes import Lane, speed_of
from rankine.policy.one_core import is_at_ease
from rankine.policy.priorities import Priorities, Priority
from rankine.policy.reason import Reason
from rankine.policy.rules import Rules
from rankine.policy.sessions import SessionRungs
from rankine.policy.standing import Standing
from rankine.serving.bodies import ClientGone
from rankine.serving.devices import PoolDevice
from rankine.serving.elastic import Elastic
from rankine.serving.pieces import Assembly
from rankine.serving.placing import Placing, Taken, Worker
from rankine.serving.refusals import QueueRefused
from rankine.serving.results import Result, too_late
from rankine.serving.work import Work

__all__ = ["Asked", "DecisionObserver", "Desk"]

DecisionObserver = Callable[[Reason], None]
_ALONE = (Reason.ALONE, "alone: nothing else waits")


class Asked(Struct, frozen=True):
    """A request of which only the head is there, as the policies see it; ``let_in`` as of :class:`Work`.

    Before it are others that were let in and are not in the queue yet, ``line_rows`` of ``line_requests``, who take
    ``line_s`` until then.
    """

    rows: int
    requests: int
    arrived_s: float
    deadline_s: float
    tenant: str = ""
    priority: Priority = Priority.NORMAL
    let_in: bool = False
    line_rows: int = 0
    line_requests: int = 0
    line_s: float = 0.0


class Desk:
    """What waits, what runs, and what is decided of both. Not thread-safe: the pool's lock is held around every call.

    Args:
        devices: with the rungs that each runs, the best first.
        limits: of batches and of the queue.
        changed: the pool's lock, notified when a worker may find something to do.
        decided, would: as of the pool.

    Attributes:
        standing: of the queue here and those that will come to it, which are one for those that wait.
        elastic: cost models, the ladder and the load. ``gates``: the queue and what lets requests into it.
        placing: the workers. ``assembly``: requests of which some parts have run.
        rules: the operator's.
        unanswered: requests that wait or run.
        draining: nothing is let in but what was let in by its head before. ``stopping``: nothing at all, and workers
            end when nothing waits.
        on_loop: told that something waits, where the event loop runs it; None where workers do.
        loop_per_s: seconds that the event loop works a second, now. ``line_is_long``: for a cheaper rung to be taken.
    """

    def __init__(
        self,
        devices: Sequence[PoolDevice],
        limits: Limits,
        changed: threading.Condition,
        decided: DecisionObserver,
        would: DecisionObserver,
    ) -> None:
        self._devices = tuple(devices)
        self._rungs = self._devices[0].rungs
        self._changed = changed
        self._decided = decided
        self._would = would
        self.elastic = Elastic(devices)
        self.rules = Rules()
        self._priorities = Priorities()
        self.standing = Standing()
        self.gates = self._opened(limits)
        self._sessions = SessionRungs()
        self.assembly = Assembly()
        self.placing = Placing(devices)
        self.unanswered = 0
        self.draining = False
        self.stopping = False
        self.on_loop: Callable[[], None] | None = None
        self.loop_per_s: Callable[[float], float] = _no_work
        self.line_is_long = False

    def timed(self, timed: Sequence[Sequence[Mapping[int, Sequence[float]]]]) -> None:
        """The warm-up is over: by device, of each rung, seconds of its runs by number of rows."""
        self.elastic = Elastic(self._devices, timed)
        self.gates = self._opened(self.gates.limits)

    def govern(self, rules: Rules) -> None:
        """From now on these rules hold."""
        self.rules = rules
        self._ruled(self.gates)

    @property
    def is_on_fastest(self) -> bool:
        """Whether there is no cheaper rung to go to."""
        return self.elastic.at == self.elastic.numbers[-1]

    def speed(self, now_s: float) -> float:
        """How many workers of usual speed do as much as all do."""
        return speed_of(self.lanes(now_s)) if self.placing.several else len(self.placing.workers)

    def ahead(self, rows: int, requests: int, priority: Priority, now_s: float) -> Ahead:
        """What the engine has to do before a request that comes now, with others in line before it."""
        kept_s = self._priorities.below_top(priority, now_s) * self.gates.limits.headroom_s
        speed = self.speed(now_s)
        line_s = self.gates.backlog.time_of(rows, requests) / speed if requests else 0.0
        return Ahead(self.gates.backlog.work_s / speed, line_s, 0.0 if self.gates.dry_run else kept_s)

    def wait_s(self, now_s: float) -> float:
        """How long a request that came now is predicted to wait for the start of its batch."""
        lanes = self.lanes(now_s)
        work_s = self.gates.backlog.work_s + sum((lane.free_s - now_s) / lane.slowdown for lane in lanes)
        return work_s / speed_of(lanes)

    def admit(self, work: Work | Asked, *, commit: bool, at_ease: bool = False) -> Admission:
        """The policies' decision; what is admitted ``at_ease`` is not in the queue."""
        now_s = perf_counter()
        session = work.session if isinstance(work, Work) else ""
        if commit:
            self.elastic.offered(work.rows, work.requests, now_s)
        if at_ease and work.let_in and now_s < work.deadline_s and not (self.stopping or self._is_ruled):
            return AT_EASE
        queued: Any = work  # of what is only asked nothing is kept
        return admit(
            self.gates,
            queued,
            now_s,
            () if at_ease and work.let_in else self.lanes(now_s),
            in_flight=self.unanswered,
            tenant=work.tenant,
            below_top=self._priorities.below_top(work.priority, now_s),
            rung=self._sessions.rung(session, now_s) if session else None,
            draining=self.stopping or (self.draining and not work.let_in),
            commit=commit,
            at_ease=at_ease,
            in_line=work.line_requests if isinstance(work, Asked) else 0,
            line_s=self._line_s(work, now_s) if isinstance(work, Asked) else 0.0,
            keep_short=not work.let_in and self.is_on_fastest,
        )

    def passes(self, asked: Asked, now_s: float) -> bool:
        """Whether a request may go on by its head without a look at the plan: it is at ease, and there are no rules.

        What is decided is decided when its body is there.
        """
        if self.draining or self._is_ruled:
            return False
        return self.is_at_ease(asked, self.gates.cost.mean_s(asked.rows, asked.requests), now_s)

    @property
    def _is_ruled(self) -> bool:
        rules = self.rules
        return bool(rules.quotas) or rules.shares is not None or rules.concurrency is not None

    def has_time(self, work: Work, now_s: float) -> bool:
        """Whether there is time for a request several times over, and room in the queue."""
        backlog, limits = self.gates.backlog, self.gates.limits
        if self.placing.several:  # it depends on which of them takes it
            return False
        if backlog.rows and backlog.rows + work.rows > limits.max_queue_rows:
            return False
        return self.is_at_ease(work, self.gates.cost.mean_s(work.rows, work.requests), now_s)

    def is_at_ease(self, asked: Work | Asked, spent_s: float, now_s: float) -> bool:
        """Whether so little waits and runs, with ``spent_s`` of work more, that all have several times the time."""
        limits = self.gates.limits
        ends_s = now_s
        for worker in self.placing.workers:
            if worker.running:
                ends_s = max(ends_s, worker.free_at(now_s))
        busy_s = ends_s - now_s + self.gates.backlog.work_s + spent_s
        left_s = self._priorities.below_top(asked.priority, now_s) * limits.headroom_s
        due_s = min(asked.deadline_s, asked.arrived_s + limits.max_wait_s)
        return is_at_ease(busy_s + left_s, due_s - now_s)

    def lanes(self, now_s: float) -> list[Lane]:
        """The workers, as the plan sees them."""
        return self.placing.lanes(now_s, self.elastic, self.gates.backlog.shape.target_rows)

    def _line_s(self, asked: Asked, now_s: float) -> float:
        """Predicted time for those that will come to the queue before a request."""
        if not asked.line_requests:
            return 0.0
        in_engine_s = self.gates.backlog.time_of(asked.line_rows, asked.line_requests) / self.speed(now_s)
        return max(asked.line_s, in_engine_s)

    def wake(self) -> None:
        """Something waits. Which of several devices should take it, each finds out by itself."""
        if self.on_loop is not None:
            self.on_loop()
        elif self.placing.several:
            self._changed.notify_all()
        else:
            self._changed.notify()

    def wake_all(self) -> None:
        """A worker was given something."""
        self._changed.notify_all()

    def put(self, works: Sequence[Work], now_s: float) -> None:
        """Queue what was admitted at ease, for the workers."""
        for work in works:
            rung = self._sessions.rung(work.session, now_s) if work.session else None
            self.gates.backlog.put(work, self.lanes(now_s), rung=rung)
        self.wake()

    def joined(self, works: Sequence[Work], predicted_s: float, now_s: float) -> tuple[Taken, list[Result]]:
        """A batch of what was admitted at ease, without what nobody waits for, which is answered without running."""
        self.gates.backlog.follow(now_s)
        results: list[Result] = []
        if any(work.deadline_s <= now_s or _is_gone(work) for work in works):
            late = [work for work in works if work.deadline_s <= now_s]
            results = [(work, too_late(work)) for work in late]
            for _ in late:
                self._decided(Reason.EXPIRED)
            results += [(work, ClientGone()) for work in works if work not in late and _is_gone(work)]
            dropped = [work for work, _ in results]
            works = [work for work in works if work not in dropped]
            predicted_s = self.gates.cost.mean_s(max(1, sum(work.rows for work in works)), max(1, len(works)))
        rows, requests = sum(work.rows for work in works), sum(work.requests for work in works)
        reason, text = _ALONE if len(works) == 1 else (Reason.ALL, f"joined all {len(works)} that waited")
        slices = tuple(Slice(work, 0, work.rows) for work in works)
        decision = Decision(slices, (), (), rows, requests, predicted_s, None, reason, text)
        choice = None
        if len(self._rungs) > 1 and works:
            choice = self._on_rung(now_s - works[0].queued_s, now_s)
        rung, text = self._kept(decision, choice, now_s)
        return self.on(0, Taken(decision, rung, text, 0.0, 0)), results

    def take(self, worker: Worker, at: int, now_s: float) -> tuple[Taken, list[Result]]:
        """A planned batch without what nobody waits for, and what is answered without running."""
        choice = self._chosen(now_s)
        results = self._emptied(now_s)
        decision = self.gates.backlog.take(now_s, at)
        results += [(work, too_late(work)) for work in (*decision.expired, *decision.hopeless)]
        for reason, works in ((Reason.EXPIRED, decision.expired), (Reason.HOPELESS, decision.hopeless)):
            for _ in works:
                self._decided(reason)
        gone = [piece for piece in decision.slices if _is_gone(piece.work)]
        for piece in gone:
            self.gates.backlog.remove(piece.work, now_s)
            results.append((piece.work, ClientGone()))
        if gone:
            decision = _without(decision, gone)
        rung, text = self._kept(decision, choice, now_s)
        taken = self.on(worker.device, Taken(decision, rung, text, 0.0, 0))
        return (self._shared(worker, taken, now_s) if self.placing.several else taken), results

    def begun(self, worker: Worker, taken: Taken, now_s: float) -> Taken:
        """The batch, from now on the worker's own."""
        # What runs elsewhere on other cores is a part of what a device's batches take, and its own model learns that.
        others = [each for each in self.placing.workers if each.device == worker.device]
        co_running = sum(each.running for each in others)
        worker.running = bool(taken.decision.slices)
        worker.free_s = now_s + taken.predicted_s
        taken.co_running = co_running
        return taken

    def on(self, device: int, taken: Taken) -> Taken:
        """A batch on its way to a device."""
        decision = taken.decision
        cost = self.elastic.by_device[device][taken.rung]
        taken.device = device
        taken.predicted_s = cost.mean_s(decision.rows, decision.requests) if decision.slices else 0.0
        return taken

    def _shared(self, worker: Worker, taken: Taken, now_s: float) -> Taken:
        """A worker's part of a batch: all of it, or of one request that nothing waits behind what pays to divide."""
        decision = taken.decision
        if len(decision.slices) != 1 or len(self.gates.backlog) or self.stopping:
            if decision.slices:
                self.wake()  # what waits has one batch less before it: for another device it may look otherwise now
            return replace(taken, placed=Reason.LEAST_FINISH)
        found = self.placing.shared(worker, decision.rows, decision.requests, self.elastic, now_s)
        if found is None:
            return replace(taken, placed=Reason.LEAST_FINISH)
        placement, workers = found
        piece, mine = decision.slices[0], taken
        for part, other in zip(placement.parts, workers, strict=True):
            own = Slice(piece.work, piece.first_row + part.first_row, part.rows)
            divided = replace(taken, decision=replace(decision, slices=(own,), rows=part.rows), placed=Reason.SPREAD)
            self.assembly.begin(own, taken.rung)
            if other is worker:
                mine = self.on(worker.device, divided)
            else:
                other.given.append(self.on(other.device, divided))
        self.wake_all()
        return mine

    def _emptied(self, now_s: float) -> list[Result]:
        """What is dropped from the head of a queue that stands."""
        backlog, codel = self.gates.backlog, self.rules.codel
        if codel is None or not backlog.planned:
            return []
        work = backlog.planned[0].pieces[0].entry.work
        waited_s = now_s - work.queued_s
        if not codel.drops(waited_s, now_s, last=len(backlog) == 1):
            return []
        if self.rules.dry_run:
            self._would(Reason.STANDING_QUEUE)
            return []
        self._decided(Reason.STANDING_QUEUE)
        backlog.remove(work, now_s)
        text = f"the queue stands: requests wait for {1000 * waited_s:.0f} ms"
        return [(work, QueueRefused(text, waited_s, Reason.STANDING_QUEUE))]

    def _chosen(self, now_s: float) -> RungChoice | None:
        """The rung that the load asks for, with all that waits; None where there is nothing to choose."""
        backlog = self.gates.backlog
        if len(self._rungs) == 1 or not backlog.planned:
            return None
        return self._on_rung(now_s - min(piece.entry.work.queued_s for piece in backlog.planned[0].pieces), now_s)

    def _on_rung(self, waited_s: float, now_s: float) -> RungChoice:
        """The rung for a batch of which the first has waited for so long."""
        loop_per_s = None if self.on_loop is None else self.loop_per_s(now_s)
        is_long, self.line_is_long = self.line_is_long, False
        lanes = self.lanes(now_s)
        return self.elastic.choose(now_s, self.gates.backlog, lanes, waited_s, loop_per_s, is_long=is_long)

    def _kept(self, decision: Decision[Work], choice: RungChoice | None, now_s: float) -> tuple[int, str]:
        """The rung for a batch: of a request of which a part has run it is the same, of a session that of before."""
        if choice is None or not decision.slices:
            return 0, decision.text
        begun = [rung for piece in decision.slices if (rung := self.assembly.rung_of(piece.work)) is not None]
        if begun:
            rung, text = begun[0], "the rest of a request keeps to its variant"
        elif decision.rung is not None:
            rung, text = decision.rung, "its session keeps to it"
        else:
            self._decided(choice.reason)
            rung, text = int(choice.rung.variant), choice.text
        for piece in decision.slices:
            self.assembly.begin(piece, rung)
            if piece.work.session:
                self._sessions.saw(piece.work.session, rung, now_s)
        return rung, f"{decision.text}; {self._rungs[rung].variant}: {text}"

    def _opened(self, limits: Limits) -> Gates[Work]:
        cost = self.elastic.costs[self.elastic.fastest]
        return self._ruled(Gates(Backlog(cost, limits), cost, limits, standing=self.standing))

    def _ruled(self, gates: Gates[Work]) -> Gates[Work]:
        rules = self.rules
        gates.quotas, gates.shares, gates.concurrency = rules.quotas, rules.shares, rules.concurrency
        gates.dry_run = rules.dry_run
        return gates


def _is_gone(work: Work) -> bool:
    return work.presence is not None and work.presence.gone


def _without(decision: Decision[Work], gone: Sequence[Slice[Work]]) -> Decision[Work]:
    kept = tuple(piece for piece in decision.slices if piece not in gone)
    rows = sum(piece.rows for piece in kept)
    return replace(decision, slices=kept, rows=rows, requests=sum(piece.work.requests for piece in kept))


def _no_work(now_s: float) -> float:
    """Of a loop that nobody watches."""
    return 0.0
