"""The studentized paired bootstrap by cluster, for metrics that are smooth functions of sums over rows.

A resample draws clusters with replacement. Each gives its own estimate *and* its own standard error, and the bounds
come from the distribution of ``(estimate* - estimate) / se*`` (bootstrap-t; Efron & Tibshirani 1993, chapter 12.5).
Against plain percentiles that corrects for skewness in the right direction, and widens the bounds where clusters are
few.

Crossed clusters (user and item) have no bootstrap of their own: to resample one of them leaves the other's variance
out, and to resample both (the pigeonhole bootstrap, Owen 2007) counts the rows' own noise three times. So the *scale*
is the two-way standard error (Cameron, Gelbach & Miller 2011), and the *shape* is taken from a bootstrap of each
dimension: at either end from the one with the longer tail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rankine.clusters import Codes, clustered_variance, encode_clusters
from rankine.errors import UsageError
from rankine.metrics import Floats

__all__ = ["Bootstrapped", "Statistic", "bootstrap_all", "bootstrap_t", "log_product", "relative_fall"]

_BLOCKS = 2048
_DRAWS_AT_ONCE = 4_000_000
_PIVOT_LIMIT = 1e3


@dataclass(frozen=True, slots=True)
class Statistic:
    """A function of the sums of ``k`` columns that does not change when all sums are multiplied by one factor.

    ``value`` maps sums of shape ``(..., k)`` to ``(...)``, ``gradient`` to its derivatives, ``(..., k)``.
    """

    value: Callable[[Floats], Floats]
    gradient: Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """An estimate with its standard error, and the sorted pivots ``(estimate* - estimate) / se*`` of the resamples."""

    estimate: float
    se: float
    method: str
    clusters: tuple[int, ...]
    pivots: Floats

    def lower(self, confidence: float = 0.95) -> float:
        """One-sided lower bound: the truth is above it with probability ``confidence``."""
        return self.estimate - self._pivot(confidence) * self.se

    def upper(self, confidence: float = 0.95) -> float:
        """One-sided upper bound: the truth is below it with probability ``confidence``."""
        return self.estimate + self._pivot_below(confidence) * self.se

    def p_at_most(self, threshold: float) -> float:
        """One-sided p-value of the null "the truth is ``threshold`` or less"; 1 / (resamples + 1) is the smallest."""
        if self.se == 0:
            return 0.0 if self.estimate > threshold else 1.0
        reached = len(self.pivots) - np.searchsorted(self.pivots, (self.estimate - threshold) / self.se, side="left")
        return (1 + int(reached)) / (len(self.pivots) + 1)

    def p_at_least(self, threshold: float) -> float:
        """One-sided p-value of the null "the truth is ``threshold`` or more"."""
        if self.se == 0:
            return 0.0 if self.estimate < threshold else 1.0
        reached = np.searchsorted(self.pivots, (self.estimate - threshold) / self.se, side="right")
        return (1 + int(reached)) / (len(self.pivots) + 1)

    def _pivot(self, confidence: float) -> float:
        return float(self.pivots[_rank(confidence, len(self.pivots)) - 1])

    def _pivot_below(self, confidence: float) -> float:
        return -float(self.pivots[-_rank(confidence, len(self.pivots))])


@dataclass(frozen=True, slots=True, eq=False)
class _Resamples:
    """Sums of the columns in each resample of ``count`` blocks, ``(resamples, k)``, and of their products over blocks,
    ``(resamples, k, k)``."""

    count: int
    totals: Floats
    moments: Floats


def bootstrap_t(
    columns: Floats, statistic: Statistic, clusters: Sequence[ArrayLike] = (), *, resamples: int = 2000, seed: int = 0
) -> Bootstrapped:
    """The statistic of the sums of ``columns``, with the distribution of its pivots.

    Args:
        columns: shape ``(rows, k)``, finite.
        clusters: up to two arrays of ids, each of shape ``(rows,)``; none: rows are independent. More than 2,048
            clusters (or rows) are drawn in 2,048 blocks of whole clusters, for the pivots only.
        resamples: at least 99, and 1 / (resamples + 1) is the smallest p-value.
        seed: of the draws.

    Raises:
        DataError: fewer than two clusters in a dimension, or ids of another shape or kind.
        UsageError: more than two cluster dimensions, or too few resamples.
    """
    return bootstrap_all(columns, [statistic], clusters, resamples=resamples, seed=seed)[0]


def bootstrap_all(
    columns: Floats,
    statistics: Sequence[Statistic],
    clusters: Sequence[ArrayLike] = (),
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Bootstrapped]:
    """Several statistics of the same columns, on the same resamples; arguments and errors as :func:`bootstrap_t`."""
    if resamples < 99:
        raise UsageError("too few for a 95 % bound", where="resamples", got=resamples, allowed="99 or more")
    totals = columns.sum(axis=0)
    rng = np.random.default_rng(seed)
    drawn = [_draw(columns, codes, count, resamples, rng) for codes, count in _blocks(len(columns), clusters)]
    return [_of_statistic(columns, totals, statistic, clusters, drawn) for statistic in statistics]


def relative_fall() -> Statistic:
    """``(A - B) / A`` of the sums of two columns: how much lower the second is, relative to the first."""

    def value(sums: Floats) -> Floats:
        fall: Floats = 1.0 - sums[..., 1] / sums[..., 0]
        return fall

    def gradient(sums: Floats) -> Floats:
        first, second = sums[..., 0], sums[..., 1]
        return np.stack([second / first / first, -1.0 / first], axis=-1)

    return Statistic(value, gradient)


def log_product(powers: Sequence[float]) -> Statistic:
    """``sum of powers[i] * log(sum of column i)``; the powers sum to zero."""
    exponents = np.asarray(powers, dtype=np.float64)

    def value(sums: Floats) -> Floats:
        logs: Floats = np.log(sums) @ exponents
        return logs

    def gradient(sums: Floats) -> Floats:
        return exponents / sums

    return Statistic(value, gradient)


def _blocks(rows: int, clusters: Sequence[ArrayLike]) -> list[tuple[Codes, int]]:
    """Codes of what is drawn, by dimension, and how many there are: clusters, or rows, in at most 2,048 blocks."""
    encoded = [encode_clusters(ids, rows, f"clusters[{place}]") for place, ids in enumerate(clusters)]
    if not encoded:
        encoded = [(np.arange(rows, dtype=np.int64), rows)]
    return [(codes % _BLOCKS, min(count, _BLOCKS)) for codes, count in encoded]


def _longer_tails(found: Sequence[Floats]) -> Floats:
    """Of sorted pivots by dimension, each ``(resamples,)``: the lower of the lower halves, the higher of the upper."""
    half = len(found[0]) // 2
    parts = [np.min([one[:half] for one in found], axis=0), np.max([one[half:] for one in found], axis=0)]
    return np.concatenate(parts)


def _draw(columns: Floats, codes: Codes, count: int, resamples: int, rng: np.random.Generator) -> _Resamples:
    """Draw blocks with replacement; ``codes`` say which block each row is in."""
    width = columns.shape[1]
    sums = np.zeros((count, width))
    np.add.at(sums, codes, columns)
    products = (sums[:, :, None] * sums[:, None, :]).reshape(count, width * width)
    at_once = max(1, _DRAWS_AT_ONCE // count)
    totals, moments = np.empty((resamples, width)), np.empty((resamples, width * width))
    for start in range(0, resamples, at_once):
        part = slice(start, min(start + at_once, resamples))
        size = part.stop - start
        blocks = rng.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        weights = np.bincount(blocks.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        totals[part], moments[part] = weights @ sums, weights @ products
    return _Resamples(count, totals, moments.reshape(resamples, width, width))


def _of_statistic(
    columns: Floats,
    totals: Floats,
    statistic: Statistic,
    clusters: Sequence[ArrayLike],
    drawn: Sequence[_Resamples],
) -> Bootstrapped:
    rows, estimate = len(columns), float(statistic.value(totals))
    # A sum, not a matrix product: fused multiply-adds would leave dust where two columns are identical.
    influence = (columns * statistic.gradient(totals)).sum(axis=1)
    row_variance = rows / max(rows - 1, 1) * float(np.square(influence).sum())
    found = clustered_variance(influence, clusters, row_variance)
    if found.variance == 0:
        pivots = np.zeros(len(drawn[0].totals))
    else:
        pivots = _longer_tails([np.sort(_pivots(one, statistic, estimate)) for one in drawn])
    return Bootstrapped(estimate, math.sqrt(found.variance), found.method, found.clusters, pivots)


def _pivots(drawn: _Resamples, statistic: Statistic, estimate: float) -> Floats:
    """``(estimate* - estimate) / se*`` of each resample, shape ``(resamples,)``."""
    gradient = statistic.gradient(drawn.totals)
    # The statistic is homogeneous of degree zero: its gradient is orthogonal to the totals, so no mean to subtract.
    variance = drawn.count / (drawn.count - 1) * np.einsum("ri,rij,rj->r", gradient, drawn.moments, gradient)
    return _studentize(statistic.value(drawn.totals) - estimate, variance)


def _studentize(deviations: Floats, variance: Floats) -> Floats:
    """Pivots within ±1,000: a resample of one cluster many times over has no variance, and a pivot without a bound."""
    safe = np.sqrt(np.maximum(variance, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = np.where(deviations == 0, 0.0, deviations / safe)
    pivots = np.nan_to_num(pivots, nan=_PIVOT_LIMIT)
    return np.asarray(np.clip(pivots, -_PIVOT_LIMIT, _PIVOT_LIMIT), dtype=np.float64)


def _rank(confidence: float, resamples: int) -> int:
    """Which of the sorted pivots, from 1, is not reached by chance with ``confidence``."""
    if not 0 < confidence < 1:
        raise UsageError("not a probability", where="confidence", got=confidence, allowed="between 0 and 1")
    # Rounded first: 0.95 of 2,000 + 1 is 1900.95, but of 1,999 + 1 exactly the 1,900th.
    return min(math.ceil(round(confidence * (resamples + 1), 9)), resamples)
