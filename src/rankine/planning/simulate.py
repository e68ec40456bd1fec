"""What a server will do under a load, before there is one: the scheduler itself in simulated time.

``simulate`` plays one trace; ``sustainable_rate`` looks for the highest rate at which the service level objective
holds. Both take seconds where a load test takes minutes, and their policies are those of the server.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from rankine.config import Frozen
from rankine.errors import SloNotMet, UsageError
from rankine.planning.simulate_oracle import OracleServer
from rankine.planning.simulate_server import SimulatedServer
from rankine.planning.simulate_setup import Outcomes, Setup
from rankine.planning.simulate_traffic import MOST_REQUESTS, Traffic, draw_trace
from rankine.stats import percentile

__all__ = ["Simulated", "Slo", "simulate", "summarize", "sustainable_rate"]


class Slo(Frozen):
    """The bound on the 99th percentile of answers, and on the share of requests that miss."""

    p99_ms: float = Field(50.0, gt=0)
    most_missed: float = Field(0.01, ge=0, le=1)


class Simulated(Frozen):
    """One simulated run.

    Attributes:
        offered_rps, goodput_rps: requests per second that came, and that were answered within their deadline.
        missed: share of the requests that were refused, expired or late.
        refused, expired, late: shares of the requests: 429 and 503; 504; answered after their deadline.
        admitted_on_time: share of the admitted ones that were answered within their deadline.
        p50_ms, p99_ms: from arrival to answer; None where nothing was answered.
        utilization: share of the time in which a worker runs.
        quality_debt: certified upper bound of the quality given up, averaged over answers.
        rungs: share of the answers by rung, the best first.
        reasons: how often each decision was taken.
    """

    offered_rps: float
    goodput_rps: float
    missed: float
    refused: float
    expired: float
    late: float
    admitted_on_time: float
    p50_ms: float | None
    p99_ms: float | None
    utilization: float
    rows_per_batch: float
    quality_debt: float
    rungs: tuple[float, ...]
    reasons: Mapping[str, int]
    requests: int

    def meets(self, slo: Slo) -> bool:
        """Whether the objective holds."""
        return self.missed <= slo.most_missed and self.p99_ms is not None and self.p99_ms <= slo.p99_ms


def simulate(traffic: Traffic, setup: Setup, *, oracle: bool = False) -> Simulated:
    """Play ``traffic`` against a server.

    Args:
        oracle: instead of the server, a scheduler that knows the service times.

    Raises:
        UsageError: the traffic has no request, or the ladder has no rung within its floor.
    """
    trace = draw_trace(traffic)
    if not len(trace):
        raise UsageError(
            "no request came within the duration", where="duration_s", got=traffic.duration_s, hint="Make it longer."
        )
    return summarize((OracleServer if oracle else SimulatedServer)(trace, setup).run())


def summarize(outcomes: Outcomes) -> Simulated:
    """The figures of a run."""
    count, status = len(outcomes.trace), outcomes.status
    on_time, answered = outcomes.on_time, outcomes.answered
    latency_ms = 1000 * outcomes.latency_s[answered]
    refused = int(np.isin(status, (429, 503)).sum())
    shares = np.bincount(outcomes.rung[answered]) / max(1, int(answered.sum()))
    return Simulated(
        offered_rps=count / outcomes.trace.duration_s,
        goodput_rps=float(on_time.sum()) / outcomes.trace.duration_s,
        missed=1 - float(on_time.mean()),
        refused=refused / count,
        expired=float((status == 504).mean()),
        late=float((answered & ~on_time).mean()),
        admitted_on_time=float(on_time.sum()) / max(1, count - refused),
        p50_ms=percentile(latency_ms, 50) if len(latency_ms) else None,
        p99_ms=percentile(latency_ms, 99) if len(latency_ms) else None,
        utilization=outcomes.busy_s / outcomes.end_s,
        rows_per_batch=outcomes.batch_rows / max(1, outcomes.batches),
        quality_debt=outcomes.debt,
        rungs=tuple(float(share) for share in shares),
        reasons=outcomes.reasons,
        requests=count,
    )


def sustainable_rate(
    traffic: Traffic, setup: Setup, slo: Slo, *, oracle: bool = False, precision: float = 0.01
) -> tuple[float, Simulated]:
    """The highest rate at which the objective holds, by bisection, and the run at that rate.

    Args:
        traffic: of any rate; that it has is tried first.
        precision: relative width at which the search ends.

    Raises:
        SloNotMet: the objective does not hold at any rate: one request alone takes too long.
        UsageError: it holds at all rates that can be played for so long.
    """

    def run(rate_rps: float) -> Simulated:
        return simulate(traffic.model_copy(update={"rate_rps": rate_rps}), setup, oracle=oracle)

    low, high, best = 0.0, traffic.rate_rps, None
    while (found := run(high)).meets(slo):
        low, high, best = high, 2 * high, found
        if high * traffic.duration_s > MOST_REQUESTS:
            raise UsageError(
                f"the objective holds at {low:g} requests/s, and more cannot be played for so long",
                where="duration_s",
                got=f"{traffic.duration_s:g} s",
                allowed=f"at most {MOST_REQUESTS:,} requests in all",
                hint="Make it shorter.",
            )
    while high - low > precision * high:
        middle = (low + high) / 2
        if middle * traffic.duration_s < 100:  # too few requests to speak of one in a hundred
            break
        found = run(middle)
        low, high, best = (middle, high, found) if found.meets(slo) else (low, middle, best)
    if best is None:
        raise SloNotMet(
            "no offered rate met the objective",
            where=f"{traffic.arrivals} traffic",
            got=f"missed {found.missed:.1%} at {found.offered_rps:.1f} requests/s",
            allowed=f"p99 <= {slo.p99_ms:g} ms, missed <= {slo.most_missed:.1%}",
        )
    return low, best
