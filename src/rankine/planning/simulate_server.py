"""A server in simulated time: the policies themselves, and workers that take as long as a cost table says.

An event is a turn of the event loop, which reads what has come or runs a batch itself, or the end of a worker's batch.
Everything between is :mod:`rankine.policy`, as the server calls it; only clock, front end and engines are not real.
"""

from __future__ import annotations

import heapq
import math
from collections import deque

from rankine.planning.simulate_ended import Ended
from rankine.planning.simulate_entry import ANSWER_SHARE, BEGIN_SHARE, HEAD_SHARE, MOST_READ, SimulatedLine
from rankine.planning.simulate_heads import SimulatedHeads
from rankine.planning.simulate_here import SimulatedHere
from rankine.planning.simulate_loop import SimulatedLoop, SimulatedTurns
from rankine.planning.simulate_rungs import SimulatedRungs
from rankine.planning.simulate_setup import Outcomes, Setup
from rankine.planning.simulate_traffic import Trace
from rankine.planning.simulate_worker import Noise, Request, SimulatedWorker
from rankine.policy.admission import Admission, Gates, admit
from rankine.policy.backlog import Backlog, Decision, Slice
from rankine.policy.batching import Limits
from rankine.policy.dispatch import Dispatch
from rankine.policy.exploration import Trial
from rankine.policy.fairness import FairShares
from rankine.policy.front_end import FrontEnd
from rankine.policy.lanes import Lane, speed_of
from rankine.policy.one_core import REFUSES_FOR_S, counted_s, is_at_ease, may_run_here, rest_s
from rankine.policy.placement import Device
from rankine.policy.reason import Reason

__all__ = ["SimulatedServer"]


class SimulatedServer:
    """One front end, one queue and its workers, at the start of a trace."""

    def __init__(self, trace: Trace, setup: Setup) -> None:
        self._trace, self._setup = trace, setup
        self._noise = Noise(setup.seed)
        self._rungs = SimulatedRungs(setup)
        self._workers = [SimulatedWorker.of(setup, at, self._rungs.factors) for at in range(len(setup.devices))]
        limits: Limits = setup.limits
        self._placing = Dispatch(limits, explores=not setup.exact)
        self._placing.follow(self._devices(0.0))
        reference = self._workers[self._placing.lead].learned[-1]
        shares = FairShares(setup.weights, capacity=len(self._workers)) if setup.weights else None
        self._gates: Gates[Request] = Gates(Backlog(reference, limits), reference, limits, shares=shares)
        self._backlog = self._gates.backlog
        self._running = 0
        self._arrivals: deque[Request] = deque()
        self._events: list[tuple[float, int]] = []
        """When batches of workers are done, with the number of the worker."""
        self._loop = SimulatedLoop(setup.wakes_s, works=setup.front_s > 0.0)
        self._one_core = self._loop.works and len(self._workers) == 1
        """Whether the loop runs batches itself."""
        self._turns = SimulatedTurns()
        self._front_end = FrontEnd(self._gates.standing)
        self._here = SimulatedHere(self._gates, self._workers[0])
        self._line = SimulatedLine(self._front_end)
        self._heads = SimulatedHeads(self._front_end, self._line, self._gates, self._rungs)
        self._refuses_until_s = 0.0
        self._ended = Ended(trace, setup.outside_s)

    def run(self) -> Outcomes:
        """Play the trace to its end, and until everything that was admitted is done."""
        trace = self._trace
        columns = (trace.arrived_s.tolist(), trace.rows.tolist(), trace.budget_s.tolist())
        arrivals = self._arrivals = deque(
            Request(number, rows, arrived_s, arrived_s + budget_s, left=rows)
            for number, (arrived_s, rows, budget_s) in enumerate(zip(*columns, strict=True))
        )
        now_s = 0.0
        while arrivals or self._events or self._here.held or self._turns.is_soon or self._line.moves:
            looks_s = self._loop.looks_s(arrivals[0].arrived_s) if arrivals else math.inf
            goes_s = self._loop.free_s if self._line.moves else self._here.goes_s(self._loop.free_s)
            goes_s = min(looks_s, goes_s, self._turns.goes_s(self._loop.free_s))
            if self._events and self._events[0][0] < goes_s:
                now_s, at = heapq.heappop(self._events)
                worker = self._workers[at]
                if worker.delay_s > 0.0:
                    heapq.heappush(self._events, (now_s + worker.delay_s, at))
                    worker.delay_s = 0.0
                    continue
                self._loop.wake()
                self._finish(worker, now_s)
                self._dispatch(now_s)
            else:
                now_s = self._turn(goes_s)
            self._rest(now_s)
        return self._ended.outcomes(self._workers, max(now_s, self._loop.free_s), self._rungs.debt)

    def _turn(self, now_s: float) -> float:
        """A turn of the loop: some of the line begin, what is ready runs, and what has come is read; returns when."""
        self._line.turn(now_s)
        while (request := self._line.next(now_s)) is not None:
            now_s = self._begin(request, now_s)
        if self._here.goes(now_s, self._loop.busy(now_s), crowded=self._line.moves):
            self._run_held(now_s)
            now_s = max(now_s, self._loop.free_s)
        if self._turns.is_soon:
            self._run_planned(now_s)
            now_s = max(now_s, self._loop.free_s)
        return self._read(now_s)

    def _read(self, begin_s: float) -> float:
        """The loop reads the heads of all that has come; returns when it has."""
        arrivals, now_s = self._arrivals, begin_s
        if not self._loop.works:
            while arrivals and arrivals[0].arrived_s <= begin_s:
                self._arrive(arrivals.popleft(), begin_s)
                self._dispatch(begin_s)
            return now_s
        left = MOST_READ
        while arrivals and arrivals[0].arrived_s <= begin_s and left:
            now_s, left = self._look(arrivals.popleft(), now_s), left - 1
        if not self._one_core:
            self._dispatch(now_s)
        return now_s

    def _look(self, request: Request, now_s: float) -> float:
        """The head of a request is read: it is refused, or waits for its turn; returns when that is done."""
        setup = self._setup
        connect_s = setup.connect_s if self._ended.connections.opens(request.arrived_s) else 0.0
        refused = self._refused_by_head(request, max(now_s, self._loop.free_s))
        if refused is not None:
            now_s = self._front(now_s, connect_s + (setup.refuse_s or HEAD_SHARE * setup.front_s))
            self._refuse(request, *refused, now_s)
            return now_s
        now_s = self._front(now_s, connect_s + HEAD_SHARE * setup.front_s)
        return self._begin(request, now_s) if self._line.put(request, now_s) else now_s

    def _refused_by_head(self, request: Request, now_s: float) -> tuple[Reason, int] | None:
        """Why a request is refused by its head and with which status; None where it is let in."""
        spent_s = self._gates.cost.mean_s(request.rows)
        return self._heads.refused(
            request,
            now_s,
            speed_of(self._lanes(now_s)) if self._rungs.is_on_fastest else None,
            lambda: self._gates.shares is None and self._is_at_ease(request, spent_s, now_s),
            lambda line_s: self._asked(request, now_s, commit=False, line_s=line_s),
        )

    def _begin(self, request: Request, now_s: float) -> float:
        """It is a request's turn: its body is read, and it is queued; returns when that is done."""
        if now_s > request.deadline_s:
            now_s = self._front(now_s, HEAD_SHARE * self._setup.front_s)
            self._refuse(request, Reason.FRONT_END, 503, now_s, let_in=True)
            return now_s
        setup = self._setup
        now_s = self._front(now_s, BEGIN_SHARE * setup.front_s + setup.front_row_s * request.rows)
        self._arrive(request, now_s)
        if not self._one_core:
            self._dispatch(now_s)
        return max(now_s, self._loop.free_s)

    def _arrive(self, request: Request, now_s: float) -> None:
        """Let a request in, or refuse it."""
        if not self._here.has_room(request):
            self._run_held(now_s)
            now_s = max(now_s, self._loop.free_s)
        at_ease = self._one_core and self._is_at_ease(request, self._here.with_next_s(request), now_s)
        held = self._one_core and self._here.takes(request, now_s, at_ease=at_ease)
        found = self._asked(request, now_s, held=held)
        if not found.admitted:
            self._refuse(request, found.reason, found.status, now_s, let_in=True)
            return
        self._ended.reasons[found.reason] += 1
        if not held:
            self._soon(now_s)
        elif self._here.hold(request, now_s):
            self._run_held(now_s)

    def _refuse(self, request: Request, reason: Reason, status: int, now_s: float, *, let_in: bool = False) -> None:
        """Refuse a request, by its head or after it was ``let_in`` by that."""
        if let_in and self._loop.works:
            self._front_end.answered(late=True, now_s=now_s)
        self._ended.reasons[reason] += 1
        self._refuses_until_s = now_s + REFUSES_FOR_S
        self._ended.end(request, status, now_s)

    def _is_at_ease(self, request: Request, spent_s: float, now_s: float) -> bool:
        """Whether there is time several times over for all that waits and runs, with so much work more."""
        running_s = max(max(0.0, one.expected_s - now_s) if one.running is not None else 0.0 for one in self._workers)
        due_s = min(request.deadline_s, request.arrived_s + self._setup.limits.max_wait_s)
        return is_at_ease(running_s + self._backlog.work_s + spent_s, due_s - now_s)

    def _soon(self, now_s: float) -> None:
        """The loop has its turn if something waits, unless the worker takes it when it is done."""
        if self._one_core and len(self._backlog) and self._workers[0].running is None:
            self._turns.soon(now_s)

    def _front(self, now_s: float, seconds: float) -> float:
        """When the front end is done with something that is there now: one thing after the other. It takes the time
        from what runs on its core."""
        before_s = self._loop.free_s
        ends_s = self._loop.work(now_s, seconds)
        if self._one_core:
            self._rungs.held_up(seconds, now_s)
        for worker in self._workers:
            worker.delay_s += ends_s - max(now_s, before_s)
        return ends_s

    def _rest(self, now_s: float) -> None:
        """The loop stands aside where a worker's batch runs."""
        if self._loop.works and not self._here.held and not self._line.moves:
            left_s = max((one.expected_s - now_s for one in self._workers if one.running is not None), default=0.0)
            self._loop.rest(now_s, rest_s(left_s, refuses=now_s < self._refuses_until_s))

    def _run_held(self, now_s: float) -> None:
        """Run on the loop what is held for it."""
        held = self._here.taken()
        if len(self._backlog) or self._workers[0].running is not None:
            for request in held:
                self._backlog.put(request, self._lanes(now_s))
            self._soon(now_s)
            return
        rows, requests = sum(one.rows for one in held), len(held)
        slices = tuple(Slice(one, 0, one.rows) for one in held)
        reason = Reason.ALONE if requests == 1 else Reason.ALL
        self._run_here(Decision(slices, (), (), rows, requests, 0.0, None, reason, ""), self._rung(now_s), now_s)

    def _run_planned(self, now_s: float) -> None:
        """Run on the loop what is planned next, if it is not too long for that, or read more before."""
        if self._line.moves and not self._turns.has_waited(now_s):
            return
        goes_on_s = self._turns.begin()
        if self._workers[0].running is not None or not self._backlog.planned:
            return
        if not may_run_here(self._backlog.planned[0].duration_s, joined=False, one_core=True):
            self._dispatch(now_s)
            return
        decision, rung = self._take(now_s, 0)
        done_s = self._run_here(decision, rung, now_s, goes_on_s) if decision.slices else now_s
        if len(self._backlog):
            self._turns.go_on(done_s)

    def _run_here(self, decision: Decision[Request], rung: int, now_s: float, since_s: float | None = None) -> float:
        """Run a batch on the loop, which then sends its replies.

        Args:
            since_s: where the loop had other things to do while it waited: from then on its time counts.

        Returns:
            When its scores are there.
        """
        worker = self._workers[0]
        self._ended.began(decision)
        taken_s = worker.takes_s(decision, rung, self._noise) + self._setup.batch_s
        done_s = self._loop.work(now_s, taken_s)
        worker.busy_s += taken_s
        worker.ran(decision, rung, taken_s if since_s is None else counted_s(taken_s, done_s - since_s))
        self._answer(decision, rung, done_s)
        return done_s

    def _lanes(self, now_s: float) -> tuple[Lane, ...]:
        """The workers as a request finds them."""
        if len(self._workers) == 1:
            return (Lane(max(now_s, self._workers[0].expected_s)),)
        rows = self._backlog.shape.target_rows
        reference_s = self._gates.cost.mean_s(rows)
        return tuple(
            Lane(max(now_s, worker.expected_s), worker.learned[-1].mean_s(rows) / reference_s)
            for worker in self._workers
        )

    def _asked(
        self, request: Request, now_s: float, *, commit: bool = True, held: bool = False, line_s: float = 0.0
    ) -> Admission:
        """What the policies say.

        Args:
            line_s: predicted, for those that will begin before it.
        """
        trace = self._trace
        if commit:
            self._rungs.offered(self._workers[0].learned[0].mean_s(request.rows), now_s)
        return admit(
            self._gates,
            request,
            now_s,
            self._lanes(now_s),
            in_flight=len(self._backlog) + len(self._here.held) + self._running,
            tenant=trace.tenants[int(trace.tenant[request.number])],
            at_ease=held,
            commit=commit,
            in_line=0 if commit else len(self._line),
            line_s=line_s,
            keep_short=not (commit and self._loop.works) and self._rungs.is_on_fastest,
        )

    def _dispatch(self, now_s: float) -> None:
        """Workers take what waits."""
        for at, worker in enumerate(self._workers):
            if worker.running is not None or not len(self._backlog):
                continue
            batch, trial = self._next(at, now_s)
            if batch is None:
                continue
            decision, rung = self._take(now_s, batch)
            if decision.slices:
                if trial is not None:
                    self._ended.reasons[Reason.EXPLORE] += 1
                    self._placing.exploration.began(trial, worker.name, now_s)
                worker.trial = trial
                heapq.heappush(self._events, (self._start(worker, decision, rung, now_s), at))

    def _next(self, at: int, now_s: float) -> tuple[int | None, Trial | None]:
        """Which planned batch an idle worker takes, and whether as a trial."""
        if len(self._workers) == 1:
            return 0, None
        return self._placing.next(at, self._backlog, self._devices(now_s), now_s)

    def _devices(self, now_s: float) -> list[Device]:
        """The workers as the placement sees them."""
        return [
            Device(worker.name, worker.learned[-1], now_s if worker.running is None else worker.expected_s)
            for worker in self._workers
        ]

    def _take(self, now_s: float, at: int) -> tuple[Decision[Request], int]:
        """A planned batch without what is too late, and the rung that runs it."""
        rung = self._rung(now_s)
        decision = self._backlog.take(now_s, at)
        for late in (*decision.expired, *decision.hopeless):
            self._ended.end(late, 504, now_s)
            self._gates.answered(late=1)
            self._front_end.answered(late=True, now_s=now_s)
        self._ended.reasons[Reason.EXPIRED] += len(decision.expired)
        self._ended.reasons[Reason.HOPELESS] += len(decision.hopeless)
        return decision, rung

    def _rung(self, now_s: float) -> int:
        choice = self._rungs.choose(self._gates, self._lanes(now_s), now_s)
        if choice is None:
            return 0
        self._ended.reasons[choice.reason] += 1
        return choice.at

    def _start(self, worker: SimulatedWorker, decision: Decision[Request], rung: int, now_s: float) -> float:
        """Begin a worker's batch; returns when it will be done."""
        self._ended.began(decision)
        self._running += decision.requests
        worker.begin(decision, rung, now_s)
        worker.delay_s = max(0.0, self._loop.free_s - now_s)  # what the front end has yet to do comes first
        return now_s + worker.takes_s(decision, rung, self._noise) + self._setup.batch_s

    def _finish(self, worker: SimulatedWorker, now_s: float) -> None:
        decision = worker.running
        if decision is None:
            return
        worker.running = None
        worker.expected_s = now_s
        taken_s = now_s - worker.started_s
        worker.busy_s += taken_s
        if len(self._workers) > 1:
            predicted_s = worker.learned[worker.rung].mean_s(decision.rows, decision.requests)
            self._placing.exploration.ran(worker.name, decision.rows, predicted_s, taken_s, now_s, worker.trial)
        worker.ran(decision, worker.rung, taken_s)
        if len(self._workers) > 1 and self._placing.follow(self._devices(now_s)):
            self._gates.cost = self._workers[self._placing.lead].learned[-1]
            self._backlog.recost(self._gates.cost, now_s)
        self._running -= decision.requests
        self._answer(decision, worker.rung, now_s)

    def _answer(self, decision: Decision[Request], rung: int, now_s: float) -> None:
        """The scores of a batch are there: answer those of which it was the last part."""
        for part in decision.slices:
            request = part.work
            request.left -= part.rows
            if request.left or self._ended.has(request):
                continue
            replied_s = self._front(now_s, ANSWER_SHARE * self._setup.front_s)
            self._ended.end(request, 200, replied_s, rung)
            self._front_end.replied(replied_s - now_s)
            self._front_end.answered(replied_s > self._due_s(request), replied_s)
            late = now_s > request.deadline_s
            self._gates.answered(late=late, on_time=not late)
            self._rungs.answered(rung, now_s)

    def _due_s(self, request: Request) -> float:
        """When its client wants the answer; the request itself has when its scores must be there."""
        return request.arrived_s + float(self._trace.budget_s[request.number])
