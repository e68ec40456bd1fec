"""Statistics of paired comparisons and of timings, in NumPy alone.

Both models score the same rows, so every comparison here is *paired*, and its variance comes from the influence of
each row on the difference: the difference moves by about the sum of the influences. Rows of one user (or one item)
are not independent; given ``clusters``, influences are first summed within a cluster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rankine.clusters import clustered_variance
from rankine.errors import DataError, UsageError
from rankine.metrics import Bools, Floats, check_both_classes, check_finite, check_labels, midranks
from rankine.student import t_probability, t_quantile

__all__ = [
    "PairedAuc",
    "Spread",
    "lower_bound",
    "median_spread",
    "minimum_detectable",
    "p_value_below",
    "paired_delong",
    "percentile",
    "percentiles",
    "power_at_zero",
    "upper_bound",
]


@dataclass(frozen=True, slots=True)
class PairedAuc:
    """AUC of two models on the same rows: ``delta`` is ``auc_b - auc_a``, ``se`` its standard error.

    ``freedom`` are the degrees of freedom of ``se``; ``method`` says how the variance was taken, ``clusters`` holds the
    number of clusters in each dimension given.
    """

    auc_a: float
    auc_b: float
    delta: float
    se: float
    freedom: float
    method: str
    clusters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles of ``count`` values, in the unit of the values."""

    median: float
    quartile_low: float
    quartile_high: float
    count: int


def paired_delong(labels: ArrayLike, a: ArrayLike, b: ArrayLike, clusters: Sequence[ArrayLike] = ()) -> PairedAuc:
    """Difference in AUC of scores ``b`` over scores ``a`` on the same rows, with its standard error.

    Placements (DeLong, DeLong & Clarke-Pearson 1988) by midranks in O(n log n) (Sun & Xu 2014). The variance is
    DeLong's own where rows are independent, else by clusters (Obuchowski 1997), as
    :func:`~rankine.clusters.clustered_variance` has it.

    Args:
        labels: 0 or 1, shape ``(rows,)``.
        a, b: scores on any increasing scale, shape ``(rows,)``.
        clusters: up to two arrays of ids (integers or strings), each of shape ``(rows,)``.

    Raises:
        DataError: shapes differ, scores are not finite, fewer than two rows of a class, or fewer than two clusters.
        UsageError: more than two cluster dimensions.
    """
    positive = check_labels(labels)
    scores_a = check_finite(a, len(positive), where="scores of a")
    scores_b = check_finite(b, len(positive), where="scores of b")
    positives, negatives = check_both_classes(positive)
    if min(positives, negatives) < 2:
        raise DataError(
            "a variance needs two rows of each class",
            where="labels",
            got=f"{positives} positives, {negatives} negatives",
        )
    placed_a, placed_b = _placements(positive, scores_a), _placements(positive, scores_b)
    auc_a, auc_b = float(placed_a[positive].mean()), float(placed_b[positive].mean())
    # One class at a time: each has its own mean, which is the AUC, and its own number of rows.
    difference = placed_b - placed_a
    influence = np.empty(len(positive), dtype=np.float64)
    row_variance = 0.0
    for chosen, count in ((positive, positives), (~positive, negatives)):
        influence[chosen] = (difference[chosen] - difference[chosen].mean()) / count
        row_variance += count / (count - 1) * float(np.square(influence[chosen]).sum())
    found = clustered_variance(influence, clusters, row_variance)
    se = math.sqrt(found.variance)
    return PairedAuc(auc_a, auc_b, auc_b - auc_a, se, found.freedom, found.method, found.clusters)


def lower_bound(estimate: float, se: float, confidence: float = 0.95, freedom: float = math.inf) -> float:
    """One-sided lower bound by Student's t: the truth is above it with probability ``confidence``."""
    return estimate - t_quantile(confidence, freedom) * se


def upper_bound(estimate: float, se: float, confidence: float = 0.95, freedom: float = math.inf) -> float:
    """One-sided upper bound by Student's t: the truth is below it with probability ``confidence``."""
    return estimate + t_quantile(confidence, freedom) * se


def p_value_below(estimate: float, se: float, threshold: float, freedom: float = math.inf) -> float:
    """One-sided p-value of the null "the truth is ``threshold`` or less", by Student's t."""
    if se == 0:
        return 0.0 if estimate > threshold else 1.0
    return t_probability((threshold - estimate) / se, freedom)


def power_at_zero(se: float, margin: float, confidence: float = 0.95, freedom: float = math.inf) -> float:
    """Chance that a non-inferiority test passes at ``margin`` when there is truly no difference."""
    if se == 0:
        return 1.0
    return t_probability(margin / se - t_quantile(confidence, freedom), freedom)


def minimum_detectable(se: float, power: float = 0.8, confidence: float = 0.95, freedom: float = math.inf) -> float:
    """Smallest margin at which the test passes with chance ``power`` when there is truly no difference."""
    return (t_quantile(confidence, freedom) + t_quantile(power, freedom)) * se


def percentile(values: ArrayLike, percent: float) -> float:
    """The smallest value that at least ``percent`` % of ``values`` do not exceed (nearest rank).

    Always one of the values, never an interpolation: a reported p99 is a latency that somebody waited for.

    Raises:
        DataError: no values, or one that is not finite.
        UsageError: ``percent`` is outside 0..100.
    """
    if not 0 <= percent <= 100:
        raise UsageError("not a percentage", where="percent", got=percent, allowed="0..100")
    timings = np.sort(_timings(values))
    # Rounded first: 99.9 % of 1000 values is the 999th, not the 1000th that 999.0000000000001 would be raised to.
    rank = math.ceil(round(percent * len(timings) / 100, 9))
    return float(timings[max(rank, 1) - 1])


def percentiles(values: ArrayLike, percents: Iterable[float] = (50, 90, 95, 99, 99.9)) -> dict[str, float]:
    """Several percentiles by name: ``{"p50": ..., "p99": ..., "p99.9": ...}``; errors as :func:`percentile`."""
    return {f"p{percent:g}": percentile(values, percent) for percent in percents}


def median_spread(values: ArrayLike) -> Spread:
    """Median and quartiles of repeated timings (linear interpolation between ranks, as is usual for a median).

    Raises:
        DataError: no values, or one that is not finite.
    """
    timings = _timings(values)
    low, median, high = (float(value) for value in np.percentile(timings, (25, 50, 75)))
    return Spread(median=median, quartile_low=low, quartile_high=high, count=len(timings))


def _placements(positive: Bools, scores: Floats) -> Floats:
    """Share of the other class that each row is on the right side of, ties half; shape ``(rows,)``."""
    overall = midranks(scores)
    placed = np.empty(len(scores), dtype=np.float64)
    positives = int(positive.sum())
    negatives = len(scores) - positives
    placed[positive] = (overall[positive] - midranks(scores[positive])) / negatives
    placed[~positive] = 1.0 - (overall[~positive] - midranks(scores[~positive])) / positives
    return placed


def _timings(values: ArrayLike) -> Floats:
    timings = check_finite(values, np.size(values), where="values")
    if not len(timings):
        raise DataError("there are no values to summarize", where="values", got="0 values")
    return timings
