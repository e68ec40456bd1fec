"""One server's turn in a round: what it sustains now, and right after that its overload and its oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from rankine.errors import EngineError
from rankine.observation.load import LoadConfig
from rankine.observation.load.generator import pinned
from serving.drive import Drive
from serving.effort import Effort
from serving.oracle import engine_service
from serving.peers.peer import Settings
from serving.queries import Query
from serving.ranker import Ranker
from serving.record import Attempt, Oracle, Overload, Turn
from serving.search import Found, Tell, find_rate
from serving.sections import find_oracle, run_overload

CONTROL_S, CONTROL_ROWS = 0.2, 500
ORACLE_QUERIES = 240


@dataclass(frozen=True)
class Beside:
    """What else is measured in a turn."""

    oracle: bool = False
    overload_factor: float | None = None


def search_now(drive: Drive, effort: Effort, near_rps: float | None, rival_rps: float | None, tell: Tell) -> Found:
    """The rate that a server sustains under the arrivals of ``drive``; see :func:`serving.search.find_rate`."""
    load = LoadConfig(url=drive.running.url, slo_ms=drive.slo_ms)
    return find_rate(
        drive,
        load,
        probe_s=effort.seconds_of(drive.traffic),
        precision=effort.precision,
        near_rps=near_rps,
        rival_rps=rival_rps,
        tell=tell,
    )


def take_turn(
    drive: Drive,
    ranker: Ranker,
    cores: tuple[int, ...],
    effort: Effort,
    settings: Settings,
    beside: Beside,
    *,
    before: Turn | None,
    rival_rps: float | None,
    tell: Tell,
) -> Turn:
    """Measure one server.

    Args:
        cores: of the server, where the engine is timed while the server is idle.
        before: its turn in the round before, which tells where to search.
        rival_rps: what another server sustains, which tells it else.

    Raises:
        EngineError: the server is gone.
        SloNotMet: the server answered nothing.
    """
    begin_ms = control_ms(ranker, drive.queries, cores)
    near_rps = before.sustained_rps if before else None
    found = search_now(drive, effort, near_rps, rival_rps, tell)
    best = found.best
    if all(set(one.result.outcomes) <= {"unreachable"} for one in found.trials):
        raise EngineError("the server is gone", where=drive.running.url)
    oracle, overload = _beside(drive, ranker, cores, effort, beside, found)
    latency = best.latency if best else None
    drive.drain()  # what an overload has left would be in the control's time, and in the next server's
    return Turn(
        sustained_rps=best.offered_rps if best else None,
        failed_rps=_failed_rps(drive, effort, found),
        goodput_rps=best.goodput_rps if best else None,
        p50_ms=latency.p50_ms if latency else None,
        p99_ms=latency.p99_ms if latency else None,
        requests=sum(one.result.requests for one in found.trials),
        capped=found.capped,
        engine_ms=(begin_ms, control_ms(ranker, drive.queries, cores)),
        attempts=tuple(Attempt(rate_rps=one.rate_rps, held=one.held, why=one.why) for one in found.trials),
        settings=settings,
        oracle=oracle,
        overload=overload,
    )


def control_ms(ranker: Ranker, queries: Sequence[Query], cores: tuple[int, ...]) -> float:
    """Median time of the engine, alone on ``cores``, for a request of a middle size: how fast the host is just now."""
    query = min(queries, key=lambda one: abs(len(one.ids) - CONTROL_ROWS))
    prepared = [ranker.prepare(query.request, query.ids.tolist(), query.ids, query.top_k)]
    times: list[float] = []
    with pinned(cores):
        until_s = perf_counter() + CONTROL_S
        while (begin := perf_counter()) < until_s or not times:
            ranker.run(prepared)
            times.append(perf_counter() - begin)
    return 1e3 * float(np.median(times))


def _failed_rps(drive: Drive, effort: Effort, found: Found) -> float | None:
    """What would have been offered: a run that failed was ended early."""
    if found.failed is None:
        return None
    return drive.offered(found.failed.rate_rps, effort.seconds_of(drive.traffic))


def _beside(
    drive: Drive, ranker: Ranker, cores: tuple[int, ...], effort: Effort, beside: Beside, found: Found
) -> tuple[Oracle | None, Overload | None]:
    best, oracle, overload = found.best, None, None
    if best is None or not best.offered_rps or not best.goodput_rps:
        return None, None
    if beside.overload_factor is not None:
        overload = run_overload(drive, best.offered_rps, best.goodput_rps, beside.overload_factor, effort.overload_s)
    if beside.oracle:
        engine = engine_service(ranker, drive.queries[:ORACLE_QUERIES], cores)
        oracle = find_oracle(drive, engine, effort.requests, effort.seconds_of(drive.traffic))
    return oracle, overload
