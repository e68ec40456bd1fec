"""The highest rate that a server sustains, found in about a minute of a quiet machine.

Short probes climb (or descend) a geometric ladder to where a rate held and the next one did not; longer probes bisect
between them; the rate counts once a run with other arrivals has held too, or two in three did. Of a server that is out
of reach of a comparison anyway, the last steps of the bisection are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

from rankine.observation.load import LoadConfig, LoadResult, SweepConfig, sweep
from rankine.observation.load.sweep import START_SHARE, Target, Trial

Tell = Callable[[str], None]

CLIMB = 1.3
STEP_DOWN, STEPS_DOWN = 0.96, 6
"""Where a rate does not hold again, each step down is longer than the last one."""
MOST_PROBES = 40
LEAST_RPS = 4.0
"""A rate at which nothing can be said of one in a hundred within a probe; below it the search gives up."""
COARSE = 0.12


@dataclass(frozen=True)
class Effort:
    """How long and how exactly is measured, in seconds where nothing else is said.

    Attributes:
        climb_s, probe_s, confirm_s: probes on the ladder, of the bisection, and the runs that confirm.
        day_s: all probes of a compressed day, which is another day where it is shorter.
        precision: the search ends where the rate that failed is within this factor of the one that held.
        overload_s, brief_s: runs above the sustainable rate, of Rankine and of others.
        requests: of the one client.
    """

    climb_s: float = 3.0
    probe_s: float = 10.0
    confirm_s: float = 20.0
    day_s: float = 20.0
    precision: float = 0.04
    overload_s: float = 15.0
    brief_s: float = 6.0
    requests: int = 1000

    def of(self, traffic: str) -> Self:
        """As it is with a kind of traffic."""
        if traffic != "day":
            return self
        return replace(self, climb_s=self.day_s, probe_s=self.day_s, confirm_s=self.day_s)


QUICK = Effort(
    climb_s=2.0, probe_s=3.0, confirm_s=4.0, day_s=4.0, precision=0.15, overload_s=4.0, brief_s=3.0, requests=200
)


class Driven(Target, Protocol):
    """A server under load, whose arrivals can be drawn anew."""

    @property
    def seed(self) -> int:
        """Of arrivals and of the order of queries."""

    def reseeded(self, seed: int) -> Driven:
        """The same server under other arrivals."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        best: the longest run that held at the rate that counts; None where no rate did.
        failed_rps: the lowest rate that failed.
        confirmed: how often the rate held, and how often it was tried, each time with other arrivals.
    """

    best: LoadResult | None
    failed_rps: float | None
    confirmed: tuple[int, int]
    trials: tuple[Trial, ...]

    @property
    def reason(self) -> str:
        """In words."""
        if self.best is None:
            return f"no rate held; the lowest tried was {min(one.rate_rps for one in self.trials):.1f} rps"
        found = f"{self.best.offered_rps:.1f} rps held {self.confirmed[0]} of {self.confirmed[1]} times"
        return found if self.failed_rps is None else f"{found}; {self.failed_rps:.1f} rps did not"


@dataclass
class _Search:
    driven: Driven
    load: LoadConfig
    effort: Effort
    tell: Tell
    trials: list[Trial] = field(default_factory=list)
    low: Trial | None = None
    high: Trial | None = None

    def probe(self, rate_rps: float, seconds: float, seed: int = 0) -> Trial:
        """Try a rate for so long, drained before."""
        if self.trials:
            self.driven.drain()
        config = SweepConfig(
            load=self.load,
            start_rps=rate_rps,
            min_trial_s=seconds,
            max_trial_s=seconds,
            least_queries=max(1, min(100, int(LEAST_RPS * seconds))),
            max_trials=1,
        )
        target = self.driven if not seed else self.driven.reseeded(self.driven.seed + seed)
        [trial] = sweep(config, target=target).trials
        self.trials.append(trial)
        self.tell(f"{seconds:g} s of {rate_rps:.1f} rps {'held' if trial.held else 'failed'}: {trial.why}")
        return trial

    def keep(self, trial: Trial) -> None:
        """One end of the bracket moves."""
        self.low, self.high = (trial, self.high) if trial.held else (self.low, trial)

    def climb(self, rate_rps: float) -> None:
        """Until one rate has held and a higher one has not; or there is no lower one to try."""
        while rate_rps >= LEAST_RPS and len(self.trials) < MOST_PROBES:
            trial = self.probe(rate_rps, self.effort.climb_s)
            self.keep(trial)
            if self.low is not None and self.high is not None:
                return
            # The first guess may be far too high: a server that is much slower is not approached step by step.
            rate_rps = rate_rps * CLIMB if trial.held else rate_rps / CLIMB ** (1 if len(self.trials) < 3 else 2)

    def bisect(self, precision: Callable[[float], float]) -> None:
        """Narrow the bracket; the rate that failed is tried again at the end: a machine may have had a hiccup."""
        while self.low is not None and self.high is not None and len(self.trials) < MOST_PROBES:
            low_rps, high_rps = self.low.rate_rps, self.high.rate_rps
            if high_rps > low_rps * (1 + precision(high_rps)):
                self.keep(self.probe(math.sqrt(low_rps * high_rps), self.effort.probe_s))
                continue
            again = self.probe(high_rps, self.effort.probe_s, seed=1)
            if not again.held:
                return
            self.low, self.high = again, None
            self.climb(high_rps * (1 + 2 * precision(high_rps)))

    def confirm(self) -> tuple[LoadResult | None, tuple[int, int]]:
        """The longest run at the highest rate that held twice in at most three, each time with other arrivals."""
        if self.low is None:
            return None, (0, 0)
        rate_rps, results = self.low.rate_rps, [self.low]
        for number in range(1, STEPS_DOWN + 1):
            while _held(results) < 2 and len(results) - _held(results) < 2:
                results.append(self.probe(rate_rps, self.effort.confirm_s, seed=1 + len(results)))
            if _held(results) >= 2:
                longest = max((one.result for one in results if one.held), key=lambda one: one.requests)
                return longest, (_held(results), len(results))
            rate_rps, results = STEP_DOWN**number * rate_rps, []
        return None, (0, 0)


def find_rate(
    driven: Driven,
    load: LoadConfig,
    effort: Effort,
    *,
    start_rps: float | None = None,
    rival_rps: float | None = None,
    tell: Tell = lambda text: None,
) -> Found:
    """The highest rate at which ``load.slo_ms`` holds.

    Args:
        start_rps: where the ladder begins; None asks a closed loop of clients.
        rival_rps: what another server sustained. Where this one cannot reach a third of it, it is measured to
            ``COARSE``, since no comparison hangs on the rest.
    """
    search = _Search(driven, load, effort, tell)

    def precision(high_rps: float) -> float:
        far = rival_rps is not None and high_rps < rival_rps / 3
        return max(COARSE, effort.precision) if far else effort.precision

    search.climb(max(LEAST_RPS, start_rps or START_SHARE * driven.estimate()))
    search.bisect(precision)
    best, confirmed = search.confirm()
    failed = [one.rate_rps for one in search.trials if not one.held and (best is None or one.rate_rps > _rate(best))]
    return Found(best, min(failed, default=None), confirmed, tuple(search.trials))


def _held(trials: list[Trial]) -> int:
    return sum(one.held for one in trials)


def _rate(result: LoadResult) -> float:
    return result.offered_rps or 0.0
