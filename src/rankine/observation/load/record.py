"""The record of one load run: what was offered, what came back, how long it took, and whether to believe it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rankine.config import Frozen
from rankine.observation.load.answer import Answer
from rankine.observation.load.config import MAX_MISS_SHARE, P99_QUERIES, LoadConfig
from rankine.observation.load.generator import Run
from rankine.stats import percentile

__all__ = ["GeneratorHealth", "Latency", "LoadResult", "ServerTimings", "cdf_points", "judge_generator", "summarize"]

LATE_SEND_MS = 1.0
BUSY_CPU_SHARE = 0.85
CDF_POINTS = 400


class Latency(Frozen):
    """Latencies of the correct answers, from the time at which each request was due (nearest-rank percentiles)."""

    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    mean_ms: float
    max_ms: float


class ServerTimings(Frozen):
    """The server's own account of the same requests, where it was asked for; ``run`` is the engine's call."""

    requests: int
    run_p50_ms: float
    run_p99_ms: float
    queue_p50_ms: float
    queue_p99_ms: float
    prepare_p50_ms: float
    batch_rows_mean: float
    batch_requests_mean: float


class GeneratorHealth(Frozen):
    """How well the generator did its own work; ``bound`` says that it, not the server, may have set the figures."""

    send_lag_p50_ms: float
    send_lag_p99_ms: float
    late_sends: int
    cpu_share: float
    bound: bool
    reason: str


class LoadResult(Frozen):
    """One load run.

    ``requests`` are those sent in the measured window. A *miss* is one that was refused, failed, answered wrongly,
    later than ``bound_ms``, or not at all (``unfinished``: given up when a run was stopped early). ``latency`` is None
    where nothing was answered correctly; ``goodput_rps`` (correct and within the bound) where no bound was given.
    ``cdf`` holds at most 400 points ``(latency_ms, share of the correct answers that are as fast)``.
    """

    schema_version: Literal[1] = 1
    kind: Literal["load"] = "load"
    url: str
    model: str | None
    mode: Literal["open", "closed"]
    arrivals: str | None
    clients: int | None
    candidates: str
    rows_mean: float
    seed: int
    warmup_s: float
    window_s: float
    deadline_ms: float | None
    slo_ms: float | None
    bound_ms: float | None
    requests: int
    correct: int
    wrong: int
    unfinished: int
    misses: int
    miss_share: float
    outcomes: dict[str, int]
    offered_rps: float | None
    achieved_rps: float
    goodput_rps: float | None
    rows_per_s: float
    latency: Latency | None
    supports_p99: bool
    cdf: tuple[tuple[float, float], ...] = Field(max_length=CDF_POINTS)
    server: ServerTimings | None
    generator: GeneratorHealth
    stopped_early: bool
    environment: dict[str, str | int | float]

    @property
    def generator_bound(self) -> bool:
        """Whether the generator was the bottleneck: then this is no record of the server."""
        return self.generator.bound

    @property
    def missed_slo(self) -> str | None:
        """Why ``slo_ms`` was not met, or None where it was, or where none was given."""
        if self.slo_ms is None:
            return None
        if self.latency is None:
            return "nothing was answered correctly"
        if self.latency.p99_ms > self.slo_ms:
            return f"p99 was {self.latency.p99_ms:.2f} ms"
        missed = f"{self.miss_share:.2%} of the requests missed"
        return missed if self.miss_share > MAX_MISS_SHARE else None

    def table(self) -> list[tuple[str, str]]:
        """The record as ``(label, text)`` pairs, for whoever prints it."""
        offered = f"{self.offered_rps:.1f} rps" if self.offered_rps is not None else "1 client, closed loop"
        if self.offered_rps is None and self.clients != 1:
            offered = f"{self.clients} clients, closed loop"
        found = [
            ("offered", f"{offered}, candidates {self.candidates} (mean {self.rows_mean:.0f})"),
            ("requests", f"{self.requests:,} in {self.window_s:.1f} s ({_outcomes(self)})"),
            ("achieved", f"{self.achieved_rps:.1f} rps, {self.rows_per_s:,.0f} rows/s"),
        ]
        if self.goodput_rps is not None:
            found.append(("goodput", f"{self.goodput_rps:.1f} rps within {self.bound_ms:g} ms"))
        found.append(("misses", f"{self.misses:,} ({self.miss_share:.2%})"))
        if self.latency is not None:
            shown = self.latency
            quick = f"p50 {shown.p50_ms:.2f}, p90 {shown.p90_ms:.2f}, p95 {shown.p95_ms:.2f} ms"
            tail = f"p99 {shown.p99_ms:.2f}, p99.9 {shown.p99_9_ms:.2f}, max {shown.max_ms:.2f} ms"
            found.append(("latency", f"{quick}; {tail}"))
        if self.server is not None:
            run, queue = self.server.run_p50_ms, self.server.queue_p50_ms
            found.append(("server", f"engine p50 {run:.2f} ms, queue p50 {queue:.2f} ms"))
            if self.latency is not None:
                found.append(("overhead", f"{self.latency.p50_ms - run:.2f} ms: client p50 less engine p50"))
        if not self.supports_p99:
            found.append(("caution", f"fewer than {P99_QUERIES} requests do not support a claim about p99"))
        found.append(("generator", self.generator.reason))
        return found


def summarize(config: LoadConfig, run: Run, environment: dict[str, str | int | float]) -> LoadResult:
    """The record of ``run``: warm-up left out, misses counted, percentiles taken."""
    measured = [answer for answer in run.answers if answer.due_s >= config.warmup_s]
    correct = [answer for answer in measured if answer.correct]
    latencies = np.array([answer.latency_ms for answer in correct], dtype=np.float64)
    is_open, bound_ms = config.rate_rps is not None, config.bound_ms
    in_time = len(correct) if bound_ms is None else int((latencies <= bound_ms).sum())
    # Answers of an open loop may come after its window: a rate over the window alone would flatter an overload.
    last_s = max((answer.done_s for answer in correct), default=0.0) - config.warmup_s
    span_s = max(run.window_s, last_s)
    return LoadResult(
        url=config.url,
        model=config.model,
        mode="open" if is_open else "closed",
        arrivals=config.arrivals if is_open else None,
        clients=None if is_open else config.clients,
        candidates=config.candidates if config.requests_file is None else config.requests_file.name,
        rows_mean=float(np.mean([answer.rows for answer in measured])) if measured else 0.0,
        seed=config.seed,
        warmup_s=config.warmup_s,
        window_s=run.window_s,
        deadline_ms=config.deadline_ms,
        slo_ms=config.slo_ms,
        bound_ms=bound_ms,
        requests=run.requests,
        correct=len(correct),
        wrong=sum(answer.outcome == "200" and not answer.correct for answer in measured),
        unfinished=run.requests - len(measured),
        misses=run.requests - in_time,
        miss_share=(run.requests - in_time) / run.requests if run.requests else 0.0,
        outcomes=dict(sorted(Counter(answer.outcome for answer in measured).items())),
        offered_rps=run.requests / run.window_s if is_open else None,
        achieved_rps=len(correct) / span_s,
        goodput_rps=None if bound_ms is None else in_time / run.window_s,
        rows_per_s=sum(answer.rows for answer in correct) / span_s,
        latency=_latency(latencies),
        supports_p99=run.requests >= P99_QUERIES and not run.stopped,
        cdf=cdf_points(latencies),
        server=_server_timings(correct),
        generator=_generator_health(measured, latencies, run.cpu_share),
        stopped_early=run.stopped,
        environment=environment,
    )


def cdf_points(latencies_ms: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """The empirical distribution at no more than 400 ranks: three quarters evenly, the rest above the 98th percent."""
    count = len(latencies_ms)
    ordered = np.sort(latencies_ms)
    if count <= CDF_POINTS:
        ranks = np.arange(count)
    else:
        body, tail = np.linspace(0, 0.98, CDF_POINTS * 3 // 4), np.linspace(0.98, 1, CDF_POINTS // 4)
        ranks = np.unique(np.rint(np.concatenate([body, tail]) * (count - 1)).astype(np.int64))
    return tuple((round(float(ordered[rank]), 4), round((int(rank) + 1) / count, 6)) for rank in ranks)


def judge_generator(send_lag_p99_ms: float, cpu_share: float, latency_p99_ms: float | None) -> tuple[bool, str]:
    """Whether the generator may have set the figures itself, and one sentence that says why.

    It did if its process was busy nearly all the time, or if it sent so late that its own lag, which is part of every
    latency, is a tenth of the p99 that was measured.
    """
    if cpu_share >= BUSY_CPU_SHARE:
        return True, f"the generator was the bottleneck: its process was busy {cpu_share:.0%} of the time"
    allowed_ms = max(LATE_SEND_MS, 0.1 * (latency_p99_ms or 0.0))
    shown = f"{send_lag_p99_ms:.2f} ms behind schedule at p99"
    if send_lag_p99_ms > allowed_ms:
        return True, f"the generator was the bottleneck: it sent {shown}, where {allowed_ms:.2f} ms is tolerable"
    return False, f"not the bottleneck: it sent {shown}, busy {cpu_share:.0%} of the time"


def _latency(latencies_ms: NDArray[np.float64]) -> Latency | None:
    if not len(latencies_ms):
        return None
    p50, p90, p95, p99, p99_9 = (percentile(latencies_ms, percent) for percent in (50, 90, 95, 99, 99.9))
    mean, largest = float(latencies_ms.mean()), float(latencies_ms.max())
    return Latency(p50_ms=p50, p90_ms=p90, p95_ms=p95, p99_ms=p99, p99_9_ms=p99_9, mean_ms=mean, max_ms=largest)


def _server_timings(answers: Sequence[Answer]) -> ServerTimings | None:
    told = [answer.timings for answer in answers if answer.timings is not None]
    if not told:
        return None
    run, queue = [timings.run_ms for timings in told], [timings.queue_ms for timings in told]
    return ServerTimings(
        requests=len(told),
        run_p50_ms=percentile(run, 50),
        run_p99_ms=percentile(run, 99),
        queue_p50_ms=percentile(queue, 50),
        queue_p99_ms=percentile(queue, 99),
        prepare_p50_ms=percentile([timings.prepare_ms for timings in told], 50),
        batch_rows_mean=float(np.mean([timings.batch_rows for timings in told])),
        batch_requests_mean=float(np.mean([timings.batch_requests for timings in told])),
    )


def _generator_health(
    measured: Sequence[Answer], latencies_ms: NDArray[np.float64], cpu_share: float
) -> GeneratorHealth:
    lags_ms = np.array([(answer.sent_s - answer.due_s) * 1e3 for answer in measured] or [0.0])
    p99_ms = percentile(lags_ms, 99)
    bound, reason = judge_generator(p99_ms, cpu_share, percentile(latencies_ms, 99) if len(latencies_ms) else None)
    return GeneratorHealth(
        send_lag_p50_ms=percentile(lags_ms, 50),
        send_lag_p99_ms=p99_ms,
        late_sends=int((lags_ms > LATE_SEND_MS).sum()),
        cpu_share=cpu_share,
        bound=bound,
        reason=reason,
    )


_IN_WORDS = {"unreachable": "connection refused", "disconnected": "cut while waiting"}


def _outcomes(result: LoadResult) -> str:
    told = [f"{count:,} × {_IN_WORDS.get(outcome, outcome)}" for outcome, count in result.outcomes.items()]
    told += [f"{result.wrong:,} of them wrong"] if result.wrong else []
    told += [f"{result.unfinished:,} given up"] if result.unfinished else []
    return ", ".join(told) or "none answered"
