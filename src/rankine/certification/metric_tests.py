"""One metric of two models on the same rows: its difference, bounds, margin and verdict."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Literal, Self

from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from rankine.certification.margins import MetricName
from rankine.config import Frozen
from rankine.metrics import Bools, Floats, auc
from rankine.stats import lower_bound, paired_delong, power_at_zero, upper_bound

__all__ = ["MetricTest", "Verdict", "auc_test", "verdict_of"]

Verdict = Literal["pass", "fail", "inconclusive"]


class MetricTest(Frozen):
    """The test of one metric; the null hypothesis is "the variant is worse by the margin or more".

    ``baseline`` and ``variant`` are the metric's values; for calibration the ratios of mean prediction to observed
    rate. ``delta`` is signed so that positive is better for the variant: the difference of AUC, group AUC and NDCG,
    the relative fall of normalized entropy, the fall of ``|log calibration ratio|``. ``ci_low`` and ``ci_high`` are
    one-sided 95 % bounds of it, ``se`` its standard error. ``p_value`` is of the null hypothesis; ``power`` the chance
    of a pass at this standard error if there is truly no difference. ``margin``, ``verdict``, ``p_value`` and ``power``
    are None where the metric is reported and not judged; ``note`` says why if nobody asked for that. ``groups`` is
    the number of groups that have the metric.
    """

    name: MetricName
    baseline: float
    variant: float
    delta: float
    se: float = Field(ge=0)
    ci_low: float
    ci_high: float
    margin: float | None = Field(gt=0)
    verdict: Verdict | None
    p_value: float | None = Field(ge=0, le=1)
    power: float | None = Field(ge=0, le=1)
    method: str
    groups: int | None = None
    note: str = ""

    @property
    def judged(self) -> bool:
        """Whether the metric decides."""
        return self.margin is not None

    @model_validator(mode="after")
    def _verdict_follows_from_bounds(self) -> Self:
        # A certificate is a file that people can edit; one whose verdict its own numbers do not support is refused.
        if (self.margin is None) != (self.verdict is None):
            raise ValueError(f"{self.name}: a metric has both a margin and a verdict, or neither")
        if self.margin is not None and self.verdict != verdict_of(self.ci_low, self.ci_high, self.margin):
            raise ValueError(f"{self.name}: verdict '{self.verdict}' does not follow from its bounds and margin")
        return self


def verdict_of(ci_low: float, ci_high: float, margin: float) -> Verdict:
    """Pass if the difference is surely above ``-margin``, fail if it is surely below, otherwise inconclusive."""
    if ci_low > -margin:
        return "pass"
    return "fail" if ci_high < -margin else "inconclusive"


def auc_test(
    positive: Bools, baseline: Floats, scores: Floats, clusters: Mapping[str, ArrayLike] | None, margin: float
) -> MetricTest:
    """AUC by paired DeLong; ``clusters`` is None where there are too few rows or clusters for a variance."""
    if clusters is None:
        # |delta| <= 1, so 1 bounds its standard error and [-1, 1] is a true, if useless, interval.
        values = auc(positive, baseline), auc(positive, scores)
        method = "none: fewer than two rows of a class or two clusters"
        return _auc_test(values, 1.0, (-1.0, 1.0), margin, 1.0, method)
    found = paired_delong(positive, baseline, scores, tuple(clusters.values()))
    bounds = lower_bound(found.delta, found.se), upper_bound(found.delta, found.se)
    method = f"paired DeLong, {found.method}" + (f" by {' and '.join(clusters)}" if clusters else "")
    return _auc_test(
        (found.auc_a, found.auc_b), found.se, bounds, margin, _p_value(found.delta, found.se, margin), method
    )


def _auc_test(
    values: tuple[float, float], se: float, bounds: tuple[float, float], margin: float, p_value: float, method: str
) -> MetricTest:
    return MetricTest(
        name="auc",
        baseline=values[0],
        variant=values[1],
        delta=values[1] - values[0],
        se=se,
        ci_low=bounds[0],
        ci_high=bounds[1],
        margin=margin,
        verdict=verdict_of(*bounds, margin),
        p_value=p_value,
        power=power_at_zero(se, margin),
        method=method,
    )


def _p_value(delta: float, se: float, margin: float) -> float:
    """One-sided, of the null "the difference is ``-margin`` or less", under a normal approximation."""
    if se == 0:
        return 0.0 if delta > -margin else 1.0
    return NormalDist().cdf(-(delta + margin) / se)
