"""Traffic for the simulator: when requests come, with how many candidates, and how soon they must be answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from rankine.config import Frozen

__all__ = ["MLPERF_CANDIDATES", "MOST_REQUESTS", "Trace", "Traffic", "draw_trace"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_Rate = Callable[[Floats], Floats]

MLPERF_CANDIDATES = (100, 100, *(200,) * 12, 300, 300, 400, 500, 600, 700)
"""Candidates of a request in MLPerf's DLRM-v2 reference (``dist_quantile.txt``): twenty equally likely draws."""
MOST_REQUESTS = 1_000_000
"""In one trace: they are all held in memory, and the scheduler decides on some 20,000 a second."""
_BURST, _BURST_SHARE = 5.0, 0.1
_DAY_SWING, _FLASH, _FLASH_FROM, _FLASH_TO = 0.6, 3.0, 0.70, 0.75


class Traffic(Frozen):
    """What is offered.

    Attributes:
        rate_rps: mean requests per second.
        arrivals: ``exponential`` gaps; ``bursts``, a Markov process of two states, a tenth of the time at five times
            the rate of the rest, ``burst_s`` seconds on average; ``day``, a day's curve within the duration with a
            flash crowd at three times its rate.
        candidates: ``mlperf``; ``lognormal``, with median 150 and a tenth above 500; or their number.
        deadline_ms: of a request; ``short_share`` of them have ``short_deadline_ms``.
        tenants: shares of the requests by tenant; one without a name if empty.
    """

    rate_rps: float = Field(gt=0, allow_inf_nan=False)
    duration_s: float = Field(60.0, gt=0, allow_inf_nan=False)
    seed: int = 0
    arrivals: Literal["exponential", "bursts", "day"] = "exponential"
    burst_s: float = Field(1.0, gt=0)
    candidates: Literal["mlperf", "lognormal"] | int = "mlperf"
    deadline_ms: float = Field(50.0, gt=0, allow_inf_nan=False)
    short_deadline_ms: float = Field(30.0, gt=0, allow_inf_nan=False)
    short_share: float = Field(0.0, ge=0, le=1)
    tenants: Mapping[str, float] = {}

    @model_validator(mode="after")
    def _can_be_played(self) -> Self:
        if self.rate_rps * self.duration_s > MOST_REQUESTS:
            expected = f"{self.rate_rps:g} requests/s for {self.duration_s:g} s"
            raise ValueError(f"{expected} are over {MOST_REQUESTS:,} requests: lower `rate_rps` or `duration_s`")
        return self


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their arrival, all arrays of shape ``(requests,)``.

    Attributes:
        arrived_s: not decreasing, from 0.
        rows: candidates.
        budget_s: from arrival to deadline; infinity where there is none.
        tenant: place in ``tenants``.
        duration_s: of the time in which requests came.
    """

    arrived_s: Floats
    rows: Ints
    budget_s: Floats
    tenant: Ints
    tenants: tuple[str, ...]
    duration_s: float

    def __len__(self) -> int:
        return len(self.arrived_s)


def draw_trace(traffic: Traffic) -> Trace:
    """Draw requests; the same traffic gives the same trace."""
    random = np.random.default_rng(traffic.seed)
    arrived_s = _ARRIVALS[traffic.arrivals](traffic, random)
    count = len(arrived_s)
    short = random.random(count) < traffic.short_share
    budget_s = np.where(short, traffic.short_deadline_ms, traffic.deadline_ms) / 1000
    names = tuple(traffic.tenants) or ("",)
    shares = np.array([traffic.tenants[name] for name in traffic.tenants] or [1.0])
    tenant = random.choice(len(names), count, p=shares / shares.sum())
    return Trace(arrived_s, _rows(traffic, count, random), budget_s, tenant, names, traffic.duration_s)


def _rows(traffic: Traffic, count: int, random: np.random.Generator) -> Ints:
    if traffic.candidates == "mlperf":
        return random.choice(np.array(MLPERF_CANDIDATES, dtype=np.int64), count)
    if traffic.candidates == "lognormal":
        drawn = random.lognormal(np.log(150), np.log(500 / 150) / 1.2816, count)
        return np.clip(drawn, 1, 10_000).astype(np.int64)
    return np.full(count, traffic.candidates, dtype=np.int64)


def _exponential(traffic: Traffic, random: np.random.Generator) -> Floats:
    return _thinned(traffic.duration_s, traffic.rate_rps, lambda at_s: np.full(len(at_s), traffic.rate_rps), random)


def _bursts(traffic: Traffic, random: np.random.Generator) -> Floats:
    calm_rps = traffic.rate_rps / (1 + _BURST_SHARE * (_BURST - 1))
    calm_s = traffic.burst_s * (1 - _BURST_SHARE) / _BURST_SHARE
    ends_s, burst, now_s = [0.0], [False], 0.0
    while now_s < traffic.duration_s:
        # The first period is drawn as any other: memoryless, so a process that has always run looks the same.
        state = not burst[-1] if len(burst) > 1 else bool(random.random() < _BURST_SHARE)
        now_s += random.exponential(traffic.burst_s if state else calm_s)
        ends_s.append(now_s)
        burst.append(state)
    rates = np.where(np.array(burst[1:]), _BURST * calm_rps, calm_rps)
    edges_s = np.array(ends_s[1:])

    def rate(at_s: Floats) -> Floats:
        return np.asarray(rates[np.minimum(np.searchsorted(edges_s, at_s), len(rates) - 1)])

    return _thinned(traffic.duration_s, _BURST * calm_rps, rate, random)


def _day(traffic: Traffic, random: np.random.Generator) -> Floats:
    mean = 1 + (_FLASH - 1) * (_FLASH_TO - _FLASH_FROM)  # of the curve below, but for the swing at the flash crowd

    def rate(at_s: Floats) -> Floats:
        day = at_s / traffic.duration_s
        curve = 1 - _DAY_SWING * np.cos(2 * np.pi * day)
        flash = np.where((day >= _FLASH_FROM) & (day < _FLASH_TO), _FLASH, 1.0)
        return np.asarray(traffic.rate_rps / mean * curve * flash)

    return _thinned(traffic.duration_s, traffic.rate_rps * _FLASH * (1 + _DAY_SWING), rate, random)


def _thinned(duration_s: float, most_rps: float, rate: _Rate, random: np.random.Generator) -> Floats:
    """A Poisson process of changing rate: drawn at the largest, each kept in proportion (Lewis & Shedler 1979)."""
    count = random.poisson(most_rps * duration_s)
    at_s = np.sort(random.random(count) * duration_s)
    return np.asarray(at_s[random.random(count) * most_rps < rate(at_s)])


_ARRIVALS: Mapping[str, Callable[[Traffic, np.random.Generator], Floats]] = {
    "exponential": _exponential,
    "bursts": _bursts,
    "day": _day,
}
