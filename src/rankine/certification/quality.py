"""The quality certificate: is a compiled variant no worse than the baseline, by more than a margin?

Paired non-inferiority tests on held-out rows, on the scores that are actually served. The null hypothesis is "some
metric of the variant is worse by its margin or more"; it is refuted where every one-sided 95 % lower bound lies above
minus its margin. Absence of evidence is not a pass: with too little data the verdict is *inconclusive*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from rankine.certification.certificate import QualityCertificate, overall
from rankine.certification.judging import PairedRows, auc_without_variance, judge
from rankine.certification.margins import Margins, check_margin
from rankine.certification.metric_tests import Verdict, verdict_of
from rankine.certification.provenance import created_at, this_environment
from rankine.certification.reasons import reason_of
from rankine.certification.slices import Slice, harm_tests
from rankine.errors import DataError, UsageError
from rankine.grouped import top_overlap
from rankine.metrics import Floats, check_both_classes, check_finite, check_labels

__all__ = ["QualityCertificate", "Verdict", "certify_quality", "check_margin", "verdict_of"]

_LARGEST = float(np.finfo(np.float32).max)


def certify_quality(
    labels: ArrayLike,
    baseline_logits: ArrayLike,
    variant_logits: ArrayLike,
    *,
    margin: float | Margins = 0.001,
    clusters: Mapping[str, ArrayLike],
    groups: ArrayLike | None = None,
    slices: Sequence[Slice] = (),
    fail_on_harm: bool = False,
    variant: str,
    engine: str,
    task: str = "label",
    link: Literal["sigmoid", "identity"] = "sigmoid",
    provenance: Mapping[str, str],
    split_uses: int = 1,
    seed: int = 0,
    resamples: int = 2000,
    minimum_positives: int = 100,
    minimum_negatives: int = 100,
    minimum_clusters: int = 30,
    created: datetime | None = None,
    environment: Mapping[str, str | int | float] | None = None,
) -> QualityCertificate:
    """Test that ``variant`` is no worse than the baseline by the margins, on the same held-out rows.

    Args:
        labels: 0 or 1, shape ``(rows,)``.
        baseline_logits, variant_logits: shape ``(rows,)``; the variant's as its primary engine computes them.
        margin: the largest loss of AUC that is accepted, in (0, 1], the others by :meth:`Margins.of`; or all of them.
        clusters: up to two dimensions in which rows depend on each other, e.g. ``{"user": ids, "item": ids}``, ids of
            shape ``(rows,)``; empty where rows are independent.
        groups: whose lists are ranked (the user of each row), shape ``(rows,)``; None: no metrics within groups.
        slices: parts of the rows to test for harm.
        fail_on_harm: whether a harmed slice turns the verdict into a fail.
        variant, engine, task: their names.
        link: what turns the task's output into a score; only logits have an entropy and a calibration.
        provenance: hashes of the model, the data split and the recipe, and seeds.
        split_uses: how often this test split was used, this time included.
        seed, resamples: of the bootstrap.
        minimum_positives, minimum_negatives, minimum_clusters: with fewer, the verdict is inconclusive: the
            approximation behind the bounds is not to be trusted. ``minimum_clusters`` is of groups too: with fewer
            their metrics are not judged.
        created: time of the test, with a time zone; now if None.
        environment: versions and machine; those of this process if None.

    Raises:
        DataError: shapes differ, a label is not 0 or 1, a logit is not finite or beyond float32, or only one class is
            present (AUC is then not defined).
        UsageError: ``margin`` is not in (0, 1], or more than two cluster dimensions.
    """
    margins = margin if isinstance(margin, Margins) else Margins.of(margin)
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
    shortfalls = tuple(
        f"{count} {what} (minimum {least})" for what, (count, least) in minimums.items() if count < least
    )
    estimable = min(positives, negatives, *counts.values()) >= 2
    rows = PairedRows(positive, baseline, scores, clusters, groups)
    tests = (
        judge(
            rows,
            margins,
            probabilities=link == "sigmoid",
            minimum_groups=minimum_clusters,
            resamples=resamples,
            seed=seed,
        )
        if estimable
        else [auc_without_variance(rows, margins.auc)]
    )
    sliced = harm_tests(rows, slices, margins.auc) if estimable else ()
    harmed = [test for test in sliced if test.harmed] if fail_on_harm else []
    settled = overall([test.verdict for test in tests if test.verdict], harmed=bool(harmed))
    verdict: Verdict = "inconclusive" if shortfalls else settled
    difference = np.abs(scores - baseline)
    return QualityCertificate(
        variant=variant,
        engine=engine,
        task=task,
        verdict=verdict,
        reason=reason_of(verdict, tests, shortfalls, harmed),
        metrics=tuple(tests),
        slices=sliced,
        fail_on_harm=fail_on_harm,
        top_10_overlap=None if groups is None else top_overlap(baseline, scores, groups),
        split_uses=split_uses,
        shortfalls=shortfalls,
        rows=len(positive),
        positives=positives,
        negatives=negatives,
        clusters=counts,
        score_difference_max=float(difference.max()),
        identical_score_share=float((difference == 0).mean()),
        seed=seed,
        resamples=resamples,
        provenance=dict(provenance),
        created=created_at(created),
        environment=dict(this_environment() if environment is None else environment),
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
