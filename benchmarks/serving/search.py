"""The highest rate that a server sustains under one trace of arrivals, found in a few short probes.

From a rate nearby (that of the last round) steps go up or down, each longer than the last one, until a rate has held
and a higher one has not; then the bracket is bisected. Nothing is tried twice: a hiccup of the machine costs a round,
and what counts is the median of rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rankine.observation.load import LoadConfig, LoadResult, SweepConfig, sweep
from rankine.observation.load.sweep import START_SHARE, Target, Trial

Tell = Callable[[str], None]

STEP, FIRST_STEP, GROWTH = 1.06, 1.3, 1.25
"""The first step of a search from a rate that was sustained, and from a guess; the power that steps grow by."""
MOST_PROBES, MOST_FIRST_PROBES, MOST_WITHOUT_A_RATE = 6, 8, 14
"""Of one search, and of one in which no rate has held yet; what it leaves wide, the next round narrows."""
RIVAL_SHARE = 0.4
"""Of what the best other server sustains: there a first search begins. Far above its rate a server may be upset for
long: an adaptive batcher, say, learns from what it cannot do."""
LEAST_RPS = 4.0
"""Below it the search gives up."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        best: the run at the highest rate that held; None where none did.
        failed: the run at the lowest rate that did not; None where all held.
    """

    best: LoadResult | None
    failed: Trial | None
    trials: tuple[Trial, ...]

    @property
    def capped(self) -> bool:
        """Whether the limit may lie higher."""
        return self.failed is None or self.failed.result.generator_bound

    @property
    def reason(self) -> str:
        """In words."""
        if self.best is None:
            lowest_rps = min((one.rate_rps for one in self.trials), default=LEAST_RPS)
            return f"no rate held; the lowest tried was {lowest_rps:.1f} rps"
        held = f"{self.best.offered_rps:.1f} rps held"
        return held if self.failed is None else f"{held}; {self.failed.rate_rps:.1f} rps did not"


def find_rate(
    driven: Target,
    load: LoadConfig,
    *,
    probe_s: float,
    precision: float,
    near_rps: float | None = None,
    rival_rps: float | None = None,
    tell: Tell = lambda text: None,
) -> Found:
    """The highest rate at which ``load.slo_ms`` holds.

    Args:
        probe_s: seconds of a probe.
        near_rps: a rate that is likely to be near.
        rival_rps: what another server sustains; else the search begins at a share of it.
    """
    step, most = (FIRST_STEP, MOST_FIRST_PROBES) if near_rps is None else (STEP, MOST_PROBES)
    rate_rps = max(LEAST_RPS, near_rps or _first_rps(driven, rival_rps))
    trials: list[Trial] = []
    low: Trial | None = None
    high: Trial | None = None
    while len(trials) < (most if low is not None else MOST_WITHOUT_A_RATE):
        trial = _probe(driven, load, rate_rps, probe_s)
        trials.append(trial)
        tell(f"{rate_rps:.1f} rps {'held' if trial.held else 'failed'}: {trial.why}")
        low, high = (trial, high) if trial.held else (low, trial)
        if low is not None and high is not None:
            if high.rate_rps <= low.rate_rps * (1 + precision):
                break
            rate_rps = math.sqrt(low.rate_rps * high.rate_rps)
            continue
        if rate_rps <= LEAST_RPS:
            break
        rate_rps = max(LEAST_RPS, rate_rps * step if trial.held else rate_rps / step)
        step **= GROWTH
    return Found(low.result if low else None, high, tuple(trials))


def _first_rps(driven: Target, rival_rps: float | None) -> float:
    """Where nothing is known of a server; a closed loop of clients is asked where nothing is of others either."""
    return RIVAL_SHARE * rival_rps if rival_rps else START_SHARE * driven.estimate()


def _probe(driven: Target, load: LoadConfig, rate_rps: float, probe_s: float) -> Trial:
    """Try a rate once, drained before."""
    driven.drain()
    config = SweepConfig(
        load=load,
        start_rps=rate_rps,
        min_trial_s=probe_s,
        max_trial_s=probe_s,
        least_queries=max(1, min(100, int(LEAST_RPS * probe_s))),
        max_trials=1,
    )
    [trial] = sweep(config, target=driven).trials
    return trial
