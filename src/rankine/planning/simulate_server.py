"""A server in simulated time: the policies themselves, and workers that take as long as a cost table says.

An event is a turn of the event loop, which reads what has come, or a batch that is done. Everything between is
:mod:`rankine.policy`, as the server calls it; only clock, front end and engines are not real.
"""

from __future__ import annotations

import heapq
import math
from collections import deque

import numpy as np

from rankine.planning.simulate_loop import SimulatedLoop
from rankine.planning.simulate_setup import DeviceRan, Outcomes, Setup
from rankine.planning.simulate_state import Ended, ExactCost, Request, Worker
from rankine.planning.simulate_traffic import Trace
from rankine.policy.admission import Gates, admit
from rankine.policy.backlog import Backlog, Decision
from rankine.policy.batching import Limits
from rankine.policy.cost import CostModel
from rankine.policy.debt import QualityDebt
from rankine.policy.demand import Demand
from rankine.policy.dispatch import Dispatch
from rankine.policy.exploration import Trial
from rankine.policy.fairness import FairShares
from rankine.policy.front_end import FrontEnd
from rankine.policy.ladder import Ladder, Load
from rankine.policy.lanes import Lane
from rankine.policy.one_core import HELD_S, MOMENT_S, REFUSES_FOR_S, is_at_ease, may_run_here, rest_s, waits_for_others
from rankine.policy.placement import Device
from rankine.policy.reason import Reason

__all__ = ["ExactCost", "Request", "SimulatedServer"]

_CHUNK = 4096
_PARSE_SHARE = 0.6
"""Of the front end's time for a request; the rest is its answer."""


class SimulatedServer:
    """One front end, one queue and its workers, at the start of a trace."""

    def __init__(self, trace: Trace, setup: Setup) -> None:
        self._trace, self._setup = trace, setup
        self._random = np.random.default_rng(setup.seed)
        self._normals: list[float] = []
        self._ladder = Ladder(setup.rungs, setup.floor, setup.ladder) if setup.rungs else None
        rungs = len(self._ladder.rungs) if self._ladder else 1
        self._workers = [self._worker(at, rungs) for at in range(len(setup.devices))]
        limits: Limits = setup.limits
        self._placing = Dispatch(limits, explores=not setup.exact)
        self._placing.follow(self._devices(0.0))
        reference = self._workers[self._placing.lead].learned[-1]
        shares = FairShares(setup.weights, capacity=len(self._workers)) if setup.weights else None
        self._gates: Gates[Request] = Gates(Backlog(reference, limits), reference, limits, shares=shares)
        self._backlog = self._gates.backlog
        self._demand = Demand()
        self._debt = QualityDebt()
        self._running = 0
        self._loop = SimulatedLoop(setup.wake_s, works=setup.front_s > 0.0)
        self._front_end = FrontEnd()
        self._held: list[Request] = []
        self._held_since_s = self._goes_s = 0.0
        self._refuses_until_s = 0.0
        self._ended = Ended(
            np.zeros(len(trace), np.int16), np.full(len(trace), math.inf), np.full(len(trace), -1, np.int8)
        )

    def run(self) -> Outcomes:
        """Play the trace to its end, and until everything that was admitted is done."""
        trace = self._trace
        events: list[tuple[float, int]] = []
        columns = (trace.arrived_s.tolist(), trace.rows.tolist(), trace.budget_s.tolist())
        arrivals = deque(
            Request(number, rows, arrived_s, arrived_s + budget_s, left=rows)
            for number, (arrived_s, rows, budget_s) in enumerate(zip(*columns, strict=True))
        )
        now_s = 0.0
        while arrivals or events or self._held:
            looks_s = self._loop.looks_s(arrivals[0].arrived_s) if arrivals else math.inf
            goes_s = max(self._goes_s, self._loop.free_s) if self._held else math.inf
            if events and events[0][0] < min(looks_s, goes_s):
                now_s, at = heapq.heappop(events)
                worker = self._workers[at]
                if worker.delay_s > 0.0:
                    heapq.heappush(events, (now_s + worker.delay_s, at))
                    worker.delay_s = 0.0
                    continue
                self._loop.wake()
                self._finish(worker, now_s)
                self._dispatch(now_s, events)
            else:
                now_s = min(looks_s, goes_s)
                if looks_s <= goes_s:
                    now_s = self._turn(arrivals, now_s, events)
                if self._held:
                    self._join(now_s, events, crowded=bool(arrivals) and arrivals[0].arrived_s <= now_s)
            self._rest(now_s)
        return self._outcomes(max(now_s, self._loop.free_s))

    def _turn(self, arrivals: deque[Request], begin_s: float, events: list[tuple[float, int]]) -> float:
        """The loop reads all that has come; returns when it has."""
        now_s = begin_s
        while arrivals and arrivals[0].arrived_s <= begin_s:
            now_s = self._front(begin_s, _PARSE_SHARE)
            self._arrive(arrivals.popleft(), now_s)
            if not self._loop.works:
                self._dispatch(now_s, events)
        self._dispatch(now_s, events)
        return now_s

    def _front(self, now_s: float, share: float) -> float:
        """When the front end is done with a part of a request that is there now: one thing after the other."""
        return self._occupied(now_s, share * self._setup.front_s)

    def _occupied(self, now_s: float, seconds: float) -> float:
        """When the event loop is done with what takes so long, which it takes from what runs on its core."""
        before_s = self._loop.free_s
        ends_s = self._loop.work(now_s, seconds)
        for worker in self._workers:
            worker.delay_s += ends_s - max(now_s, before_s)
        return ends_s

    def _rest(self, now_s: float) -> None:
        """The loop stands aside where a batch runs."""
        if self._loop.works and not self._held:
            left_s = max((one.expected_s - now_s for one in self._workers if one.running is not None), default=0.0)
            self._loop.rest(now_s, rest_s(left_s, refuses=now_s < self._refuses_until_s))

    def _is_for_loop(self, request: Request, now_s: float) -> bool:
        """Whether a request, if it is let in, is for the loop, as :class:`rankine.serving.here.Here` takes it."""
        if not self._loop.works or self._ladder is not None or len(self._workers) > 1:
            return False
        if len(self._backlog) or self._workers[0].running is not None:
            return False
        rows, joined = sum(one.rows for one in self._held) + request.rows, bool(self._held)
        predicted_s = self._gates.cost.mean_s(rows, len(self._held) + 1)
        fits = rows <= self._backlog.shape.most_rows and may_run_here(predicted_s, joined=joined)
        return fits and is_at_ease(predicted_s, request.deadline_s - now_s)

    def _join(self, now_s: float, events: list[tuple[float, int]], *, crowded: bool) -> None:
        """Run on the loop what is held for it, or wait for others."""
        rows, requests = sum(one.rows for one in self._held), len(self._held)
        has_time = rows < self._backlog.shape.target_rows and now_s - self._held_since_s < HELD_S
        if has_time and (crowded or now_s < self._goes_s):
            return
        if has_time and waits_for_others(self._loop.busy(now_s)):
            self._goes_s = now_s + MOMENT_S
            return
        held, self._held = self._held, []
        worker = self._workers[0]
        if len(self._backlog) or worker.running is not None:
            for request in held:
                self._backlog.put(request, self._lanes(now_s))
            self._dispatch(now_s, events)
            return
        taken_s = worker.truth.mean_s(rows, requests) * self._factor(worker.noise) + self._setup.batch_s
        done_s = self._loop.work(now_s, taken_s)
        worker.busy_s += taken_s
        worker.batches += 1
        worker.rows += rows
        worker.learned[0].observe(rows, requests, 0, taken_s)
        self._ended.batches += 1
        self._ended.batch_rows += rows
        self._ended.reasons[Reason.ALONE if requests == 1 else Reason.ALL] += 1
        for request in held:
            self._answer(request, done_s, rung=0)

    def _worker(self, at: int, rungs: int) -> Worker:
        device, setup = self._setup.devices[at], self._setup
        truth = CostModel(device.profile, per_request_s=device.per_request_s)
        learned: list[CostModel] = []
        for rung in range(rungs):
            cost = self._ladder.factor(rung) if self._ladder else 1.0
            if setup.exact:
                profile = [(rows, seconds * cost) for rows, seconds in device.profile]
                learned.append(ExactCost(profile, per_request_s=device.per_request_s * cost))
            else:
                cost *= setup.profile_error
                start = device.believed or device.profile
                learned.append(CostModel([(rows, seconds * cost) for rows, seconds in start]))
        return Worker(device.name, truth, 0.0 if setup.exact else device.noise, tuple(learned))

    def _lanes(self, now_s: float) -> tuple[Lane, ...]:
        if len(self._workers) == 1:
            return (Lane(max(now_s, self._workers[0].expected_s)),)
        rows = self._backlog.shape.target_rows
        reference_s = self._gates.cost.mean_s(rows)
        return tuple(
            Lane(max(now_s, worker.expected_s), worker.learned[-1].mean_s(rows) / reference_s)
            for worker in self._workers
        )

    def _arrive(self, request: Request, now_s: float) -> None:
        reason, status, held = self._decided(request, now_s)
        self._ended.reasons[reason] += 1
        if status:
            self._refuses_until_s = now_s + REFUSES_FOR_S
            self._end(request, status, now_s)
        elif held:
            if not self._held:
                self._held_since_s = self._goes_s = now_s
            self._held.append(request)

    def _decided(self, request: Request, now_s: float) -> tuple[Reason, int, bool]:
        """Why a request is let in, or refused and with which status, and whether it is for the loop."""
        if not self._loop.works:
            return *self._asked(request, now_s), False
        terms = self._front_end.terms(request.arrived_s, request.deadline_s, now_s)
        if terms.refuses:
            return Reason.FRONT_END, 503, False
        held = self._is_for_loop(request, now_s)
        if not held:
            request.deadline_s = terms.plan_s
            reason, status = self._asked(request, now_s, commit=False)
            if status:
                return (Reason.FRONT_END, 503, False) if terms.is_behind and status == 504 else (reason, status, False)
        self._front_end.let_in(now_s)
        request.deadline_s = terms.scores_s
        return *self._asked(request, now_s, held=held), held

    def _asked(self, request: Request, now_s: float, *, commit: bool = True, held: bool = False) -> tuple[Reason, int]:
        """What the policies say; 0 where they let it in."""
        trace = self._trace
        if commit:
            self._demand.add(self._workers[0].learned[0].mean_s(request.rows), now_s)
        found = admit(
            self._gates,
            request,
            now_s,
            self._lanes(now_s),
            in_flight=len(self._backlog) + len(self._held) + self._running,
            tenant=trace.tenants[int(trace.tenant[request.number])],
            at_ease=held,
            commit=commit,
        )
        return found.reason, found.status

    def _dispatch(self, now_s: float, events: list[tuple[float, int]]) -> None:
        for at, worker in enumerate(self._workers):
            if worker.running is not None or not len(self._backlog):
                continue
            batch, trial = self._next(at, now_s)
            if batch is None:
                continue
            rung = self._rung(now_s)
            decision = self._backlog.take(now_s, batch)
            for late in (*decision.expired, *decision.hopeless):
                self._end(late, 504, now_s)
                self._gates.answered(late=1)
                self._front_end.answered(late=True, now_s=now_s)
            self._ended.reasons[Reason.EXPIRED] += len(decision.expired)
            self._ended.reasons[Reason.HOPELESS] += len(decision.hopeless)
            if decision.slices:
                if trial is not None:
                    self._ended.reasons[Reason.EXPLORE] += 1
                    self._placing.exploration.began(trial, worker.name, now_s)
                heapq.heappush(events, (self._start(worker, decision, rung, now_s), at))

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

    def _rung(self, now_s: float) -> int:
        if self._ladder is None:
            return 0
        lanes = self._lanes(now_s)
        wait_s = self._backlog.work_s * self._ladder.slowdown(self._ladder.at) / len(lanes)
        demand = self._demand.per_s(now_s) / len(lanes)
        guard_s = self._gates.margin_s
        load = Load(demand, wait_s, lambda slowdown: self._backlog.slack_s(lanes, slowdown) - guard_s)
        choice = self._ladder.choose(now_s, load)
        self._ended.reasons[choice.reason] += 1
        return choice.at

    def _start(self, worker: Worker, decision: Decision[Request], rung: int, now_s: float) -> float:
        """Begin a batch; returns when it will be done."""
        self._ended.reasons[decision.reason] += 1
        self._ended.batches += 1
        self._ended.batch_rows += decision.rows
        self._running += decision.requests
        worker.batches += 1
        worker.rows += decision.rows
        worker.running, worker.rung, worker.started_s = decision, rung, now_s
        worker.delay_s = max(0.0, self._loop.free_s - now_s)  # what the front end has yet to do comes first
        worker.expected_s = now_s + worker.learned[rung].mean_s(decision.rows, decision.requests)
        factor = self._ladder.factor(rung) if self._ladder else 1.0
        taken_s = worker.truth.mean_s(decision.rows, decision.requests) * factor * self._factor(worker.noise)
        return now_s + taken_s + self._setup.batch_s

    def _finish(self, worker: Worker, now_s: float) -> None:
        decision = worker.running
        if decision is None:
            return
        worker.running = None
        worker.expected_s = now_s
        taken_s = now_s - worker.started_s
        worker.busy_s += taken_s
        cost = worker.learned[worker.rung]
        if len(self._workers) > 1:
            predicted_s = cost.mean_s(decision.rows, decision.requests)
            self._placing.exploration.ran(worker.name, decision.rows, predicted_s, taken_s, now_s)
        cost.observe(decision.rows, decision.requests, 0, taken_s)
        if len(self._workers) > 1 and self._placing.follow(self._devices(now_s)):
            self._gates.cost = self._workers[self._placing.lead].learned[-1]
            self._backlog.recost(self._gates.cost, now_s)
        self._running -= decision.requests
        for part in decision.slices:
            request = part.work
            request.left -= part.rows
            if not request.left and not self._ended.status[request.number]:
                self._answer(request, now_s, rung=worker.rung)

    def _answer(self, request: Request, now_s: float, *, rung: int) -> None:
        """Its scores are there."""
        replied_s = self._front(now_s, 1 - _PARSE_SHARE)
        self._end(request, 200, replied_s)
        self._front_end.replied(replied_s - now_s)
        self._front_end.answered(replied_s > self._due_s(request), replied_s)
        late = now_s > request.deadline_s
        self._gates.answered(late=late, on_time=not late)
        self._ended.rung[request.number] = rung
        self._debt.add(self._ladder.rungs[rung].loss if self._ladder else 0.0, 1, now_s)

    def _due_s(self, request: Request) -> float:
        """When its client wants the answer; the request itself has when its scores must be there."""
        return request.arrived_s + float(self._trace.budget_s[request.number])

    def _end(self, request: Request, status: int, now_s: float) -> None:
        self._ended.status[request.number] = status
        self._ended.finish_s[request.number] = now_s

    def _factor(self, noise: float) -> float:
        """Noise of one batch: log-normal with mean 1."""
        if not noise:
            return 1.0
        if not self._normals:
            self._normals = self._random.standard_normal(_CHUNK).tolist()
        return math.exp(noise * self._normals.pop() - noise * noise / 2)

    def _outcomes(self, end_s: float) -> Outcomes:
        ended = self._ended
        return Outcomes(
            trace=self._trace,
            status=ended.status,
            finish_s=ended.finish_s,
            rung=ended.rung,
            reasons={str(reason): count for reason, count in sorted(ended.reasons.items()) if count},
            batches=ended.batches,
            batch_rows=ended.batch_rows,
            busy_s=sum(worker.busy_s for worker in self._workers) / len(self._workers),
            end_s=max(end_s, self._trace.duration_s),
            debt=self._debt.total,
            learned=tuple(worker.learned[0] for worker in self._workers),
            devices=tuple(DeviceRan(one.name, one.batches, one.rows, one.busy_s) for one in self._workers),
        )
