"""The quality certificate: is a compiled variant no worse than the baseline, by more than a margin?

A paired non-inferiority test on held-out rows, on the scores that are actually served. The null hypothesis is "the
variant's AUC is lower by the margin or more"; a one-sided 95 % lower bound above ``-margin`` rejects it. Absence of
evidence is not a pass: with too little data the verdict is *inconclusive*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import AwareDatetime, Field, model_validator

from rankine.certification.provenance import created_at, this_environment
from rankine.config import Frozen
from rankine.errors import DataError, UsageError
from rankine.metrics import (
    Bools,
    Floats,
    auc,
    calibration_ratio,
    check_both_classes,
    check_finite,
    check_labels,
    row_log_loss,
    sigmoid,
)
from rankine.stats import (
    lower_bound,
    minimum_detectable,
    paired_delong,
    paired_log_ratio,
    paired_mean,
    power_at_zero,
    upper_bound,
)

__all__ = ["CalibrationComparison", "LossComparison", "QualityCertificate", "Verdict", "certify_quality", "verdict_of"]

Verdict = Literal["pass", "fail", "inconclusive"]


class LossComparison(Frozen):
    """Log loss in nats; ``delta`` is variant minus baseline, ``ci_high`` its one-sided 95 % upper bound.

    ``ci_high`` is None where there are too few rows or clusters to estimate a variance.
    """

    baseline: float
    variant: float
    delta: float
    ci_high: float | None


class CalibrationComparison(Frozen):
    """Mean prediction over observed rate; ``log_delta`` is ``log(variant / baseline)``, ``log_delta_se`` its error.

    Both are None where they cannot be estimated (all predictions of a model underflow to 0, or too few clusters).
    """

    baseline: float
    variant: float
    log_delta: float | None
    log_delta_se: float | None


class QualityCertificate(Frozen):
    """The outcome of one test of one task of one variant on its primary engine.

    ``baseline``, ``variant_value`` and ``delta`` (variant minus baseline) are of ``metric``; ``ci_low`` and ``ci_high``
    are one-sided 95 % bounds of ``delta``; ``power`` is the chance of a pass at this standard error if there is truly
    no difference. ``score_difference_max`` and ``identical_score_share`` compare logits row by row. Log loss
    and calibration are of probabilities: None where the task's link is not the sigmoid.
    """

    schema_version: Literal[1] = 1
    kind: Literal["quality"] = "quality"
    variant: str
    engine: str
    task: str = "label"
    verdict: Verdict
    reason: str
    metric: Literal["auc"] = "auc"
    baseline_value: float
    variant_value: float
    delta: float
    ci_low: float
    ci_high: float
    se: float = Field(ge=0)
    margin: float = Field(gt=0)
    power: float = Field(ge=0, le=1)
    method: str
    rows: int
    positives: int
    negatives: int
    clusters: dict[str, int]
    log_loss: LossComparison | None
    calibration_ratio: CalibrationComparison | None
    score_difference_max: float
    identical_score_share: float
    provenance: dict[str, str]
    created: AwareDatetime
    environment: dict[str, str | int | float]

    @property
    def passed(self) -> bool:
        """Whether the variant may be served at this margin."""
        return self.verdict == "pass"

    @model_validator(mode="after")
    def _verdict_follows_from_bounds(self) -> Self:
        # A certificate is a file that people can edit; one whose verdict its own numbers do not support is refused.
        if self.verdict not in ("inconclusive", verdict_of(self.ci_low, self.ci_high, self.margin)):
            raise ValueError(f"verdict '{self.verdict}' does not follow from the certificate's bounds and margin")
        return self


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The AUC's part of a certificate, before its verdict."""

    auc_baseline: float
    auc_variant: float
    se: float
    ci_low: float
    ci_high: float
    method: str


def certify_quality(
    labels: ArrayLike,
    baseline_logits: ArrayLike,
    variant_logits: ArrayLike,
    *,
    margin: float = 0.001,
    clusters: Mapping[str, ArrayLike],
    variant: str,
    engine: str,
    task: str = "label",
    link: Literal["sigmoid", "identity"] = "sigmoid",
    provenance: Mapping[str, str],
    minimum_positives: int = 100,
    minimum_negatives: int = 100,
    minimum_clusters: int = 30,
    created: datetime | None = None,
    environment: Mapping[str, str | int | float] | None = None,
) -> QualityCertificate:
    """Test that ``variant`` ranks no worse than the baseline by ``margin`` AUC, on the same held-out rows.

    Args:
        labels: 0 or 1, shape ``(rows,)``.
        baseline_logits, variant_logits: shape ``(rows,)``; the variant's as its primary engine computes them.
        margin: the largest loss of AUC that is accepted, in (0, 1].
        clusters: up to two dimensions in which rows depend on each other, e.g. ``{"user": ids, "item": ids}``, ids of
            shape ``(rows,)``; empty where rows are independent.
        variant, engine, task: their names.
        link: what turns the task's output into a score; only logits have a log loss and a calibration.
        provenance: hashes of the model, the data split and the recipe, and seeds.
        minimum_positives, minimum_negatives, minimum_clusters: with fewer, the verdict is inconclusive: the normal
            approximation behind the bounds is not to be trusted.
        created: time of the test, with a time zone; now if None.
        environment: versions and machine; those of this process if None.

    Raises:
        DataError: shapes differ, a label is not 0 or 1, a logit is not finite, or only one class is present (AUC is
            then not defined).
        UsageError: ``margin`` is not in (0, 1], or more than two cluster dimensions.
    """
    check_margin(margin)
    if len(clusters) > 2:
        allowed = "0, 1 or 2 (user, item)"
        raise UsageError("too many cluster dimensions", where="clusters", got=", ".join(clusters), allowed=allowed)
    positive = check_labels(labels)
    baseline = check_finite(baseline_logits, len(positive), where="baseline logits")
    scores = check_finite(variant_logits, len(positive), where="variant logits")
    positives, negatives = check_both_classes(positive)
    counts = {name: _count(name, ids, len(positive)) for name, ids in clusters.items()}
    # Below two of anything there is no variance to estimate, above it there is one, if perhaps not a good one.
    estimable = min(positives, negatives, *counts.values()) >= 2
    dimensions = tuple(clusters.values()) if estimable else None
    compared = _compare(positive, baseline, scores, dimensions, tuple(clusters))
    minimums = {"positive rows": (positives, minimum_positives), "negative rows": (negatives, minimum_negatives)}
    minimums |= {f"clusters by {name}": (count, minimum_clusters) for name, count in counts.items()}
    verdict, reason = _judge(compared, margin, minimums)
    difference = np.abs(scores - baseline)
    return QualityCertificate(
        variant=variant,
        engine=engine,
        task=task,
        verdict=verdict,
        reason=reason,
        baseline_value=compared.auc_baseline,
        variant_value=compared.auc_variant,
        delta=compared.auc_variant - compared.auc_baseline,
        ci_low=compared.ci_low,
        ci_high=compared.ci_high,
        se=compared.se,
        margin=margin,
        power=power_at_zero(compared.se, margin),
        method=compared.method,
        rows=len(positive),
        positives=positives,
        negatives=negatives,
        clusters=counts,
        log_loss=_compare_loss(positive, baseline, scores, dimensions) if link == "sigmoid" else None,
        calibration_ratio=(_compare_calibration(positive, baseline, scores, dimensions) if link == "sigmoid" else None),
        score_difference_max=float(difference.max()),
        identical_score_share=float((difference == 0).mean()),
        provenance=dict(provenance),
        created=created_at(created),
        environment=dict(this_environment() if environment is None else environment),
    )


def verdict_of(ci_low: float, ci_high: float, margin: float) -> Verdict:
    """Pass if the difference is surely above ``-margin``, fail if it is surely below, otherwise inconclusive."""
    if ci_low > -margin:
        return "pass"
    return "fail" if ci_high < -margin else "inconclusive"


def check_margin(margin: float) -> None:
    """Raise :class:`~rankine.errors.UsageError` unless ``margin`` is a difference of AUC in (0, 1]."""
    if not 0 < margin <= 1:
        raise UsageError(
            "must be a difference of AUC above zero",
            where="margin",
            got=margin,
            allowed="0 < margin <= 1",
            hint="0.001 is a tenth of an AUC point; no finite sample can show a margin of zero.",
        )


def _compare(
    positive: Bools, baseline: Floats, scores: Floats, dimensions: Sequence[ArrayLike] | None, names: tuple[str, ...]
) -> _Comparison:
    if dimensions is None:
        # |delta| <= 1, so 1 bounds its standard error and [-1, 1] is a true, if useless, interval.
        method = "none: fewer than two rows of a class or two clusters"
        return _Comparison(auc(positive, baseline), auc(positive, scores), 1.0, -1.0, 1.0, method)
    paired = paired_delong(positive, baseline, scores, dimensions)
    method = f"paired DeLong, {paired.method}" + (f" by {' and '.join(names)}" if names else "")
    low, high = lower_bound(paired.delta, paired.se), upper_bound(paired.delta, paired.se)
    return _Comparison(paired.auc_a, paired.auc_b, paired.se, low, high, method)


def _compare_loss(
    positive: Bools, baseline: Floats, scores: Floats, dimensions: Sequence[ArrayLike] | None
) -> LossComparison:
    losses, variant_losses = row_log_loss(positive, baseline), row_log_loss(positive, scores)
    means = float(losses.mean()), float(variant_losses.mean())
    ci_high = None
    if dimensions is not None:
        paired = paired_mean(variant_losses - losses, dimensions)
        ci_high = upper_bound(paired.estimate, paired.se)
    return LossComparison(baseline=means[0], variant=means[1], delta=means[1] - means[0], ci_high=ci_high)


def _compare_calibration(
    positive: Bools, baseline: Floats, scores: Floats, dimensions: Sequence[ArrayLike] | None
) -> CalibrationComparison:
    ratios = calibration_ratio(positive, baseline), calibration_ratio(positive, scores)
    log_delta = math.log(ratios[1] / ratios[0]) if min(ratios) > 0 else None
    error = None
    if log_delta is not None and dimensions is not None:
        error = paired_log_ratio(sigmoid(baseline), sigmoid(scores), dimensions).se
    return CalibrationComparison(baseline=ratios[0], variant=ratios[1], log_delta=log_delta, log_delta_se=error)


def _above(bound: float) -> str:
    """A bound to five digits, rounded so that it still holds."""
    return f"{math.ceil(bound * 1e5) / 1e5:.5f}"


def _judge(compared: _Comparison, margin: float, minimums: Mapping[str, tuple[int, int]]) -> tuple[Verdict, str]:
    """The verdict, and one sentence that gives its reason."""
    short = [f"{count} {what} (minimum {least})" for what, (count, least) in minimums.items() if count < least]
    if short:
        return "inconclusive", f"Too little data for a verdict: {', '.join(short)}."
    verdict = verdict_of(compared.ci_low, compared.ci_high, margin)
    if verdict == "pass":
        shown = f"falls by less than {_above(-compared.ci_low)}" if compared.ci_low < 0 else "does not fall"
        return verdict, f"With 95 % confidence AUC {shown}, which is within the margin of {margin:g}."
    if verdict == "fail":
        shown = f"falls by more than {-compared.ci_high:.5f}"
        return verdict, f"With 95 % confidence AUC {shown}, which is over the margin of {margin:g}."
    detectable = minimum_detectable(compared.se)
    return verdict, (
        f"The 95 % bounds {compared.ci_low:+.5f} and {compared.ci_high:+.5f} lie on both sides of the margin of "
        f"{margin:g}; rows like these can show a margin of {detectable:.5f} (80 % power)."
    )


def _count(name: str, ids: ArrayLike, rows: int) -> int:
    """The number of clusters in one dimension."""
    values = np.asarray(ids)
    if values.shape != (rows,):
        raise DataError("must have one id a row", where=f"clusters.{name}", got=f"shape {values.shape}")
    try:
        return len(np.unique(values))
    except TypeError:
        raise DataError("ids must be of one kind, none missing", where=f"clusters.{name}") from None
