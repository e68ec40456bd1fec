"""What is measured of a server that runs: the rate that it sustains, what it does above it, what its front end adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import psutil

from rankine.environment import environment
from rankine.errors import SloNotMet, UsageError
from rankine.observation.load import LoadConfig
from rankine.observation.load.answer import Answer
from rankine.observation.load.generator import Run
from rankine.stats import percentile
from serving.drive import Drive
from serving.oracle import Service, oracle_rps
from serving.record import Attempt, Case, FrontEnd, Goodput, Oracle, Overload
from serving.search import Effort, Tell, find_rate

REFUSALS = ("429", "503", "504")


def find_goodput(
    drive: Drive,
    case: Case,
    effort: Effort,
    settings: Mapping[str, int],
    *,
    start_rps: float | None = None,
    rival_rps: float | None = None,
    tell: Tell = lambda text: None,
) -> Goodput:
    """The rate that a server sustains, see :func:`serving.search.find_rate`."""
    load = LoadConfig(url=drive.running.url, slo_ms=drive.slo_ms, candidates=case.candidates)
    found = find_rate(drive, load, effort.of(case.traffic), start_rps=start_rps, rival_rps=rival_rps, tell=tell)
    best = found.best
    latency = best.latency if best else None
    bounds = [one.result for one in found.trials if not one.held and one.rate_rps == found.failed_rps]
    return Goodput(
        case=case,
        slo_ms=drive.slo_ms,
        sustainable_rps=best.offered_rps if best else None,
        goodput_rps=best.goodput_rps if best else None,
        failed_rps=found.failed_rps,
        p50_ms=latency.p50_ms if latency else None,
        p99_ms=latency.p99_ms if latency else None,
        requests=best.requests if best else 0,
        supports_p99=best.supports_p99 if best else False,
        confirmed=found.confirmed,
        capped=found.failed_rps is None or any(one.generator_bound for one in bounds),
        reason=found.reason,
        attempts=tuple(Attempt(rate_rps=one.rate_rps, held=one.held, why=one.why) for one in found.trials),
        settings=settings,
        created=datetime.now(UTC),
        environment=environment(),
    )


def run_overload(
    drive: Drive, case: Case, peak: Goodput, factor: float, duration_s: float, settings: Mapping[str, int]
) -> Overload:
    """Offer ``factor`` times what the server sustained, for ``duration_s``.

    Raises:
        SloNotMet: it sustained nothing.
    """
    if peak.sustainable_rps is None or peak.goodput_rps is None:
        raise SloNotMet("no rate held, so there is none to go beyond", where=case.server)
    drive.drain()
    config, run = drive.open(factor * peak.sustainable_rps, duration_s)
    result = drive.record(config, run)
    return Overload(
        case=case,
        factor=factor,
        sustainable_rps=peak.sustainable_rps,
        offered_rps=result.offered_rps or 0.0,
        goodput_rps=result.goodput_rps or 0.0,
        goodput_share=(result.goodput_rps or 0.0) / peak.goodput_rps,
        requests=result.requests,
        outcomes=result.outcomes,
        generator_bound=result.generator_bound,
        settings=settings,
        created=datetime.now(UTC),
        environment=environment(),
        **_refusals(config, run),
    )


def _refusals(config: LoadConfig, run: Run) -> dict[str, float | int | None]:
    measured = [answer for answer in run.answers if answer.due_s >= config.warmup_s]
    refused = [answer for answer in measured if answer.outcome in REFUSALS]
    admitted = run.requests - len(refused)
    in_time = sum(_is_good(answer, config) for answer in measured)
    latencies = np.array([answer.latency_ms for answer in refused])
    return {
        "refused": len(refused),
        "refusal_p99_ms": percentile(latencies, 99) if len(refused) else None,
        "admitted_in_time_share": in_time / admitted if admitted else None,
    }


def _is_good(answer: Answer, config: LoadConfig) -> bool:
    return answer.correct and answer.latency_ms <= (config.bound_ms or np.inf)


def measure_front_end(drive: Drive, case: Case, effort: Effort, settings: Mapping[str, int]) -> FrontEnd:
    """One client, one request after the other.

    Raises:
        SloNotMet: nothing was answered correctly, or the server did not tell the engine's time.
    """
    drive.drain()
    result = drive.one_client(effort.requests)
    if result.latency is None or result.server is None:
        raise SloNotMet("no correct answer with the engine's time in it", where=case.server, got=str(result.outcomes))
    return FrontEnd(
        case=case,
        requests=result.requests,
        client_p50_ms=result.latency.p50_ms,
        client_p99_ms=result.latency.p99_ms,
        run_p50_ms=result.server.run_p50_ms,
        added_ms=result.latency.p50_ms - result.server.run_p50_ms,
        settings=settings,
        created=datetime.now(UTC),
        environment=environment(),
    )


def find_oracle(drive: Drive, case: Case, engine: Service, effort: Effort, settings: Mapping[str, int]) -> Oracle:
    """What could be sustained with the engine's times, and with those of this server.

    Raises:
        UsageError: deadlines differ, for which the oracle has no best order.
        SloNotMet: the server answered nothing.
    """
    if case.short_share:
        raise UsageError("the oracle knows equal deadlines alone", where="short_share", got=case.short_share)
    drive.drain()
    request_s = beside_engine_s(drive, case, engine, effort)
    found = [
        oracle_rps(
            drive.traffic,
            drive.queries,
            service,
            drive.slo_ms / 1e3,
            duration_s=effort.confirm_s,
            seed=drive.seed,
        )
        for service in (engine, replace(engine, request_s=request_s))
    ]
    return Oracle(
        case=case,
        call_ms=1e3 * engine.call_s,
        row_us=1e6 * engine.row_s,
        request_ms=1e3 * request_s,
        engine_rps=found[0],
        server_rps=found[1],
        settings=settings,
        created=datetime.now(UTC),
        environment=environment(),
    )


def beside_engine_s(drive: Drive, case: Case, engine: Service, effort: Effort) -> float:
    """Processor seconds that the server's processes spend on a request beside the engine's, one client asking.

    Raises:
        SloNotMet: the server answered nothing.
    """
    before_s = _children_cpu_s()
    result = drive.one_client(effort.requests, warmup_s=0.0)
    cpu_s = (_children_cpu_s() - before_s) / max(1, result.requests)
    if not result.correct:
        raise SloNotMet("no correct answer", where=case.server, got=str(result.outcomes))
    return max(0.0, cpu_s - engine.call_s - engine.row_s * result.rows_mean)


def _children_cpu_s() -> float:
    """Processor time of the processes that this one has started, and theirs."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(one.user + one.system for one in times)
