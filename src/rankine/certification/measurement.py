"""What a certificate rests on: everything that the margins do not change, computed once for as many as are tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from rankine.certification.certificate import QualityCertificate, overall
from rankine.certification.judging import Measured, PairedRows, judge, measure, measure_auc_without_variance
from rankine.certification.margins import Margins
from rankine.certification.metric_tests import Verdict
from rankine.certification.provenance import created_at, this_environment
from rankine.certification.reasons import reason_of
from rankine.certification.slices import MeasuredSlice, Slice, harm_tests, measure_slices
from rankine.errors import DataError, UsageError
from rankine.grouped import top_overlap
from rankine.metrics import Floats, check_both_classes, check_finite, check_labels

__all__ = ["Measurement", "measure_quality"]

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """Two models on the same rows, before any margin; the fields are those of a :class:`QualityCertificate`."""

    metrics: Sequence[Measured]
    slices: Sequence[MeasuredSlice]
    top_10_overlap: float | None
    shortfalls: tuple[str, ...]
    positives: int
    negatives: int
    clusters: dict[str, int]
    score_difference_max: float
    identical_score_share: float
    seed: int
    resamples: int

    def certificate(
        self,
        margins: Margins,
        *,
        variant: str,
        engine: str,
        task: str = "label",
        provenance: Mapping[str, str],
        split_uses: int = 1,
        fail_on_harm: bool = False,
        created: datetime | None = None,
        environment: Mapping[str, str | int | float] | None = None,
    ) -> QualityCertificate:
        """The verdict at these margins; the arguments are those of
        :func:`~rankine.certification.quality.certify_quality`."""
        tests, slices = judge(self.metrics, margins), harm_tests(self.slices, margins.auc)
        harmed = [test for test in slices if test.harmed] if fail_on_harm else []
        settled = overall([test.verdict for test in tests if test.verdict], harmed=bool(harmed))
        verdict: Verdict = "inconclusive" if self.shortfalls else settled
        return QualityCertificate(
            variant=variant,
            engine=engine,
            task=task,
            verdict=verdict,
            reason=reason_of(verdict, tests, self.shortfalls, harmed),
            metrics=tuple(tests),
            slices=slices,
            fail_on_harm=fail_on_harm,
            top_10_overlap=self.top_10_overlap,
            split_uses=split_uses,
            shortfalls=self.shortfalls,
            rows=self.positives + self.negatives,
            positives=self.positives,
            negatives=self.negatives,
            clusters=self.clusters,
            score_difference_max=self.score_difference_max,
            identical_score_share=self.identical_score_share,
            seed=self.seed,
            resamples=self.resamples,
            provenance=dict(provenance),
            created=created_at(created),
            environment=dict(this_environment() if environment is None else environment),
        )


def measure_quality(
    labels: ArrayLike,
    baseline_logits: ArrayLike,
    variant_logits: ArrayLike,
    *,
    clusters: Mapping[str, ArrayLike],
    groups: ArrayLike | None = None,
    slices: Sequence[Slice] = (),
    link: Literal["sigmoid", "identity"] = "sigmoid",
    seed: int = 0,
    resamples: int = 2000,
    minimum_positives: int = 100,
    minimum_negatives: int = 100,
    minimum_clusters: int = 30,
) -> Measurement:
    """Compare two models on the same held-out rows; arguments and errors are those of
    :func:`~rankine.certification.quality.certify_quality`."""
    if len(clusters) > 2:
        allowed = "0, 1 or 2 (user, item)"
        raise UsageError("too many cluster dimensions", where="clusters", got=", ".join(clusters), allowed=allowed)
    positive = check_labels(labels)
    baseline = _checked(baseline_logits, len(positive), where="baseline logits")
    scores = _checked(variant_logits, len(positive), where="variant logits")
    positives, negatives = check_both_classes(positive)
    counts = {name: _count(name, ids, len(positive)) for name, ids in clusters.items()}
    minimums = {"positive rows": (positives, minimum_positives), "negative rows": (negatives, minimum_negatives)}
    minimums |= {f"clusters by {name}": (count, minimum_clusters) for name, count in counts.items()}
    rows = PairedRows(positive, baseline, scores, clusters, groups)
    estimable = min(positives, negatives, *counts.values()) >= 2
    metrics = (
        measure(rows, probabilities=link == "sigmoid", minimum_groups=minimum_clusters, resamples=resamples, seed=seed)
        if estimable
        else (measure_auc_without_variance(rows),)
    )
    difference = np.abs(scores - baseline)
    return Measurement(
        metrics=metrics,
        slices=measure_slices(rows, slices) if estimable else (),
        top_10_overlap=None if groups is None else top_overlap(baseline, scores, groups),
        shortfalls=tuple(
            f"{count} {what} (minimum {least})" for what, (count, least) in minimums.items() if count < least
        ),
        positives=positives,
        negatives=negatives,
        clusters=counts,
        score_difference_max=float(difference.max()),
        identical_score_share=float((difference == 0).mean()),
        seed=seed,
        resamples=resamples,
    )


def _checked(logits: ArrayLike, rows: int, *, where: str) -> Floats:
    """Logits in the range of float32, in which models score: differences and sums of larger ones would overflow."""
    values = check_finite(logits, rows, where=where)
    largest = float(np.abs(values).max())
    if largest > _LARGEST:
        hint = "Divide all scores by one number: the order of rows stays."
        raise DataError("must be within float32", where=where, got=f"{largest:g}", allowed=f"{_LARGEST:g}", hint=hint)
    return values


def _count(name: str, ids: ArrayLike, rows: int) -> int:
    """The number of clusters in one dimension."""
    values = np.asarray(ids)
    if values.shape != (rows,):
        raise DataError("must have one id a row", where=f"clusters.{name}", got=f"shape {values.shape}")
    try:
        return len(np.unique(values))
    except TypeError:
        raise DataError("ids must be of one kind, none missing", where=f"clusters.{name}") from None
