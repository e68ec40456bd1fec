"""The simulator beside reality: the same traces, and what the engine and the front end were measured to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from urllib.request import urlopen

import numpy as np

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
from serving.oracle import engine_service
from serving.processes import cpu_s, server_process
from serving.queries import Query
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
_REPEATS, _JOINED = 9, 8
_CROWD, _CROWD_S = 16, 3.0
_LEAST_JOINED = 1.5


@dataclass(frozen=True)
class Profile:
    """Medians of the engine's calls on the server's core, in seconds.

    Attributes:
        points: pairs (rows, seconds) of one request.
        per_request_s: of each further request in a batch.
        noise: standard deviation of a call's logarithm.
    """

    points: tuple[tuple[int, float], ...]
    per_request_s: float
    noise: float


def measure_profile(ranker: Ranker, queries: Sequence[Query], cores: tuple[int, ...]) -> Profile:
    """Time calls of every size of ``PROFILE_ROWS``, as one request and, of the middle size, as several."""
    ids = np.unique(np.concatenate([one.ids for one in queries]))

    def call(rows: int, requests: int) -> Floats:
        random = np.random.default_rng(rows)
        parts = [random.choice(ids, rows // requests) for _ in range(requests)]
        batch = [ranker.prepare(queries[0].request, part.tolist(), part, 1) for part in parts]
        spent_s = []
        for _ in range(_REPEATS + 1):
            begin = perf_counter()
            ranker.run(batch)
            spent_s.append(perf_counter() - begin)
        return np.array(spent_s[1:])

    with pinned(cores):
        times = {rows: call(rows, 1) for rows in PROFILE_ROWS}
        middle = PROFILE_ROWS[len(PROFILE_ROWS) // 2 + 1]
        joined_s = float(np.median(call(middle, _JOINED)))
    points = tuple((rows, float(np.median(spent_s))) for rows, spent_s in times.items())
    spread = [np.log(spent_s / np.median(spent_s)) for spent_s in times.values()]
    noise = 1.4826 * float(np.median(np.abs(np.concatenate(spread))))
    per_request_s = max(1e-6, (joined_s - dict(points)[middle]) / (_JOINED - 1))
    return Profile(points, per_request_s, noise)


@dataclass(frozen=True)
class Front:
    """Processor seconds beside the engine: of a request, and more of one that the server had to wake for."""

    request_s: float
    wake_s: float


def measure_front(drive: Drive, profile: Profile, alone_s: float) -> Front:
    """What many clients at once cost, told apart from what each turn costs.

    Args:
        alone_s: seconds beside the engine of a request that comes alone.

    Raises:
        SloNotMet: the server answered nothing.
    """
    process = server_process(drive.running.url)
    cpu_before_s, before = cpu_s(process), _batches(drive.running.url)
    drive.crowd(_CROWD, _CROWD_S)
    cpu_after_s, after = cpu_s(process), _batches(drive.running.url)
    batches, requests, rows = (b - a for a, b in zip(before, after, strict=True))
    if not batches:
        raise SloNotMet("no batch ran", where=drive.running.url)
    cost = CostModel(profile.points, per_request_s=profile.per_request_s)
    joined = requests / batches
    engine_s = batches * cost.mean_s(round(rows / batches), max(1, round(joined)))
    crowd_s = max(0.0, (cpu_after_s - cpu_before_s - engine_s) / requests)
    # A request that is alone wakes the loop; of those that come together one does.
    wake_s = max(0.0, (alone_s - crowd_s) / (1 - 1 / joined)) if joined > _LEAST_JOINED else 0.0
    return Front(max(1e-6, alone_s - wake_s), wake_s)


def _batches(url: str) -> tuple[float, float, float]:
    """Batches, requests and rows that a server has run."""
    with urlopen(f"{url}/metrics", timeout=5.0) as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
    names = ("rankine_batch_requests_count", "rankine_batch_requests_sum", "rankine_batch_rows_sum")
    found = [float(lines[name]) for name in names]
    return found[0], found[1], found[2]


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
    engine = engine_service(ranker, drive.queries, cores)
    profile = measure_profile(ranker, drive.queries, cores)
    front = measure_front(drive, profile, beside_engine_s(drive, engine, effort.requests))
    device = SimulatedDevice("cpu", profile.points, profile.per_request_s, profile.noise)
    setup = Setup((device,), front_s=front.request_s, wake_s=front.wake_s)
    probe_s = effort.seconds_of(case.traffic)
    return Simulation(
        case=case,
        profile_ms={rows: 1e3 * seconds for rows, seconds in profile.points},
        per_request_ms=1e3 * profile.per_request_s,
        front_ms=1e3 * front.request_s,
        wake_ms=1e3 * front.wake_s,
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
    drive.drain()
    rate_rps = share * real_rps
    real = drive.record(*drive.open(rate_rps, duration_s)).latency
    found = play(drive, setup, rate_rps, duration_s)
    if real is None or found.p50_ms is None or found.p99_ms is None:
        raise SloNotMet("nothing was answered", where=f"{rate_rps:.1f} rps")
    return Point(
        share=share,
        rate_rps=rate_rps,
        real_p50_ms=real.p50_ms,
        real_p99_ms=real.p99_ms,
        simulated_p50_ms=found.p50_ms,
        simulated_p99_ms=found.p99_ms,
        requests=round(rate_rps * duration_s),
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
