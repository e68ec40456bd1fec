"""The simulator beside reality: the same traces, and what the engine and the front end were measured to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rankine.environment import environment
from rankine.errors import SloNotMet
from rankine.observation.load.generator import pinned
from rankine.planning.simulate import Simulated, summarize
from rankine.planning.simulate_server import SimulatedServer
from rankine.planning.simulate_setup import Setup, SimulatedDevice
from rankine.planning.simulate_traffic import Trace
from rankine.policy.cost import CostModel
from serving.drive import WARMUP_S, Drive
from serving.effort import Effort
from serving.oracle import Service
from serving.processes import cpu_s, server_process
from serving.queries import Query
from serving.ran import ran
from serving.ranker import Ranker
from serving.record import Case, Point, Simulation
from serving.search import Tell
from serving.sections import beside_engine_s
from serving.traffic import Floats
from serving.turn import search_now

SHARES = (0.5, 0.8)
"""Of the sustainable rate, at which latencies are compared."""
PROFILE_ROWS = (1, 64, 128, 256, 512, 1024, 2048)
PRECISION = 0.01
_QUERIES, _CALLS = 40, 80
_JOINED, _JOINED_ROWS = 8, 512
_CROWD, _CROWD_S = 16, 3.0
_LEAST_JOINED = 1.5
_WAKING = 0.3
"""Of what a request costs more alone than among others, the part of waking the event loop; the rest is that of a batch.
Fitted, on two models, to latencies at half of what they sustain."""
_TRACES = 3


@dataclass(frozen=True)
class Profile:
    """What the engine's calls take in the server, in seconds.

    Attributes:
        points: pairs (rows, seconds) of one request.
        per_request_s: of each further request in a batch.
        noise: standard deviation of a call's logarithm.
    """

    points: tuple[tuple[int, float], ...]
    per_request_s: float
    noise: float

    @property
    def service(self) -> Service:
        """The line through the points."""
        rows, seconds = zip(*self.points, strict=True)
        row_s, call_s = np.polyfit(rows, seconds, 1)
        return Service(max(0.0, float(call_s)), float(row_s))

    @property
    def cost(self) -> CostModel:
        """As the policies see it."""
        return CostModel(self.points, per_request_s=self.per_request_s)


def measure_profile(drive: Drive, ranker: Ranker, cores: tuple[int, ...]) -> Profile:
    """Time calls of every size of ``PROFILE_ROWS`` in the server, one client asking; joined ones, and noise, beside it.

    In a loop of one's own the same call takes less: the caches are the engine's alone.
    """
    random = np.random.default_rng(len(drive.queries))
    ids = np.unique(np.concatenate([one.ids for one in drive.queries]))
    points: list[tuple[int, float]] = []
    for rows in PROFILE_ROWS:
        asked = [replace(one, ids=random.choice(ids, rows, replace=False)) for one in drive.queries[:_QUERIES]]
        before = ran(drive.running.url)
        replace(drive, queries=asked).one_client(_CALLS, warmup_s=0.0)
        found = ran(drive.running.url) - before
        points.append((rows, found.run_s / max(1.0, found.batches)))
    with pinned(cores):
        alone_s, joined_s = (_calls_s(ranker, drive.queries, ids, requests) for requests in (1, _JOINED))
    noise = 1.4826 * float(np.median(np.abs(np.log(alone_s / np.median(alone_s)))))
    per_request_s = max(1e-6, float(np.median(joined_s) - np.median(alone_s)) / (_JOINED - 1))
    return Profile(tuple(points), per_request_s, noise)


def _calls_s(ranker: Ranker, queries: Sequence[Query], ids: NDArray[np.int64], requests: int) -> Floats:
    """Seconds of the engine's calls on ``_JOINED_ROWS`` rows of so many requests."""
    random = np.random.default_rng(requests)
    parts = [random.choice(ids, _JOINED_ROWS // requests, replace=False) for _ in range(requests)]
    batch = [ranker.prepare(queries[0].request, part.tolist(), part, 1) for part in parts]
    spent_s = []
    for _ in range(_CALLS):
        begin = perf_counter()
        ranker.run(batch)
        spent_s.append(perf_counter() - begin)
    return np.array(spent_s[1:])


@dataclass(frozen=True)
class Front:
    """Processor seconds beside the engine: of a request, of waking for it, and of a batch."""

    request_s: float
    wake_s: float
    batch_s: float


def measure_front(drive: Drive, profile: Profile, alone_s: float) -> Front:
    """What each request costs among many, told apart from what is paid once for all that come together.

    Args:
        alone_s: seconds beside the engine of a request that comes alone.

    Raises:
        SloNotMet: the server answered nothing.
    """
    process = server_process(drive.running.url)
    cpu_before_s, before = cpu_s(process), ran(drive.running.url)
    drive.crowd(_CROWD, _CROWD_S)
    spent_s, found = cpu_s(process) - cpu_before_s, ran(drive.running.url) - before
    if not found.batches:
        raise SloNotMet("no batch ran", where=drive.running.url)
    joined = found.requests / found.batches
    engine_s = found.batches * profile.cost.mean_s(round(found.rows / found.batches), max(1, round(joined)))
    crowd_s = max(0.0, (spent_s - engine_s) / found.requests)
    # Of those that come together one wakes the loop, and they are one batch.
    once_s = max(0.0, (alone_s - crowd_s) / (1 - 1 / joined)) if joined > _LEAST_JOINED else 0.0
    return Front(max(1e-6, alone_s - once_s), _WAKING * once_s, (1 - _WAKING) * once_s)


def compare_simulator(
    drive: Drive, case: Case, ranker: Ranker, near_rps: float | None, effort: Effort, cores: tuple[int, ...], tell: Tell
) -> Simulation:
    """What the server sustains now and at shares of that, and the same of the simulator, in one go.

    Args:
        near_rps: a rate that it is likely to sustain.

    Raises:
        SloNotMet: the server sustains nothing, or answered nothing.
    """
    found = search_now(drive, effort, near_rps, None, tell)
    if found.best is None or not found.best.offered_rps:
        raise SloNotMet("no rate held, so there is none to compare", where=case.server)
    real_rps = found.best.offered_rps
    drive.drain()
    profile = measure_profile(drive, ranker, cores)
    front = measure_front(drive, profile, beside_engine_s(drive, profile.service, effort.requests))
    device = SimulatedDevice("cpu", profile.points, profile.per_request_s, profile.noise)
    setup = Setup((device,), front_s=front.request_s, wake_s=front.wake_s, batch_s=front.batch_s)
    probe_s = effort.seconds_of(case.traffic)
    return Simulation(
        case=case,
        profile_ms={rows: 1e3 * seconds for rows, seconds in profile.points},
        per_request_ms=1e3 * profile.per_request_s,
        front_ms=1e3 * front.request_s,
        wake_ms=1e3 * front.wake_s,
        batch_ms=1e3 * front.batch_s,
        noise=profile.noise,
        real_rps=real_rps,
        simulated_rps=drive.offered(_highest(drive, setup, real_rps, probe_s), probe_s),
        points=tuple(_point(drive, setup, share, real_rps, max(probe_s, effort.point_s)) for share in SHARES),
        created=datetime.now(UTC),
        environment=environment(),
    )


def play(drive: Drive, setup: Setup, rate_rps: float, duration_s: float) -> Simulated:
    """The simulator under the very requests that the server gets from ``drive``; its warm-up counts too."""
    due_s = drive.trace(rate_rps, duration_s)
    order = np.random.default_rng(drive.seed + 1).integers(len(drive.queries), size=len(due_s))
    rows = np.array([len(one.ids) for one in drive.queries])[order]
    budget_s = np.array([one.deadline_ms for one in drive.queries])[order] / 1e3
    nobody = np.zeros(len(due_s), np.int64)
    trace = Trace(due_s, rows, budget_s, nobody, ("",), WARMUP_S + duration_s)
    return summarize(SimulatedServer(trace, setup).run())


def _point(drive: Drive, setup: Setup, share: float, real_rps: float, duration_s: float) -> Point:
    """Medians over several traces: the p99 of a few seconds is a matter of chance."""
    rate_rps = share * real_rps
    real: list[tuple[float, float]] = []
    simulated: list[tuple[float, float]] = []
    for number in range(_TRACES):
        drive.drain()
        other = replace(drive, seed=drive.seed + 100 * number)
        told = other.record(*other.open(rate_rps, duration_s)).latency
        found = play(other, setup, rate_rps, duration_s)
        if told is None or found.p50_ms is None or found.p99_ms is None:
            raise SloNotMet("nothing was answered", where=f"{rate_rps:.1f} rps")
        real.append((told.p50_ms, told.p99_ms))
        simulated.append((found.p50_ms, found.p99_ms))
    real_ms, simulated_ms = np.median(real, axis=0), np.median(simulated, axis=0)
    return Point(
        share=share,
        rate_rps=rate_rps,
        real_p50_ms=float(real_ms[0]),
        real_p99_ms=float(real_ms[1]),
        simulated_p50_ms=float(simulated_ms[0]),
        simulated_p99_ms=float(simulated_ms[1]),
        requests=round(rate_rps * duration_s) * _TRACES,
    )


def _highest(drive: Drive, setup: Setup, near_rps: float, duration_s: float) -> float:
    """The highest rate at which the objective holds in simulated time, by bisection."""

    def holds(rate_rps: float) -> bool:
        found = play(drive, setup, rate_rps, duration_s)
        return found.missed <= 0.01 and found.p99_ms is not None and found.p99_ms <= drive.slo_ms

    low, high = 0.0, near_rps
    while holds(high):
        low, high = high, 1.5 * high
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
