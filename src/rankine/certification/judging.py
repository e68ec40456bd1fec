"""The metrics of a certificate: each of two models on the same rows, by the method that suits it.

What takes time (variances, resamples) does not depend on the margin, so a metric is measured once and judged at as many
margins as are asked for.

| metric | difference | bounds |
| --- | --- | --- |
| AUC | ``b - a`` | paired DeLong, cluster-robust, Student's t |
| normalized entropy | ``(NE_a - NE_b) / NE_a`` | studentized bootstrap by cluster |
| calibration | ``abs(log c_a) - abs(log c_b)`` | two linear comparisons, studentized bootstrap by cluster |
| group AUC, NDCG@10 | ``b - a`` | groups as clusters, crossed with items, Student's t |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from rankine.bootstrap import Bootstrapped, bootstrap_all, bootstrap_t, log_product, relative_fall
from rankine.certification.margins import Margins, MetricName
from rankine.certification.metric_tests import MetricTest, verdict_of
from rankine.grouped import PairedGroups, paired_group_auc, paired_ndcg
from rankine.metrics import Bools, Floats, auc, calibration_ratio, normalized_entropy, row_log_loss, sigmoid
from rankine.stats import lower_bound, p_value_below, paired_delong, power_at_zero, upper_bound

__all__ = [
    "Measured",
    "PairedRows",
    "judge",
    "measure",
    "measure_auc",
    "measure_auc_without_variance",
    "measure_calibration",
    "measure_entropy",
    "measure_groups",
]

_HALF = 0.975
_TINY = 1e-12
"""Added to each row's loss and probability, so that a model that is never wrong, or always 0, can be compared."""
_LOSS_LIMIT = 1e6
"""Nats of a row; with more, products of losses would overflow."""


@dataclass(frozen=True, slots=True, eq=False)
class PairedRows:
    """What two models said of the same rows: labels and logits, each ``(rows,)``, and what makes rows dependent."""

    positive: Bools
    a: Floats
    b: Floats
    clusters: Mapping[str, ArrayLike]
    groups: ArrayLike | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What rows say of a metric before its margin is known; the fields are those of a :class:`MetricTest`.

    Attributes:
        values: the baseline's and the variant's.
        bounds: one-sided 95 %, lower and upper.
        p_value: of the null "worse by this margin or more", by margin.
        power: chance of a pass at this margin if there is truly no difference.
        unjudged: why no margin decides; empty where one may.
    """

    name: MetricName
    values: tuple[float, float]
    delta: float
    se: float
    bounds: tuple[float, float]
    method: str
    p_value: Callable[[float], float]
    power: Callable[[float], float]
    freedom: float | None = None
    groups: int | None = None
    unjudged: str = ""

    def at(self, margin: float | None) -> MetricTest:
        """The test at a margin; None: the metric is reported and not judged."""
        decisive = None if self.unjudged else margin
        return MetricTest(
            name=self.name,
            baseline=self.values[0],
            variant=self.values[1],
            delta=self.delta,
            se=self.se,
            ci_low=self.bounds[0],
            ci_high=self.bounds[1],
            margin=decisive,
            verdict=None if decisive is None else verdict_of(*self.bounds, decisive),
            p_value=None if decisive is None else self.p_value(decisive),
            power=None if decisive is None else self.power(decisive),
            method=self.method,
            freedom=self.freedom,
            groups=self.groups,
            note="" if margin is None else self.unjudged,
        )


def measure(
    rows: PairedRows, *, probabilities: bool, minimum_groups: int = 30, resamples: int = 2000, seed: int = 0
) -> tuple[Measured, ...]:
    """All metrics that the rows have, AUC first; rows and clusters are known to be enough for a variance.

    Args:
        probabilities: whether the scores are logits of probabilities: only they have an entropy and a calibration.
        minimum_groups: with fewer groups of both classes the metrics within groups are reported and not judged.
    """
    found = [measure_auc(rows)]
    if probabilities:
        found.append(measure_entropy(rows, resamples=resamples, seed=seed))
        found.append(measure_calibration(rows, resamples=resamples, seed=seed))
    return (*found, *measure_groups(rows, minimum_groups))


def judge(measured: Sequence[Measured], margins: Margins) -> list[MetricTest]:
    """Each metric at its margin."""
    return [metric.at(margins.of_metric(metric.name)) for metric in measured]


def measure_auc(rows: PairedRows) -> Measured:
    """AUC by paired DeLong."""
    found = paired_delong(rows.positive, rows.a, rows.b, tuple(rows.clusters.values()))
    method = f"paired DeLong, {_by(found.method, rows.clusters)}"
    return _by_t("auc", (found.auc_a, found.auc_b), found.se, found.freedom, method)


def measure_auc_without_variance(rows: PairedRows) -> Measured:
    """AUC where there are too few rows or clusters for a variance.

    A difference of AUC lies in [-1, 1], so 1 bounds its standard error and [-1, 1] is a true, if useless, interval.
    """
    values = auc(rows.positive, rows.a), auc(rows.positive, rows.b)
    method = "none: fewer than two rows of a class or two clusters"
    power = partial(power_at_zero, 1.0)
    return Measured("auc", values, values[1] - values[0], 1.0, (-1.0, 1.0), method, lambda margin: 1.0, power)


def measure_entropy(rows: PairedRows, *, resamples: int = 2000, seed: int = 0) -> Measured:
    """Relative fall of normalized entropy; the entropy of the base rate cancels, so it is that of the log loss."""
    losses = np.stack([_bounded_loss(rows.positive, scores) for scores in (rows.a, rows.b)], axis=1)
    found = bootstrap_t(losses, relative_fall(), tuple(rows.clusters.values()), resamples=resamples, seed=seed)
    return Measured(
        name="normalized_entropy",
        values=(normalized_entropy(rows.positive, rows.a), normalized_entropy(rows.positive, rows.b)),
        delta=found.estimate,
        se=found.se,
        bounds=(found.lower(), found.upper()),
        method=f"studentized bootstrap, {_by(found.method, rows.clusters)}",
        p_value=lambda margin: found.p_at_most(-margin),
        power=partial(power_at_zero, found.se),
    )


def measure_calibration(rows: PairedRows, *, resamples: int = 2000, seed: int = 0) -> Measured:
    """Fall of ``|log c|``, c the mean prediction over the observed rate, by two linear comparisons.

    With ``x = log c_a`` and ``y = log c_b``, the growth of the error is ``|y| - |x| = max(min(d, s), min(-d, -s))`` of
    the difference ``d = y - x``, in which the observed rate cancels, and the sum ``s = y + x``, in which it counts
    twice. Both are smooth, so each has honest bounds. "Worse by the margin" is ``d >= m and s >= m`` or
    ``-d >= m and -s >= m``; each half is refuted by either of its two parts, at half the level (Bonferroni), and both
    halves have to be. That holds at the kink, where ``|log c|`` itself is not normal, and is conservative away from it.
    ``se`` is that of ``d``; the power is that of ``d`` alone, so it is at least that.
    """
    rate, first, second = rows.positive + _TINY, sigmoid(rows.a) + _TINY, sigmoid(rows.b) + _TINY
    columns = np.stack([first, second, rate], axis=1)
    clusters = tuple(rows.clusters.values())
    parts = [log_product(powers) for powers in ((-1.0, 1.0, 0.0), (1.0, 1.0, -2.0))]
    difference, total = bootstrap_all(columns, parts, clusters, resamples=resamples, seed=seed)
    high, low = _growth_bounds(difference, total)
    return Measured(
        name="calibration",
        values=(calibration_ratio(rows.positive, rows.a), calibration_ratio(rows.positive, rows.b)),
        delta=-_growth((difference.estimate, difference.estimate), (total.estimate, total.estimate)),
        se=difference.se,
        bounds=(-high, -low),
        method=f"studentized bootstrap of two linear comparisons, {_by(difference.method, rows.clusters)}",
        p_value=partial(_growth_p_value, difference, total),
        power=partial(_two_sided_power, difference.se),
    )


def measure_groups(rows: PairedRows, minimum_groups: int = 30) -> list[Measured]:
    """Group AUC and NDCG@10; none where there are no groups."""
    if rows.groups is None:
        return []
    groups = np.asarray(rows.groups)
    others = tuple(ids for ids in rows.clusters.values() if not np.array_equal(np.asarray(ids), groups))[:1]
    return [
        _of_groups("group_auc", paired_group_auc(rows.positive, rows.a, rows.b, groups, others), minimum_groups),
        _of_groups("ndcg_at_10", paired_ndcg(rows.positive, rows.a, rows.b, groups, others), minimum_groups),
    ]


def _of_groups(name: MetricName, found: PairedGroups, minimum: int) -> Measured:
    few = found.groups < minimum
    unjudged = f"not judged: {found.groups} groups with both classes (minimum {minimum})" if few else ""
    measured = _by_t(name, (found.mean_a, found.mean_b), found.se, found.freedom, found.method)
    return replace(measured, groups=found.groups, unjudged=unjudged)


def _by_t(name: MetricName, values: tuple[float, float], se: float, freedom: float, method: str) -> Measured:
    """A difference whose estimate is close to normal, with ``freedom`` degrees of freedom of its standard error."""
    delta = values[1] - values[0]
    return Measured(
        name=name,
        values=values,
        delta=delta,
        se=se,
        bounds=(lower_bound(delta, se, freedom=freedom), upper_bound(delta, se, freedom=freedom)),
        method=method,
        p_value=lambda margin: p_value_below(delta, se, -margin, freedom),
        power=lambda margin: power_at_zero(se, margin, freedom=freedom),
        freedom=freedom,
    )


def _bounded_loss(positive: Bools, scores: Floats) -> Floats:
    return np.minimum(row_log_loss(positive, scores), _LOSS_LIMIT) + _TINY


def _by(method: str, clusters: Mapping[str, ArrayLike]) -> str:
    return method + (f" by {' and '.join(clusters)}" if clusters else "")


def _growth(difference: tuple[float, float], total: tuple[float, float]) -> float:
    """``max(min(d, s), min(-d, -s))`` of intervals ``(low, high)``: its largest value."""
    return max(min(difference[1], total[1]), min(-difference[0], -total[0]))


def _growth_bounds(difference: Bootstrapped, total: Bootstrapped) -> tuple[float, float]:
    """One-sided 95 % upper and lower bounds of the growth, from bounds of its parts at 97.5 %."""
    d_low, d_high = difference.lower(_HALF), difference.upper(_HALF)
    s_low, s_high = total.lower(_HALF), total.upper(_HALF)
    high = _growth((d_low, d_high), (s_low, s_high))
    # The growth is nowhere below -|d|: where no prediction changed, none improved.
    low = max(min(d_low, s_low), min(-d_high, -s_high), -max(-d_low, d_high))
    return high, low


def _growth_p_value(difference: Bootstrapped, total: Bootstrapped, margin: float) -> float:
    """Of the null "the growth is the margin or more", at the same halves of the level as the bounds."""
    up = min(difference.p_at_least(margin), total.p_at_least(margin))
    down = min(difference.p_at_most(-margin), total.p_at_most(-margin))
    return min(1.0, 2 * max(up, down))


def _two_sided_power(se: float, margin: float) -> float:
    """Chance that ``|d|`` is shown to be below the margin where there is truly no difference."""
    if se == 0:
        return 1.0
    normal = NormalDist()
    return max(0.0, 2 * normal.cdf(margin / se - normal.inv_cdf(_HALF)) - 1)
