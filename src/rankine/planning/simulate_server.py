"""A server in simulated time: the policies themselves, and workers that take as long as a cost table says.

An event is a request that comes, one that is parsed, or a batch that is done. Everything between is
:mod:`rankine.policy`, as the server calls it; only clock, front end and engines are not real.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rankine.planning.simulate_setup import Outcomes, Setup
from rankine.planning.simulate_traffic import Trace
from rankine.policy.admission import Gates, admit
from rankine.policy.backlog import Backlog, Decision
from rankine.policy.batching import Limits
from rankine.policy.cost import CostModel
from rankine.policy.debt import QualityDebt
from rankine.policy.demand import Demand
from rankine.policy.fairness import FairShares
from rankine.policy.ladder import Ladder, Load
from rankine.policy.lanes import Lane
from rankine.policy.placement import Device, next_for
from rankine.policy.reason import Reason

__all__ = ["OracleServer", "SimulatedServer"]

_CHUNK = 4096
_PARSE_SHARE = 0.6
"""Of the front end's time for a request; the rest is its answer."""


@dataclass(slots=True, eq=False)
class Request:
    """A request of the trace, as the policies see it."""

    number: int
    rows: int
    arrived_s: float
    deadline_s: float
    requests: int = 1
    left: int = 0


@dataclass(slots=True, eq=False)
class _Worker:
    """A device and what it runs.

    Attributes:
        truth: what batches take, on the best rung.
        learned: what the server believes, by rung.
        expected_s: when it is predicted to be free.
        delay_s: by which the front end has held up the running batch.
    """

    name: str
    truth: CostModel
    noise: float
    learned: tuple[CostModel, ...]
    running: Decision[Request] | None = None
    rung: int = 0
    started_s: float = 0.0
    expected_s: float = 0.0
    delay_s: float = 0.0
    busy_s: float = 0.0


@dataclass(slots=True)
class _Ended:
    """How requests ended, ``(requests,)`` each, filled while the simulation runs."""

    status: NDArray[np.int16]
    finish_s: NDArray[np.float64]
    rung: NDArray[np.int8]
    reasons: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    batch_rows: int = 0


class SimulatedServer:
    """One front end, one queue and its workers, at the start of a trace."""

    def __init__(self, trace: Trace, setup: Setup) -> None:
        self._trace, self._setup = trace, setup
        self._random = np.random.default_rng(setup.seed)
        self._normals: list[float] = []
        self._ladder = Ladder(setup.rungs, setup.floor, setup.ladder) if setup.rungs else None
        rungs = len(self._ladder.rungs) if self._ladder else 1
        self._workers = [self._worker(at, rungs) for at in range(len(setup.devices))]
        reference = self._workers[0].learned[-1]
        limits: Limits = setup.limits
        shares = FairShares(setup.weights, capacity=len(self._workers)) if setup.weights else None
        self._gates: Gates[Request] = Gates(Backlog(reference, limits), reference, limits, shares=shares)
        self._backlog = self._gates.backlog
        self._demand = Demand()
        self._debt = QualityDebt()
        self._running = 0
        self._front_free_s = 0.0
        self._ended = _Ended(
            np.zeros(len(trace), np.int16), np.full(len(trace), math.inf), np.full(len(trace), -1, np.int8)
        )

    def run(self) -> Outcomes:
        """Play the trace to its end, and until everything that was admitted is done."""
        trace = self._trace
        events: list[tuple[float, int]] = []
        parsed: deque[tuple[float, Request]] = deque()
        arrivals = zip(trace.arrived_s.tolist(), trace.rows.tolist(), trace.budget_s.tolist(), strict=True)
        coming = next(arrivals, None)
        number, now_s = 0, 0.0
        while coming is not None or parsed or events:
            arrives_s = coming[0] if coming is not None else math.inf
            parsed_s = parsed[0][0] if parsed else math.inf
            if arrives_s <= min(parsed_s, events[0][0] if events else math.inf) and coming is not None:
                request = Request(number, coming[1], coming[0], coming[0] + coming[2], left=coming[1])
                parsed.append((self._front(arrives_s, _PARSE_SHARE), request))
                number, coming = number + 1, next(arrivals, None)
            elif parsed and (not events or parsed_s <= events[0][0]):
                now_s = max(now_s, parsed_s)
                self._arrive(parsed.popleft()[1], now_s)
                self._dispatch(now_s, events)
            else:
                now_s, at = heapq.heappop(events)
                worker = self._workers[at]
                if worker.delay_s > 0.0:
                    heapq.heappush(events, (now_s + worker.delay_s, at))
                    worker.delay_s = 0.0
                    continue
                self._finish(worker, now_s)
                self._dispatch(now_s, events)
        return self._outcomes(max(now_s, self._front_free_s))

    def _front(self, now_s: float, share: float) -> float:
        """When the front end is done with a part of a request that is there now: one thing after the other.

        It takes its time from what runs; :attr:`Setup.front_s` is 0 where it has a core of its own.
        """
        front_s = share * self._setup.front_s
        if not front_s:
            return now_s
        for worker in self._workers:
            worker.delay_s += front_s
        self._front_free_s = max(now_s, self._front_free_s) + front_s
        return self._front_free_s

    def _worker(self, at: int, rungs: int) -> _Worker:
        device, setup = self._setup.devices[at], self._setup
        truth = CostModel(device.profile, per_request_s=device.per_request_s)
        learned: list[CostModel] = []
        for rung in range(rungs):
            cost = self._ladder.factor(rung) if self._ladder else 1.0
            if setup.exact:
                profile = [(rows, seconds * cost) for rows, seconds in device.profile]
                learned.append(_Exact(profile, per_request_s=device.per_request_s * cost))
            else:
                cost *= setup.profile_error
                learned.append(CostModel([(rows, seconds * cost) for rows, seconds in device.profile]))
        return _Worker(device.name, truth, 0.0 if setup.exact else device.noise, tuple(learned))

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
        trace = self._trace
        self._demand.add(self._workers[0].learned[0].mean_s(request.rows), now_s)
        decision = admit(
            self._gates,
            request,
            now_s,
            self._lanes(now_s),
            in_flight=len(self._backlog) + self._running,
            tenant=trace.tenants[int(trace.tenant[request.number])],
        )
        self._ended.reasons[decision.reason] += 1
        if not decision.admitted:
            self._end(request, decision.status, now_s)

    def _dispatch(self, now_s: float, events: list[tuple[float, int]]) -> None:
        for at, worker in enumerate(self._workers):
            if worker.running is not None or not len(self._backlog):
                continue
            batch = self._next(at, now_s)
            if batch is None:
                continue
            rung = self._rung(now_s)
            decision = self._backlog.take(now_s, batch)
            for late in (*decision.expired, *decision.hopeless):
                self._end(late, 504, now_s)
                self._gates.answered(late=1)
            self._ended.reasons[Reason.EXPIRED] += len(decision.expired)
            self._ended.reasons[Reason.HOPELESS] += len(decision.hopeless)
            if decision.slices:
                heapq.heappush(events, (self._start(worker, decision, rung, now_s), at))

    def _next(self, at: int, now_s: float) -> int | None:
        """Which planned batch an idle worker takes."""
        if len(self._workers) == 1:
            return 0
        devices = [Device(worker.name, worker.learned[-1], worker.expected_s) for worker in self._workers]
        return next_for(at, self._backlog.planned, devices, now_s)

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

    def _start(self, worker: _Worker, decision: Decision[Request], rung: int, now_s: float) -> float:
        """Begin a batch; returns when it will be done."""
        self._ended.reasons[decision.reason] += 1
        self._ended.batches += 1
        self._ended.batch_rows += decision.rows
        self._running += decision.requests
        worker.running, worker.rung, worker.started_s = decision, rung, now_s
        worker.delay_s = max(0.0, self._front_free_s - now_s)  # what the front end has yet to do comes first
        worker.expected_s = now_s + worker.learned[rung].mean_s(decision.rows, decision.requests)
        factor = self._ladder.factor(rung) if self._ladder else 1.0
        return now_s + worker.truth.mean_s(decision.rows, decision.requests) * factor * self._factor(worker.noise)

    def _finish(self, worker: _Worker, now_s: float) -> None:
        decision = worker.running
        if decision is None:
            return
        worker.running = None
        worker.expected_s = now_s
        taken_s = now_s - worker.started_s
        worker.busy_s += taken_s
        worker.learned[worker.rung].observe(decision.rows, decision.requests, 0, taken_s)
        self._running -= decision.requests
        loss = self._ladder.rungs[worker.rung].loss if self._ladder else 0.0
        for part in decision.slices:
            request = part.work
            request.left -= part.rows
            if not request.left and not self._ended.status[request.number]:
                self._end(request, 200, self._front(now_s, 1 - _PARSE_SHARE))
                late = now_s > request.deadline_s
                self._gates.answered(late=late, on_time=not late)
                self._ended.rung[request.number] = worker.rung
                self._debt.add(loss, 1, now_s)

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
        )


class OracleServer(SimulatedServer):
    """One that knows what batches take and regrets: where too much waits it gives up the largest request, not the last.

    That leaves the most requests on time on one machine (Moore & Hodgson 1968) among those known so far; that they
    come later than at once and run in batches keeps it from being a strict bound.
    """

    def __init__(self, trace: Trace, setup: Setup) -> None:
        super().__init__(trace, replace(setup, exact=True))

    def _arrive(self, request: Request, now_s: float) -> None:
        lanes = self._lanes(now_s)
        while not self._backlog.offer(request, lanes).fits:
            largest = max((*self._backlog, request), key=lambda waiting: waiting.rows)
            if largest is not request:
                self._backlog.remove(largest, now_s)
            self._end(largest, 503, now_s)
            if largest is request:
                return


class _Exact(CostModel):
    """What a scheduler believes that knows service times: nothing to learn, and nothing kept for the unforeseen."""

    @property
    def tail_ratio(self) -> float:
        return 1.0

    def observe(self, rows: int, requests: int, co_running: int, seconds: float) -> None:
        """It knows already."""
