"""How long a batch will take, learned while serving.

A curve over rows (straight between knots, from a profile), a term for every further request of a batch, and a factor
for what else runs at the same time. Each is corrected after every batch by the logarithm of observed over predicted.
That error is bounded by a few times its usual size (Huber 1964), so that one batch hit by a noisy neighbor hardly
moves anything, while a lasting drift widens what is usual and is then followed at full speed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from rankine.errors import UsageError
from rankine.policy.isotonic import non_decreasing

__all__ = ["CostModel", "Prediction"]

_BOUND = 3.0
"""Errors count up to so many times their usual size."""
_LEVEL_RATE, _KNOT_RATE, _TERM_RATE = 0.08, 0.08, 0.05
_TERM_FLOOR = 0.01
_SPREAD_RATE = 0.05
_FORGET = 0.998
"""Share of a knot's own correction that outlives a batch: what is not seen again returns to the common level."""
_TAIL, _TAIL_STEP = 0.99, 0.5
_LEAST_SPREAD = 0.01
_MOST_CO_RUNNING = 15


class Prediction(NamedTuple):
    """Seconds that a batch takes: on the whole, and at most in 99 of 100 cases."""

    mean_s: float
    p99_s: float


class CostModel:
    """The time of a batch on one (variant, engine, device); changed in place by :meth:`observe`.

    Predictions never fall when rows, requests or co-running batches are added.

    Args:
        profile: pairs (rows, seconds) measured at start-up, any order; they become the knots. A step (an engine with
            row buckets) is two knots of neighboring row counts.
        per_request_s: first guess of what a further request in a batch costs beside its rows.

    Raises:
        UsageError: no point, a row count below 1 or twice, or a time that is not positive and finite.
    """

    def __init__(self, profile: Iterable[tuple[int, float]], *, per_request_s: float = 5e-6) -> None:
        points = sorted(profile)
        _check(points)
        self._knots = [rows for rows, _ in points]
        self._profile_s = non_decreasing([seconds for _, seconds in points])
        self._bends = [0.0] * len(points)
        self._level = 0.0
        self._per_request_s = max(per_request_s, 1e-9)
        self._co_running = [0.0] * (_MOST_CO_RUNNING + 1)
        self._spread = 0.1
        self._tail = 0.2
        self._tail_ratio = math.exp(self._tail)
        self._observed = 0
        self._slow_down()
        self._refresh()

    @property
    def observed(self) -> int:
        """Batches seen so far; predictions change only when this does."""
        return self._observed

    @property
    def curve(self) -> Sequence[tuple[int, float]]:
        """The knots as they are now: pairs (rows, seconds of one request alone)."""
        return list(zip(self._knots, self._times_s, strict=True))

    @property
    def tail_ratio(self) -> float:
        """The 99th percentile over the mean, at least 1."""
        return self._tail_ratio

    def mean_s(self, rows: int, requests: int = 1, co_running: int = 0) -> float:
        """Seconds that a batch takes on the whole.

        Args:
            requests: among which the rows are divided.
            co_running: other batches that run on the same device or cores at the same time.
        """
        at = bisect_right(self._knots, rows)
        if at == 0:
            alone_s = self._times_s[0]
        else:
            alone_s = self._times_s[at - 1] + (rows - self._knots[at - 1]) * self._slopes_s[at - 1]
        if requests > 1:
            alone_s += (requests - 1) * self._term_s
        return alone_s * self._factors[min(co_running, _MOST_CO_RUNNING)] if co_running else alone_s

    def predict(self, rows: int, requests: int = 1, co_running: int = 0) -> Prediction:
        """Mean and 99th percentile; arguments as of :meth:`mean_s`."""
        mean_s = self.mean_s(rows, requests, co_running)
        return Prediction(mean_s, mean_s * self._tail_ratio)

    def rows_within(self, seconds: float) -> int:
        """The most rows of one request that are predicted to take no longer; 0 where not even one does."""
        if seconds < self._times_s[0]:
            return 0
        at = bisect_right(self._times_s, seconds) - 1
        slope_s = self._slopes_s[at]
        rows = self._knots[at] + int((seconds - self._times_s[at]) / slope_s) if slope_s > 0 else 1 << 62
        return min(rows, self._knots[at + 1] - 1) if at + 1 < len(self._knots) else rows

    def observe(self, rows: int, requests: int, co_running: int, seconds: float) -> None:
        """Learn from a batch that took ``seconds``; a time that is not positive and finite is not one, and ignored."""
        if not 0.0 < seconds < math.inf:
            return
        predicted_s = self.mean_s(rows, requests, co_running)
        error = math.log(seconds / predicted_s)
        usual = self._spread
        self._observed += 1
        self._spread += _SPREAD_RATE * (min(abs(error), _BOUND * usual) - usual)
        self._spread = max(self._spread, _LEAST_SPREAD)
        self._tail += _TAIL_STEP * usual * (_TAIL if error > self._tail else _TAIL - 1.0)
        self._tail = max(self._tail, 0.0)
        self._tail_ratio = math.exp(self._tail)
        bounded = max(-_BOUND * usual, min(_BOUND * usual, error))
        if co_running:
            at = min(co_running, _MOST_CO_RUNNING)
            self._co_running[at] = max(0.0, self._co_running[at] + _LEVEL_RATE * bounded)
            self._slow_down()
        self._level += _LEVEL_RATE * bounded * (0.25 if co_running else 1.0)
        self._bend(rows, _KNOT_RATE * bounded)
        if requests > 1:
            # Normalized by its share (as in normalized least mean squares), or a small term would never grow.
            share = min(1.0, (requests - 1) * self._term_s / predicted_s)
            step = _TERM_RATE * bounded * share / (share * share + _TERM_FLOOR)
            per_request_s = self._per_request_s * math.exp(step)
            # Joining is never predicted to cost more than what it saves: a call of the fewest rows.
            self._per_request_s = max(1e-9, min(self._profile_s[0], per_request_s))
        self._refresh()

    def _bend(self, rows: int, step: float) -> None:
        """Move the knots on both sides of ``rows``, the nearer one more."""
        knots, bends = self._knots, self._bends
        at = bisect_right(knots, rows)
        right = min(at, len(knots) - 1)
        left = max(at - 1, 0)
        width = knots[right] - knots[left]
        share = (rows - knots[left]) / width if width else 1.0
        bends[left] = _FORGET * bends[left] + (1.0 - share) * step
        bends[right] = _FORGET * bends[right] + share * step

    def _refresh(self) -> None:
        """Times and slopes out of the corrections, made monotone."""
        level = self._level
        times_s = [base_s * math.exp(level + bend) for base_s, bend in zip(self._profile_s, self._bends, strict=True)]
        if any(later < sooner for sooner, later in pairwise(times_s)):
            times_s = non_decreasing(times_s)
        self._times_s = times_s
        knots = self._knots
        slopes_s = [(times_s[at + 1] - times_s[at]) / (knots[at + 1] - knots[at]) for at in range(len(knots) - 1)]
        # Beyond the last knot as between the last two; of a single knot, rows cost what they cost there.
        slopes_s.append(slopes_s[-1] if slopes_s else times_s[0] / knots[0])
        self._slopes_s = slopes_s
        self._term_s = self._per_request_s * math.exp(level)

    def _slow_down(self) -> None:
        """Factors of co-running batches: more of them are never predicted to slow down less."""
        most, self._factors = 0.0, [1.0] * len(self._co_running)
        for at, correction in enumerate(self._co_running):
            most = max(most, correction)
            self._factors[at] = math.exp(most)


def _check(points: Sequence[tuple[int, float]]) -> None:
    if not points:
        raise UsageError("a cost model needs one measured point at least", where="profile", got="none")
    for at, (rows, seconds) in enumerate(points):
        where = f"profile[{at}]"
        if rows < 1 or (at and rows == points[at - 1][0]):
            raise UsageError("row counts must differ and be positive", where=where, got=rows)
        if not 0.0 < seconds < math.inf:
            raise UsageError("a time must be positive and finite", where=where, got=seconds, allowed="seconds")
