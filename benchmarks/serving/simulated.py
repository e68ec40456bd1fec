"""The simulator beside reality: the same traces, and what the engine and the front end were measured to take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import TypeVar

import numpy as np

from rankine.environment import environment
from rankine.errors import SloNotMet
from rankine.observation.load.generator import pinned
from rankine.planning.simulate_server import SimulatedServer
from rankine.planning.simulate_setup import Outcomes, Setup, SimulatedDevice
from rankine.planning.simulate_traffic import Trace
from rankine.policy.cost import CostModel
from rankine.stats import percentile
from serving.drive import WARMUP_S, Drive
from serving.effort import Effort
from serving.front_cost import Front, measure_front, sized
from serving.queries import Query
from serving.ran import ran
from serving.ranker import Ranker
from serving.record import Case, Point, Simulation
from serving.search import Tell
from serving.traffic import Floats
from serving.turn import search_now

Measured = TypeVar("Measured", "Profile", Front)
SHARES = (0.5, 0.8)
"""Of the sustainable rate, at which latencies are compared."""
PROFILE_ROWS = (1, 64, 128, 256, 512, 1024, 2048)
PRECISION = 0.01
WARM_ROWS = (1, 512, 2048)
"""As in :mod:`rankine.serving.warm`: between these the server's cost model is a straight line."""
_CALLS, _NOISE_ROWS = 80, 512
_TRACES = 3
_SEARCHES, _SEARCHES_S = 3, 25.0
"""So often a rate is searched, where probes of all of them together take no longer."""


@dataclass(frozen=True)
class Profile:
    """What the engine's calls take in the server, in seconds.

    Attributes:
        points: pairs (rows, seconds) of one request.
        warm: the same alone in a loop, of the sizes that the server times when it starts: what it believes first.
        noise: standard deviation of a call's logarithm.
    """

    points: tuple[tuple[int, float], ...]
    warm: tuple[tuple[int, float], ...]
    noise: float


def measure_profile(drive: Drive, ranker: Ranker, cores: tuple[int, ...]) -> Profile:
    """Time calls of every size of ``PROFILE_ROWS`` in the server, one client asking; noise beside it.

    In a loop of one's own the same call takes less: the caches are the engine's alone.
    """
    points: list[tuple[int, float]] = []
    for rows in PROFILE_ROWS:
        asked, before = sized(drive, rows), ran(drive.running.url)
        asked.one_client(_CALLS, warmup_s=0.0)
        found = ran(drive.running.url) - before
        points.append((rows, found.run_s / max(1.0, found.batches)))
    with pinned(cores):
        alone_s = {rows: _calls_s(ranker, sized(drive, rows).queries[0]) for rows in WARM_ROWS}
    usual_s = {rows: float(np.median(each_s)) for rows, each_s in alone_s.items()}
    errors = np.log(alone_s[_NOISE_ROWS] / usual_s[_NOISE_ROWS])
    return Profile(tuple(points), tuple(usual_s.items()), 1.4826 * float(np.median(np.abs(errors))))


def _calls_s(ranker: Ranker, query: Query) -> Floats:
    """Seconds of the engine's calls for one request."""
    batch = [ranker.prepare(query.request, query.ids.tolist(), query.ids, 1)]
    spent_s = []
    for _ in range(_CALLS):
        begin = perf_counter()
        ranker.run(batch)
        spent_s.append(perf_counter() - begin)
    return np.array(spent_s[1:])


def compare_simulator(
    drive: Drive, case: Case, ranker: Ranker, near_rps: float | None, effort: Effort, cores: tuple[int, ...], tell: Tell
) -> Simulation:
    """What the server sustains now and at shares of that, and the same of the simulator.

    The speed of a host drifts within minutes, and a hiccup ends a search: what goes into the simulator is measured
    before, between and after what it is compared with, and the median of several searches counts.

    Args:
        near_rps: a rate that it is likely to sustain.

    Raises:
        SloNotMet: the server sustains nothing, or answered nothing.
    """
    probe_s = effort.seconds_of(case.traffic)
    measured = [_measured(drive, ranker, cores)]
    found_rps: list[float] = []
    for _ in range(max(1, min(_SEARCHES, int(_SEARCHES_S / probe_s)))):
        found = search_now(drive, effort, found_rps[-1] if found_rps else near_rps, None, tell)
        if found.best is not None and found.best.offered_rps:
            found_rps.append(found.best.offered_rps)
    if not found_rps:
        raise SloNotMet("no rate held, so there is none to compare", where=case.server)
    real_rps = float(np.median(found_rps))
    measured.append(_measured(drive, ranker, cores))
    told = {share: _told(drive, share * real_rps, max(probe_s, effort.point_s)) for share in SHARES}
    measured.append(_measured(drive, ranker, cores))
    profile, front = _middle([each for each, _ in measured]), _middle([each for _, each in measured])
    setup = experienced(drive, setup_of(profile, front), real_rps, probe_s)
    return Simulation(
        case=case,
        profile_ms={rows: 1e3 * seconds for rows, seconds in profile.points},
        per_request_ms=1e3 * front.joined_s,
        front_ms=1e3 * front.request_s,
        front_row_us=1e6 * front.row_s,
        wakes_ms=tuple((1e3 * idle_s, 1e3 * more_s) for idle_s, more_s in front.wakes_s),
        batch_ms=1e3 * front.batch_s,
        connect_ms=1e3 * front.connect_s,
        refuse_ms=1e3 * front.refuse_s,
        outside_ms=1e3 * front.outside_s,
        noise=profile.noise,
        real_rps=real_rps,
        real_each_rps=tuple(found_rps),
        simulated_rps=drive.offered(_highest(drive, setup, real_rps, probe_s), probe_s),
        points=tuple(_point(drive, setup, share, real_rps, told[share]) for share in SHARES),
        created=datetime.now(UTC),
        environment=environment(),
    )


def _measured(drive: Drive, ranker: Ranker, cores: tuple[int, ...]) -> tuple[Profile, Front]:
    """What goes into the simulator, as it is now."""
    drive.drain()
    profile = measure_profile(drive, ranker, cores)
    return profile, measure_front(drive, CostModel(profile.points).mean_s)


def _middle(found: Sequence[Measured]) -> Measured:
    """Of each value the median."""
    values = {one.name: np.median([getattr(each, one.name) for each in found], axis=0) for one in fields(found[0])}
    return type(found[0])(
        **{name: float(each) if each.ndim == 0 else tuple(map(tuple, each.tolist())) for name, each in values.items()}
    )


def setup_of(profile: Profile, front: Front) -> Setup:
    """The server, as it was measured."""
    return Setup(
        (SimulatedDevice("cpu", profile.points, front.joined_s, profile.noise, profile.warm),),
        front_s=front.request_s,
        front_row_s=front.row_s,
        wakes_s=front.wakes_s,
        batch_s=front.batch_s,
        connect_s=front.connect_s,
        refuse_s=front.refuse_s,
        outside_s=front.outside_s,
    )


@dataclass(frozen=True)
class Played:
    """What came of the requests of a simulated run, its warm-up left out; times are None where nothing was answered."""

    missed: float
    p50_ms: float | None
    p99_ms: float | None


def play(drive: Drive, setup: Setup, rate_rps: float, duration_s: float) -> Played:
    """The simulator under the very requests that the server gets from ``drive``."""
    outcomes = _run(drive, setup, rate_rps, duration_s)
    measured = outcomes.trace.arrived_s >= WARMUP_S
    answered = outcomes.answered & measured
    latency_ms = 1e3 * outcomes.latency_s[answered]
    on_time = latency_ms <= drive.slo_ms
    missed = 1 - float(on_time.sum()) / max(1, int(measured.sum()))
    if not len(latency_ms):
        return Played(missed, None, None)
    return Played(missed, percentile(latency_ms, 50), percentile(latency_ms, 99))


def experienced(drive: Drive, setup: Setup, rate_rps: float, duration_s: float) -> Setup:
    """A server that has been under load before, as the real one has: it knows what batches take."""
    return replace(setup, learned=_run(drive, setup, rate_rps, duration_s).learned)


def _run(drive: Drive, setup: Setup, rate_rps: float, duration_s: float) -> Outcomes:
    due_s = drive.trace(rate_rps, duration_s)
    order = np.random.default_rng(drive.seed + 1).integers(len(drive.queries), size=len(due_s))
    rows = np.array([len(one.ids) for one in drive.queries])[order]
    budget_s = np.array([one.deadline_ms for one in drive.queries])[order] / 1e3
    nobody = np.zeros(len(due_s), np.int64)
    return SimulatedServer(Trace(due_s, rows, budget_s, nobody, ("",), WARMUP_S + duration_s), setup).run()


def _seeds(drive: Drive) -> Iterator[Drive]:
    """The same under several traces: the p99 of a few seconds is a matter of chance."""
    return (replace(drive, seed=drive.seed + 100 * number) for number in range(_TRACES))


@dataclass(frozen=True)
class _Told:
    """Medians over several traces of what the server did at a rate."""

    duration_s: float
    p50_ms: float
    p99_ms: float


def _told(drive: Drive, rate_rps: float, duration_s: float) -> _Told:
    found: list[tuple[float, float]] = []
    for other in _seeds(drive):
        drive.drain()
        latency = other.record(*other.open(rate_rps, duration_s)).latency
        if latency is None:
            raise SloNotMet("nothing was answered", where=f"{rate_rps:.1f} rps")
        found.append((latency.p50_ms, latency.p99_ms))
    p50_ms, p99_ms = np.median(found, axis=0)
    return _Told(duration_s, float(p50_ms), float(p99_ms))


def _point(drive: Drive, setup: Setup, share: float, real_rps: float, told: _Told) -> Point:
    rate_rps = share * real_rps
    played = [play(other, setup, rate_rps, told.duration_s) for other in _seeds(drive)]
    found = [(one.p50_ms, one.p99_ms) for one in played if one.p50_ms is not None and one.p99_ms is not None]
    if len(found) < _TRACES:
        raise SloNotMet("nothing was answered in simulated time", where=f"{rate_rps:.1f} rps")
    p50_ms, p99_ms = np.median(found, axis=0)
    return Point(
        share=share,
        rate_rps=rate_rps,
        real_p50_ms=told.p50_ms,
        real_p99_ms=told.p99_ms,
        simulated_p50_ms=float(p50_ms),
        simulated_p99_ms=float(p99_ms),
        requests=round(rate_rps * told.duration_s) * _TRACES,
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
