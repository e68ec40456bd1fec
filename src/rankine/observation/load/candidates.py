"""How many candidates a request has: a distribution, written as a word such as ``512`` or ``lognormal:200:0.8``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankine.errors import UsageError

__all__ = ["Candidates", "Draws", "Fixed", "LogNormal", "parse_candidates", "stratified"]

FORMS = "a number, 'lognormal:MEDIAN:SIGMA[:MAX]' or 'mlperf'"

MAX_CANDIDATES = 1_000_000

# Query sizes of MLPerf's DLRM-v2 (`dist_quantile.txt` of its reference): twenty equally likely draws, mean 270.
MLPERF = (100,) * 2 + (200,) * 12 + (300,) * 2 + (400, 500, 600, 700)


class Candidates(Protocol):
    """A distribution of the number of candidates, known by its quantiles."""

    @property
    def largest(self) -> int:
        """No request has more candidates."""

    def quantile(self, share: float) -> int:
        """The number of candidates that a share of requests, in (0, 1), does not exceed."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Every request has ``count`` candidates."""

    count: int

    @property
    def largest(self) -> int:
        return self.count

    def quantile(self, share: float) -> int:
        return self.count


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Log-normal around ``median``; ``sigma`` is the standard deviation of the logarithm; cut at ``largest``."""

    median: float
    sigma: float
    largest: int

    def quantile(self, share: float) -> int:
        drawn = self.median * math.exp(self.sigma * NormalDist().inv_cdf(share))
        return max(1, min(self.largest, round(drawn)))


@dataclass(frozen=True, slots=True)
class Draws:
    """Each of ``counts`` (increasing) is equally likely."""

    counts: tuple[int, ...]

    @property
    def largest(self) -> int:
        return self.counts[-1]

    def quantile(self, share: float) -> int:
        return self.counts[min(int(share * len(self.counts)), len(self.counts) - 1)]


def parse_candidates(text: str) -> Candidates:
    """The distribution that ``text`` names: ``512``, ``lognormal:200:0.8`` (cut at 16 medians), ``mlperf``.

    Raises:
        UsageError: the text is none of the forms, or a number in it is out of range.
    """
    name, *parts = text.strip().lower().split(":")
    numbers = [_number(part) for part in parts]
    if name == "mlperf" and not parts:
        return Draws(MLPERF)
    if name == "lognormal" and len(parts) in (2, 3):
        median, sigma = numbers[:2]
        largest = numbers[2] if len(parts) == 3 else 16 * median
        # Comparisons with NaN are false, so what was no number ends in the error below.
        if 1 <= median <= largest <= MAX_CANDIDATES and 0 <= sigma <= 5:
            return LogNormal(median, sigma, round(largest))
    if not parts and 1 <= _number(name) <= MAX_CANDIDATES and _number(name).is_integer():
        return Fixed(int(_number(name)))
    raise UsageError("not a distribution of candidates", where="candidates", got=text, allowed=FORMS)


def _number(text: str) -> float:
    """``text`` as a number, NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def stratified(candidates: Candidates, count: int, *, seed: int) -> NDArray[np.int64]:
    """``count`` numbers of candidates at evenly spaced quantiles, shuffled; shape ``(count,)``.

    A pool of bodies is drawn from again and again: quantiles give it the distribution's own mean and tail, where
    ``count`` independent draws would give every seed a load of its own.
    """
    shares = (np.arange(count) + 0.5) / count
    counts = np.array([candidates.quantile(float(share)) for share in shares], dtype=np.int64)
    return np.random.default_rng(seed).permutation(counts)
