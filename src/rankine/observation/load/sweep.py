"""The rate sweep: the highest offered rate at which p99 stays within the SLO and misses stay rare.

The knee of a server is a cliff, so the search doubles or halves until it has one rate that held and one that failed,
then bisects between them (in the logarithm). A trial that can no longer hold is ended at once. Where no rate held the
answer is None: a sustainable rate is never extrapolated.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

from rankine.config import Frozen
from rankine.environment import environment
from rankine.events import Emit, ignore, step
from rankine.observation.load.config import P99_QUERIES, LoadConfig, SweepConfig
from rankine.observation.load.measure import run_load
from rankine.observation.load.record import LoadResult

__all__ = ["Server", "SweepResult", "Target", "Trial", "sweep"]

# Open-loop arrivals come in bursts: a server that is driven back to back does more than it can sustain at its p99.
START_SHARE = 0.75
DRAIN_ATTEMPTS = 5


class Target(Protocol):
    """What a sweep drives: a server under load, or a function in a test."""

    def estimate(self) -> float:
        """Requests per second of a short closed loop; 0 where nothing was answered correctly."""

    def offer(self, rate_rps: float, duration_s: float) -> LoadResult:
        """One open-loop run at ``rate_rps``."""

    def drain(self) -> None:
        """Return when the target has no work left from the last trial."""


class Trial(Frozen):
    """One rate that was tried; ``why`` says what broke, or by how much it held."""

    rate_rps: float
    held: bool
    why: str
    result: LoadResult


class SweepResult(Frozen):
    """The outcome of a sweep.

    ``sustainable_rps`` is the rate that was really offered in the best trial that held, ``goodput_rps`` what of it was
    answered correctly in time; both are None where none held. ``failed_rps`` is the lowest rate that failed.
    """

    schema_version: Literal[1] = 1
    kind: Literal["sweep"] = "sweep"
    url: str
    model: str | None
    candidates: str
    seed: int
    slo_ms: float
    max_miss_share: float
    sustainable_rps: float | None
    goodput_rps: float | None
    failed_rps: float | None
    p50_ms: float | None
    p99_ms: float | None
    supports_p99: bool
    generator_bound: bool
    reason: str
    trials: tuple[Trial, ...]
    environment: dict[str, str | int | float]

    @property
    def missed_slo(self) -> str | None:
        """Why no rate was found, or None where one was."""
        return self.reason if self.sustainable_rps is None else None

    def table(self) -> list[tuple[str, str]]:
        """The record as ``(label, text)`` pairs, for whoever prints it."""
        found = [
            (f"{trial.rate_rps:.1f} rps", f"{'held' if trial.held else 'failed'}: {trial.why}") for trial in self.trials
        ]
        return [*found, ("result", self.reason)]


class Server:
    """The target that is a real server."""

    def __init__(self, config: SweepConfig) -> None:
        self._config = config

    def estimate(self) -> float:
        estimate_s, clients = self._config.estimate_s, self._config.estimate_clients
        return self._run({"clients": clients, "duration_s": estimate_s, "warmup_s": 0.5}).achieved_rps

    def offer(self, rate_rps: float, duration_s: float) -> LoadResult:
        share = self._config.max_miss_share
        return self._run({"rate_rps": rate_rps, "duration_s": duration_s, "stop_over_miss_share": share})

    def drain(self) -> None:
        # A stopped trial leaves work in the server's queue; lone requests are quick again only when that is done.
        slo_ms = self._config.load.slo_ms
        probe: dict[str, object] = {"clients": 1, "max_requests": 5, "duration_s": 2.0, "warmup_s": 0.0}
        for _ in range(DRAIN_ATTEMPTS):
            result = self._run(probe)
            if result.latency is not None and slo_ms is not None and result.latency.max_ms <= slo_ms:
                return

    def _run(self, changes: dict[str, object]) -> LoadResult:
        return run_load(LoadConfig.model_validate({**self._config.load.model_dump(), **changes}))


def sweep(config: SweepConfig, emit: Emit = ignore, *, target: Target | None = None) -> SweepResult:
    """Find the highest rate that ``target`` (default: the server at ``config.load.url``) sustains.

    Raises:
        UsageError: the server cannot be reached, or cannot be asked this.
    """
    driven = target if target is not None else Server(config)
    with step(emit, "sweep", config.max_trials, "trials") as advance:
        lowest_rps = max(config.min_rate_rps, config.least_queries / config.max_trial_s)
        rate_rps = config.start_rps or START_SHARE * driven.estimate()
        rate_rps = max(rate_rps, lowest_rps) if rate_rps else 0.0
        trials: list[Trial] = []
        held: Trial | None = None
        failed: Trial | None = None
        failures = 0
        while rate_rps >= lowest_rps and len(trials) < config.max_trials:
            if trials:
                driven.drain()
            trial = _try(driven, rate_rps, config)
            trials.append(trial)
            advance(len(trials), f"{rate_rps:.1f} rps {'held' if trial.held else 'failed'}: {trial.why}")
            failures = 0 if trial.held else failures + 1
            if 0 < failures < config.attempts:
                continue
            failures = 0
            held, failed = (trial, failed) if trial.held else (held, trial)
            following = _next_rate(held, failed, config.precision)
            if following is None:
                break
            rate_rps = following
    return _record(config, trials, held, failed)


def _try(target: Target, rate_rps: float, config: SweepConfig) -> Trial:
    wanted_s = config.min_queries * 1.1 / rate_rps  # a tenth more: the number of arrivals is random
    result = target.offer(rate_rps, min(max(wanted_s, config.min_trial_s), config.max_trial_s))
    held, why = _judge(result, config)
    # The machine is told once, in the sweep's own record.
    return Trial(rate_rps=rate_rps, held=held, why=why, result=result.model_copy(update={"environment": {}}))


def _judge(result: LoadResult, config: SweepConfig) -> tuple[bool, str]:
    slo_ms = config.load.slo_ms or 0.0
    latency = result.latency
    if latency is None:
        return False, f"no correct answer ({result.outcomes or 'nothing came back'})"
    p99 = f"p99 {latency.p99_ms:.1f} ms against {slo_ms:g} ms"
    misses = f"misses {result.miss_share:.2%} of at most {config.max_miss_share:.2%}"
    if result.stopped_early:
        return False, f"stopped early: {result.misses:,} of {result.requests:,} requests had missed"
    if result.miss_share > config.max_miss_share:
        return False, f"{misses}, {p99}"
    if latency.p99_ms > slo_ms:
        return False, p99
    if result.requests < config.least_queries:
        return False, f"{result.requests} requests are too few to say (at least {config.least_queries})"
    return True, f"{p99}, misses {result.miss_share:.2%}"


def _next_rate(held: Trial | None, failed: Trial | None, precision: float) -> float | None:
    """The next rate to try, or None where the search has converged."""
    if held is None and failed is not None:
        return failed.rate_rps / 2
    if failed is None and held is not None:
        return held.rate_rps * 2
    if held is None or failed is None or failed.rate_rps <= held.rate_rps * (1 + precision):
        return None
    return math.sqrt(held.rate_rps * failed.rate_rps)


def _record(config: SweepConfig, trials: list[Trial], held: Trial | None, failed: Trial | None) -> SweepResult:
    best = held.result if held else None
    latency = best.latency if best else None
    deciding = [trial.result for trial in (held, failed) if trial is not None]
    return SweepResult(
        url=config.load.url,
        model=config.load.model,
        candidates=config.load.candidates,
        seed=config.load.seed,
        slo_ms=config.load.slo_ms or 0.0,
        max_miss_share=config.max_miss_share,
        sustainable_rps=best.offered_rps if best else None,
        goodput_rps=best.goodput_rps if best else None,
        failed_rps=failed.rate_rps if failed else None,
        p50_ms=latency.p50_ms if latency else None,
        p99_ms=latency.p99_ms if latency else None,
        supports_p99=best.supports_p99 if best else False,
        generator_bound=any(result.generator_bound for result in deciding),
        reason=_reason(config, trials, held, failed),
        trials=tuple(trials),
        environment=environment(),
    )


def _reason(config: SweepConfig, trials: list[Trial], held: Trial | None, failed: Trial | None) -> str:
    bound = f"p99 within {config.load.slo_ms:g} ms and misses at most {config.max_miss_share:.0%}"
    if not trials:
        return f"no rate was tried: the server answered fewer than {config.min_rate_rps:g} requests per second"
    if held is None:
        return f"no rate held {bound}; the lowest tried was {min(trial.rate_rps for trial in trials):.2f} rps"
    found = f"{held.result.offered_rps:.1f} rps held {bound}"
    if failed is None:
        return f"{found}; no rate failed in {len(trials)} trials, so the limit lies higher"
    told = f"{found}; {failed.rate_rps:.1f} rps did not ({failed.why})"
    if held.result.requests < P99_QUERIES:
        told += f"; {held.result.requests} requests do not support a claim about p99"
    if failed.result.generator_bound:
        told += f"; {failed.result.generator.reason}, so the limit may lie higher"
    return told
