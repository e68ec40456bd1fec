"""One metric of two models on the same rows: its difference, bounds, margin and verdict."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rankine.certification.margins import MetricName
from rankine.config import Frozen

__all__ = ["MetricTest", "Verdict", "verdict_of"]

Verdict = Literal["pass", "fail", "inconclusive"]


class MetricTest(Frozen):
    """The test of one metric; the null hypothesis is "the variant is worse by the margin or more".

    ``baseline`` and ``variant`` are the metric's values; for calibration the ratios of mean prediction to observed
    rate. ``delta`` is signed so that positive is better for the variant: the difference of AUC, group AUC and NDCG,
    the relative fall of normalized entropy, the fall of ``|log calibration ratio|``. ``ci_low`` and ``ci_high`` are
    one-sided 95 % bounds of it, ``se`` its standard error (for calibration that of the difference of the logs: their
    absolute values have a kink, and no standard error at it). ``p_value`` is of the null hypothesis; ``power`` the
    chance of a pass at this standard error if there is truly no difference. ``margin``, ``verdict``, ``p_value`` and
    ``power`` are None where the metric is reported and not judged; ``note`` says why if nobody asked for that.
    ``freedom`` are the degrees of freedom of ``se`` where the bounds are by Student's t, ``groups`` is the number of
    groups that have the metric.
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
    freedom: float | None = None
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
        if self.margin is not None and self.p_value is None:
            raise ValueError(f"{self.name}: a metric that is judged has a p-value")
        if self.margin is not None and self.verdict != verdict_of(self.ci_low, self.ci_high, self.margin):
            raise ValueError(f"{self.name}: verdict '{self.verdict}' does not follow from its bounds and margin")
        return self


def verdict_of(ci_low: float, ci_high: float, margin: float) -> Verdict:
    """Pass if the difference is surely above ``-margin``, fail if it is surely below, otherwise inconclusive."""
    if ci_low > -margin:
        return "pass"
    return "fail" if ci_high < -margin else "inconclusive"
