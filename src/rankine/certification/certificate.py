"""The quality certificate as a record: what was tested, what came out, and on what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from rankine.certification.margins import SCALED, MetricName
from rankine.certification.metric_tests import MetricTest, Verdict
from rankine.certification.multiplicity import Multiplicity
from rankine.certification.slices import SliceTest
from rankine.config import Frozen

__all__ = ["QualityCertificate", "overall"]


class QualityCertificate(Frozen):
    """The outcome of one test of one task of one variant on its primary engine.

    ``metrics`` has the AUC first. The verdict is *pass* when every judged metric passes (intersection-union), *fail*
    when one fails, or when a slice is harmed and ``fail_on_harm`` was asked for; else *inconclusive*, as with too
    little data (``shortfalls`` lists of what) or where the procedure over several variants (``multiplicity``) did not
    let it pass.

    ``slices`` has harmed ones first. ``top_10_overlap`` is the mean share of a group's ten best rows that both models
    agree on, over groups with more than ten rows. ``split_uses`` is how often this test split was used, this time
    included. ``score_difference_max`` and ``identical_score_share`` compare logits row by row. ``seed`` and
    ``resamples`` are the bootstrap's. Normalized entropy and calibration are of probabilities: absent where the task's
    link is not the sigmoid.
    """

    schema_version: Literal[2] = 2
    kind: Literal["quality"] = "quality"
    variant: str
    engine: str
    task: str = "label"
    verdict: Verdict
    reason: str
    metrics: tuple[MetricTest, ...] = Field(min_length=1)
    slices: tuple[SliceTest, ...] = ()
    fail_on_harm: bool = False
    top_10_overlap: float | None = Field(default=None, ge=0, le=1)
    multiplicity: Multiplicity | None = None
    split_uses: int = Field(default=1, ge=1)
    shortfalls: tuple[str, ...] = ()
    rows: int
    positives: int
    negatives: int
    clusters: dict[str, int]
    score_difference_max: float
    identical_score_share: float
    seed: int
    resamples: int
    provenance: dict[str, str]
    created: AwareDatetime
    environment: dict[str, str | int | float]

    @property
    def passed(self) -> bool:
        """Whether the variant may be served at these margins."""
        return self.verdict == "pass"

    @property
    def judged(self) -> tuple[MetricTest, ...]:
        """The metrics that decide."""
        return tuple(test for test in self.metrics if test.judged)

    @property
    def harmed(self) -> tuple[SliceTest, ...]:
        """The slices that are harmed."""
        return tuple(test for test in self.slices if test.harmed)

    @property
    def p_value(self) -> float:
        """That of the null "some metric is worse by its margin or more": the largest (intersection-union); 1 where
        there is too little data."""
        if self.shortfalls:
            return 1.0
        # A metric that is judged has one; without it nothing would be refuted.
        return max(1.0 if test.p_value is None else test.p_value for test in self.judged)

    @property
    def deciding_metric(self) -> MetricTest:
        """The judged metric with the largest p-value; of several the first."""
        return max(self.judged, key=lambda test: 1.0 if test.p_value is None else test.p_value)

    @property
    def smallest_margin(self) -> float | None:
        """The variant passes at every margin of AUC above this one, all other margins scaled with it.

        Calibration's margin stays as it is. None where no margin makes it pass (calibration, too little data), and
        where harm of slices can fail it, which is tested anew at every margin.
        """
        fixed = [test for test in self.judged if test.name not in SCALED]
        if self.shortfalls or (self.fail_on_harm and self.slices) or any(test.verdict != "pass" for test in fixed):
            return None
        scaled = [(test.ci_low, test.margin) for test in self.judged if test.name in SCALED]
        return max(0.0, *(-low * self.margin / margin for low, margin in scaled if margin is not None))

    def metric_test(self, name: MetricName) -> MetricTest | None:
        """The test of one metric, if the certificate has it."""
        return next((test for test in self.metrics if test.name == name), None)

    # What is asked most often is the AUC's; `metric` names whose figures these are.
    metric: ClassVar[MetricName] = "auc"

    @property
    def auc(self) -> MetricTest:
        """The test of AUC: every certificate has it, first, and judges it."""
        return self.metrics[0]

    @property
    def baseline_value(self) -> float:
        """AUC of the baseline."""
        return self.auc.baseline

    @property
    def variant_value(self) -> float:
        """AUC of the variant."""
        return self.auc.variant

    @property
    def delta(self) -> float:
        """AUC of the variant minus the baseline's."""
        return self.auc.delta

    @property
    def se(self) -> float:
        """Standard error of the difference of AUC."""
        return self.auc.se

    @property
    def ci_low(self) -> float:
        """One-sided 95 % lower bound of the difference of AUC."""
        return self.auc.ci_low

    @property
    def ci_high(self) -> float:
        """One-sided 95 % upper bound of the difference of AUC."""
        return self.auc.ci_high

    @property
    def margin(self) -> float:
        """Margin of AUC, which always has one."""
        return math.inf if self.auc.margin is None else self.auc.margin

    @property
    def power(self) -> float:
        """Chance that AUC passes if there is truly no difference."""
        return self.auc.power or 0.0

    @model_validator(mode="after")
    def _verdict_follows_from_parts(self) -> Self:
        if self.metrics[0].name != "auc" or not self.metrics[0].judged:
            raise ValueError("the first metric must be AUC, with a margin")
        if self.multiplicity is not None and self.multiplicity.p_value < self.p_value:
            raise ValueError("the p-value among several variants cannot be below the certificate's own")
        harmed = self.fail_on_harm and bool(self.harmed)
        unsettled = bool(self.shortfalls) or (self.multiplicity is not None and not self.multiplicity.passed)
        allowed = overall([test.verdict for test in self.judged if test.verdict], harmed=harmed)
        if self.verdict != "inconclusive" and (self.verdict != allowed or (self.verdict == "pass" and unsettled)):
            raise ValueError(f"verdict '{self.verdict}' does not follow from the certificate's metrics and slices")
        return self


def overall(verdicts: Sequence[Verdict], *, harmed: bool = False) -> Verdict:
    """Fail if one of ``verdicts`` is, or a slice is harmed that must not be; pass if all are; else inconclusive."""
    if harmed or "fail" in verdicts:
        return "fail"
    return "pass" if all(verdict == "pass" for verdict in verdicts) else "inconclusive"
