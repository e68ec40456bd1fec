"""Metrics within groups (the rows of one user are one ranked list), of two models on the same rows.

The group is the unit: groups are independent of each other but for what they share, the items. A variant that is worse
for one popular item is worse in every list that has it. So the variance is the groups' own, plus the products of the
influences of rows of one item in different groups: V(group) + V(item) - V(row), as for crossed clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rankine.clusters import Codes, encode_clusters, two_way, variance_of_sums
from rankine.metrics import Bools, Floats

__all__ = ["PairedGroups", "paired_group_auc", "paired_ndcg", "top_overlap"]


@dataclass(frozen=True, slots=True)
class PairedGroups:
    """A mean over groups, of two models: ``delta`` is b's minus a's, ``se`` its standard error (0 for fewer than two).

    ``freedom`` are the degrees of freedom of ``se``; ``groups`` is the number of groups that have the metric.
    """

    mean_a: float
    mean_b: float
    delta: float
    se: float
    freedom: float
    method: str
    groups: int


@dataclass(frozen=True, slots=True)
class _Lists:
    """The rows of the groups that have both classes, sorted by group.

    ``codes`` are of shape ``(rows,)``, ``starts`` and ``sizes`` and ``positives`` of shape ``(groups,)``; ``kept`` are
    the rows' places in the arrays that were given.
    """

    codes: Codes
    starts: Codes
    sizes: Codes
    positives: Codes
    positive: Bools
    kept: Codes


def paired_group_auc(
    positive: Bools, a: Floats, b: Floats, groups: ArrayLike, others: Sequence[ArrayLike] = ()
) -> PairedGroups:
    """AUC within each group, averaged over groups with both classes, weighted by their rows (Zhu et al., KDD 2018).

    Args:
        positive: shape ``(rows,)``.
        a, b: scores, shape ``(rows,)``; ties count half.
        groups: ids, shape ``(rows,)``.
        others: at most one more dimension in which rows of different groups depend on each other: the items' ids.

    Raises:
        DataError: ids of another shape or kind.
    """
    lists = _lists(positive, groups)
    if not len(lists.sizes):
        return _nothing()
    placed_a, placed_b = (_placements_within(lists, scores[lists.kept]) for scores in (a, b))
    auc_a, auc_b = (
        _sums(lists, np.where(lists.positive, placed, 0)) / lists.positives for placed in (placed_a, placed_b)
    )
    weights = lists.sizes / lists.sizes.sum()
    mean_a, mean_b = float(weights @ auc_a), float(weights @ auc_b)
    delta = mean_b - mean_a
    # A row stands for its class within its group: the groups' mean is as much that of positives as that of negatives.
    of_class = np.where(lists.positive, lists.positives[lists.codes], (lists.sizes - lists.positives)[lists.codes])
    influence = (weights[lists.codes] / of_class) * (placed_b - placed_a - delta)
    of_groups = weights * (auc_b - auc_a - delta)
    return _paired(lists, (mean_a, mean_b), weights, of_groups, influence, others)


def paired_ndcg(
    positive: Bools, a: Floats, b: Floats, groups: ArrayLike, others: Sequence[ArrayLike] = (), depth: int = 10
) -> PairedGroups:
    """NDCG at ``depth`` with binary gains (Järvelin & Kekäläinen 2002), the mean over groups with both classes.

    Tied rows share the mean discount of the ranks that they occupy, which is the expectation over random orders. A
    group of one class has the same NDCG under every model: it would only dilute the difference.

    Args: as :func:`paired_group_auc`.

    Raises:
        DataError: ids of another shape or kind.
    """
    lists = _lists(positive, groups)
    count = len(lists.sizes)
    if not count:
        return _nothing()
    ideal = np.cumsum(_discounts(np.arange(1, depth + 1), depth))[np.minimum(lists.positives, depth) - 1]
    (gains_a, effects_a), (gains_b, effects_b) = (_gains(lists, scores[lists.kept], depth) for scores in (a, b))
    ndcg_a, ndcg_b = _sums(lists, gains_a) / ideal, _sums(lists, gains_b) / ideal
    mean_a, mean_b = float(ndcg_a.mean()), float(ndcg_b.mean())
    effects = (effects_b - effects_a) / ideal[lists.codes]
    for chosen in (lists.positive, ~lists.positive):
        effects[chosen] -= effects[chosen].mean()
    of_groups = (ndcg_b - ndcg_a - (mean_b - mean_a)) / count
    return _paired(lists, (mean_a, mean_b), np.full(count, 1 / count), of_groups, effects / count, others)


def top_overlap(a: Floats, b: Floats, groups: ArrayLike, depth: int = 10) -> float | None:
    """Share of a group's ``depth`` best rows on which both scores agree, the mean over groups with more rows than that.

    Ties are broken by the order of the rows, for both alike. None where no group is so large.

    Raises:
        DataError: ids of another shape or kind.
    """
    codes, count = _codes(groups, len(a))
    sizes = np.bincount(codes, minlength=count)
    large = sizes > depth
    if not large.any():
        return None
    top_a, top_b = (_top(codes, sizes, scores, depth) for scores in (a, b))
    shared = np.bincount(codes[top_a & top_b], minlength=count)[large]
    return float(shared.mean() / depth)


def _lists(positive: Bools, groups: ArrayLike) -> _Lists:
    codes, count = _codes(groups, len(positive))
    sizes = np.bincount(codes, minlength=count)
    positives = np.bincount(codes[positive], minlength=count)
    mixed = (positives > 0) & (positives < sizes)
    kept = np.argsort(codes, kind="stable")
    kept = kept[mixed[codes[kept]]]
    renumbered = np.cumsum(mixed) - 1
    chosen = sizes[mixed]
    starts = np.concatenate(([0], np.cumsum(chosen)[:-1])) if len(chosen) else chosen
    return _Lists(renumbered[codes[kept]], starts, chosen, positives[mixed], positive[kept], kept)


def _codes(groups: ArrayLike, rows: int) -> tuple[Codes, int]:
    """Codes of the groups; one group alone is allowed here."""
    values = np.asarray(groups)
    if values.shape == (rows,) and rows and bool((values == values[0]).all()):
        return np.zeros(rows, dtype=np.int64), 1
    return encode_clusters(values, rows, "groups")


def _sums(lists: _Lists, values: Floats) -> Floats:
    return _totals(lists.codes, values)


def _totals(codes: Codes, values: Floats) -> Floats:
    """Sums by code, each of which occurs."""
    return np.asarray(np.bincount(codes, weights=values), dtype=np.float64)


def _ordered(codes: Codes, keys: Floats) -> tuple[Codes, Codes, Codes]:
    """The order by group and key, and where in it each run of tied rows starts and ends."""
    order = np.lexsort((keys, codes))
    sorted_codes, sorted_keys = codes[order], keys[order]
    changes = (sorted_codes[1:] != sorted_codes[:-1]) | (sorted_keys[1:] != sorted_keys[:-1])
    starts = np.flatnonzero(np.concatenate(([True], changes)))
    return order, starts, np.append(starts[1:], len(codes))


def _midranks_within(codes: Codes, scores: Floats) -> Floats:
    """Midranks over all rows of (group, score): differences of them within a group are those within the group."""
    order, starts, ends = _ordered(codes, scores)
    ranks = np.empty(len(scores), dtype=np.float64)
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def _placements_within(lists: _Lists, scores: Floats) -> Floats:
    """Share of the other class of its group that each row is on the right side of, ties half; shape ``(rows,)``."""
    positive, codes = lists.positive, lists.codes
    negatives = lists.sizes - lists.positives
    overall = _midranks_within(codes, scores) - lists.starts[codes]
    placed = np.empty(len(scores), dtype=np.float64)
    for chosen, own, other in ((positive, lists.positives, negatives), (~positive, negatives, lists.positives)):
        offsets = np.cumsum(own) - own
        among = _midranks_within(codes[chosen], scores[chosen]) - offsets[codes[chosen]]
        placed[chosen] = (overall[chosen] - among) / other[codes[chosen]]
    placed[~positive] = 1.0 - placed[~positive]
    return placed


def _discounts(ranks: Codes, depth: int) -> Floats:
    """``1 / log2(1 + rank)`` down to ``depth``, 0 below it (and at rank 0, above which there is nothing)."""
    safe = np.maximum(ranks, 1)
    return np.where((ranks >= 1) & (ranks <= depth), 1.0 / np.log2(1.0 + safe), 0.0)


def _gains(lists: _Lists, scores: Floats, depth: int) -> tuple[Floats, Floats]:
    """Each row's share of its group's DCG, and by how much its presence moves the DCG; both ``(rows,)``.

    The presence of a row adds its own gain, and moves every positive below it down by a rank. The second is for the
    variance only: there, ties are taken in the order of the rows.
    """
    order, starts, ends = _ordered(lists.codes, -scores)
    ranks = np.arange(1, len(scores) + 1) - lists.starts[lists.codes[order]]
    discounts = _discounts(ranks, depth)
    relevant = lists.positive[order]
    shared = np.repeat(np.add.reduceat(discounts, starts) / (ends - starts), ends - starts)
    gains, effects = np.empty(len(scores)), np.empty(len(scores))
    gains[order] = np.where(relevant, shared, 0.0)
    lost = np.where(relevant & (ranks > 1), _discounts(ranks - 1, depth) - discounts, 0.0)
    upto = np.cumsum(lost)
    below = upto[(lists.starts + lists.sizes - 1)[lists.codes[order]]] - upto
    effects[order] = np.where(relevant, discounts, 0.0) - below
    return gains, effects


def _paired(
    lists: _Lists,
    means: tuple[float, float],
    weights: Floats,
    of_groups: Floats,
    influence: Floats,
    others: Sequence[ArrayLike],
) -> PairedGroups:
    """``of_groups`` is each group's influence on the difference, ``influence`` each row's as its item sees it."""
    count, delta = len(of_groups), means[1] - means[0]
    if count < 2:
        return PairedGroups(*means, delta, 0.0, 1.0, "none: one group", count)
    found, method = variance_of_sums(of_groups, weights), "clustered by group"
    for ids in others:
        codes = np.unique(np.asarray(ids)[lists.kept], return_inverse=True)[1]
        sizes = np.bincount(codes)
        if len(sizes) < 2:
            continue
        across = variance_of_sums(_totals(codes, influence), sizes / len(codes))
        # Rows of one item in one group are in the group's variance already.
        same = np.unique(lists.codes * len(sizes) + codes, return_inverse=True)[1]
        own = _totals(same, influence)
        crossed = two_way(found, across, float(np.square(own).sum()))
        if crossed is not None and crossed[0] > found[0]:
            found, method = crossed, "two-way clustered by group and item"
    return PairedGroups(*means, delta, math.sqrt(found[0]), found[1], method, count)


def _top(codes: Codes, sizes: Codes, scores: Floats, depth: int) -> Bools:
    """Mask of each group's ``depth`` best rows, shape ``(rows,)``."""
    order = np.lexsort((-scores, codes))
    ranks = np.arange(len(scores)) - (np.cumsum(sizes) - sizes)[codes[order]]
    chosen = np.zeros(len(scores), dtype=np.bool_)
    chosen[order] = ranks < depth
    return chosen


def _nothing() -> PairedGroups:
    return PairedGroups(0.0, 0.0, 0.0, 0.0, 1.0, "none: no group has both classes", 0)
