"""What is measured of a server beside the rate that it sustains: overload, front end, oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from rankine.environment import environment
from rankine.errors import SloNotMet, UsageError
from rankine.observation.load import LoadConfig
from rankine.observation.load.answer import Answer
from rankine.observation.load.generator import Run
from rankine.stats import percentile
from serving.drive import WARMUP_S, Drive
from serving.oracle import Service, oracle_rps
from serving.processes import cpu_s, server_process
from serving.record import Case, FrontEnd, Oracle, Overload

REFUSALS = ("429", "503", "504")


def run_overload(drive: Drive, sustained_rps: float, goodput_rps: float, factor: float, duration_s: float) -> Overload:
    """Offer ``factor`` times what the server has just sustained, for ``duration_s``."""
    drive.drain()
    config, run = drive.open(factor * sustained_rps, duration_s)
    result = drive.record(config, run)
    return Overload(
        factor=factor,
        offered_rps=result.offered_rps or 0.0,
        goodput_rps=result.goodput_rps or 0.0,
        goodput_share=(result.goodput_rps or 0.0) / goodput_rps,
        requests=result.requests,
        outcomes=result.outcomes,
        generator_bound=result.generator_bound,
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


def measure_front_end(drive: Drive, case: Case, requests: int, settings: Mapping[str, int]) -> FrontEnd:
    """One client, one request after the other.

    Raises:
        SloNotMet: nothing was answered correctly, or the server did not tell the engine's time.
    """
    drive.drain()
    result = drive.one_client(requests)
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


def find_oracle(drive: Drive, engine: Service, requests: int, probe_s: float) -> Oracle:
    """What could be sustained of the arrivals of ``drive`` with the engine's times, and with those of this server.

    Raises:
        UsageError: deadlines differ, for which the oracle has no best order.
        SloNotMet: the server answered nothing.
    """
    deadlines = {one.deadline_ms for one in drive.queries}
    if len(deadlines) > 1:
        raise UsageError("the oracle knows equal deadlines alone", where="short_share", got=sorted(deadlines))
    drive.drain()
    request_s = beside_engine_s(drive, engine, requests)
    found = [
        drive.offered(
            oracle_rps(
                drive.traffic,
                drive.queries,
                service,
                drive.slo_ms / 1e3,
                duration_s=WARMUP_S + probe_s,
                seed=drive.seed,
            ),
            probe_s,
        )
        for service in (engine, replace(engine, request_s=request_s))
    ]
    return Oracle(
        call_ms=1e3 * engine.call_s,
        row_us=1e6 * engine.row_s,
        request_ms=1e3 * request_s,
        engine_rps=found[0],
        server_rps=found[1],
    )


def beside_engine_s(drive: Drive, engine: Service, requests: int) -> float:
    """Processor seconds that the server's processes spend on a request beside the engine's, one client asking.

    Raises:
        SloNotMet: the server answered nothing.
    """
    process = server_process(drive.running.url)
    before_s = cpu_s(process)
    result = drive.one_client(requests, warmup_s=0.0)
    spent_s = (cpu_s(process) - before_s) / max(1, result.requests)
    if not result.correct:
        raise SloNotMet("no correct answer", where=drive.running.url, got=str(result.outcomes))
    return max(0.0, spent_s - engine.call_s - engine.row_s * result.rows_mean)
