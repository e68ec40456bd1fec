"""When requests are due: arrivals whose intensity changes, as a Poisson process in changed time.

An intensity is piecewise constant with mean 1 over a run; a rate multiplies it. Arrivals of a unit Poisson process are
mapped through the inverse of its integral (Cinlar 1975), so that the same seed gives the same trace at every rate, only
denser: neighboring rates of a search see the same bursts at the same times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rankine.errors import UsageError, did_you_mean

Kind = Literal["exponential", "bursts", "day"]
Floats = NDArray[np.float64]

BURST_FACTOR, BURST_SHARE, BURST_MEAN_S = 5.0, 0.1, 0.1
"""Bursts: a two-state Markov process; in a tenth of the time the intensity is five times that of the rest."""
DAY_SWING, FLASH_FACTOR, FLASH_START, FLASH_SHARE, DAY_STEPS = 0.5, 3.0, 0.7, 0.04, 250
"""A day: a sine from night to evening, and for a twenty-fifth of it a flash crowd at three times that."""


@dataclass(frozen=True)
class Intensity:
    """``levels (n,)``, mean 1 over the run, between ``edges_s (n + 1,)``, which begin at 0."""

    edges_s: Floats
    levels: Floats

    @property
    def integral_s(self) -> Floats:
        """From 0 to each edge, ``(n + 1,)``; the last is the length of the run."""
        return np.concatenate([[0.0], np.cumsum(self.levels * np.diff(self.edges_s))])


def intensity(kind: Kind, duration_s: float, *, seed: int) -> Intensity:
    """The intensity of ``kind`` over a run.

    Raises:
        UsageError: no such kind of traffic, or the duration is not positive.
    """
    if not (duration_s > 0 and np.isfinite(duration_s)):
        raise UsageError("must be positive and finite", where="duration_s", got=duration_s)
    match kind:
        case "exponential":
            edges_s, levels = np.array([0.0, duration_s]), np.ones(1)
        case "bursts":
            edges_s, levels = _bursts(duration_s, np.random.default_rng([seed, 1]))
        case "day":
            edges_s, levels = _day(duration_s)
        case _:
            raise UsageError("no such traffic", where="traffic", got=kind, hint=did_you_mean(kind, get_args(Kind)))
    # The mean of this very run, not of the process: a rate is what is really offered.
    mean = float((levels * np.diff(edges_s)).sum()) / duration_s
    return Intensity(edges_s, levels / mean)


def due_times(rate_rps: float, shape: Intensity, *, seed: int) -> Floats:
    """Times at which requests are due, seconds from the start, increasing; ``rate_rps`` is their mean rate.

    Raises:
        UsageError: the rate is not positive.
    """
    if not (rate_rps > 0 and np.isfinite(rate_rps)):
        raise UsageError("must be positive and finite", where="rate_rps", got=rate_rps)
    integral_s = shape.integral_s
    expected = rate_rps * integral_s[-1]
    generator = np.random.default_rng([seed, 2])
    unit = np.zeros(0)
    while not len(unit) or unit[-1] < expected:
        # One gap after the other from one stream, so that a higher rate only continues what a lower one began with.
        more = np.cumsum(generator.exponential(1.0, 1024))
        unit = np.concatenate([unit, more + (unit[-1] if len(unit) else 0.0)])
    due_s: Floats = np.interp(unit[unit < expected] / rate_rps, integral_s, shape.edges_s)
    return due_s


def _bursts(duration_s: float, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Calm and burst in turn, each for an exponential time, beginning with calm."""
    calm_mean_s = BURST_MEAN_S * (1 - BURST_SHARE) / BURST_SHARE
    edges_s, levels = [0.0], list[float]()
    while edges_s[-1] < duration_s:
        bursting = len(levels) % 2 == 1
        levels.append(BURST_FACTOR if bursting else 1.0)
        edges_s.append(edges_s[-1] + generator.exponential(BURST_MEAN_S if bursting else calm_mean_s))
    edges_s[-1] = duration_s
    return np.array(edges_s), np.array(levels)


def _day(duration_s: float) -> tuple[Floats, Floats]:
    shares = (np.arange(DAY_STEPS) + 0.5) / DAY_STEPS
    levels = 1 - DAY_SWING * np.cos(2 * np.pi * shares)
    flash = (shares >= FLASH_START) & (shares < FLASH_START + FLASH_SHARE)
    return np.linspace(0.0, duration_s, DAY_STEPS + 1), np.where(flash, FLASH_FACTOR * levels, levels)
