"""The quality certificate: is a compiled variant no worse than the baseline, by more than a margin?

Paired non-inferiority tests on held-out rows, on the scores that are actually served. The null hypothesis is "some
metric of the variant is worse by its margin or more"; it is refuted where every one-sided 95 % lower bound lies above
minus its margin. Absence of evidence is not a pass: with too little data the verdict is *inconclusive*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from numpy.typing import ArrayLike

from rankine.certification.certificate import QualityCertificate
from rankine.certification.margins import Margins, check_margin
from rankine.certification.measurement import measure_quality
from rankine.certification.metric_tests import Verdict, verdict_of
from rankine.certification.slices import Slice

__all__ = ["QualityCertificate", "Verdict", "certify_quality", "check_margin", "verdict_of"]


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
    measured = measure_quality(
        labels,
        baseline_logits,
        variant_logits,
        clusters=clusters,
        groups=groups,
        slices=slices,
        link=link,
        seed=seed,
        resamples=resamples,
        minimum_positives=minimum_positives,
        minimum_negatives=minimum_negatives,
        minimum_clusters=minimum_clusters,
    )
    return measured.certificate(
        margins,
        variant=variant,
        engine=engine,
        task=task,
        provenance=provenance,
        split_uses=split_uses,
        fail_on_harm=fail_on_harm,
        created=created,
        environment=environment,
    )
