"""The parity certificate: does another engine (or device, or instruction set) give the primary engine's ranking?

The quality certificate is taken on one engine. Another engine of the same numeric form re-orders sums and rounds
differently; a check of seconds on real rows shows that it moves AUC, and every other metric that the quality
certificate judges, by less than a tenth of its margin. AUC alone would admit an engine that keeps the order and spoils
the probabilities. An engine with an INT8 form of its own needs a quality certificate of its own instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import AwareDatetime, Field, model_validator

from rankine.certification.judging import PairedRows, judge, measure_groups
from rankine.certification.margins import Margins, MetricName
from rankine.certification.provenance import created_at, this_environment
from rankine.certification.reasons import TITLES
from rankine.config import Frozen
from rankine.metrics import Floats, auc, check_both_classes, check_finite, check_labels, row_log_loss, sigmoid
from rankine.stats import percentile

__all__ = ["MARGIN_SHARE", "ParityCertificate", "certify_parity"]

MARGIN_SHARE = 0.1
"""The part of the certified margin that a change of engine may use up."""
_TINY = 1e-12
"""Where no loss, or no probability, is left to divide by."""


class ParityCertificate(Frozen):
    """The outcome of one comparison of an engine with the primary one, on logits.

    ``auc_difference`` is the engine's AUC minus the primary engine's, on the same rows: that of the task in which it is
    largest. ``tasks`` has it for every task. ``metrics`` has the other differences, of the task in which each is
    largest, for all that ``margins`` judges: normalized entropy (relative), the logarithm of the mean prediction (for
    calibration: the observed rate is the same), group AUC, NDCG@10.
    """

    schema_version: Literal[1] = 1
    kind: Literal["parity"] = "parity"
    variant: str
    engine: str
    device: str
    instruction_set: str
    reference_engine: str
    rows: int
    score_difference_max: float
    score_difference_p99: float
    auc_difference: float
    tasks: dict[str, float] = Field(default_factory=dict)
    margin: float = Field(gt=0)
    metrics: dict[MetricName, float] = Field(default_factory=dict)
    margins: dict[MetricName, float] = Field(default_factory=dict)
    admitted: bool
    reason: str
    provenance: dict[str, str]
    created: AwareDatetime
    environment: dict[str, str | int | float]

    @model_validator(mode="after")
    def _admission_follows_from_difference(self) -> Self:
        if self.metrics.keys() != self.margins.keys():
            raise ValueError("every metric has a margin")
        found = [(difference, self.margin) for difference in (self.auc_difference, *self.tasks.values())]
        found += [(difference, self.margins[name]) for name, difference in self.metrics.items()]
        if self.admitted and not all(abs(difference) < MARGIN_SHARE * margin for difference, margin in found):
            raise ValueError("'admitted' does not follow from the certificate's differences and margins")
        return self


def certify_parity(
    labels: ArrayLike,
    primary_logits: ArrayLike,
    engine_logits: ArrayLike,
    *,
    margin: float | Margins,
    variant: str,
    engine: str,
    device: str,
    instruction_set: str,
    reference_engine: str,
    tasks: Sequence[str] = ("label",),
    links: Sequence[Literal["sigmoid", "identity"]] = ("sigmoid",),
    groups: ArrayLike | None = None,
    provenance: Mapping[str, str],
    minimum_positives: int = 100,
    minimum_negatives: int = 100,
    created: datetime | None = None,
    environment: Mapping[str, str | int | float] | None = None,
) -> ParityCertificate:
    """Compare ``engine`` with the primary one: admitted when every metric differs by less than a tenth of its margin.

    Args:
        labels: 0 or 1, shape ``(rows,)``, or ``(rows, tasks)`` of several tasks.
        primary_logits, engine_logits: scores of the same variant on the same rows, in the labels' shape.
        tasks, links: their names and what turns each into a score, one a column.
        groups: whose lists are ranked (the user of each row), shape ``(rows,)``; None: no metrics within groups.
        margin: that of AUC in the variant's quality certificate, in (0, 1], the others by :meth:`Margins.of`; or all.
        variant, engine, device, instruction_set: what was run, e.g. ``"openvino", "cpu", "avx512_vnni"``.
        reference_engine: the primary engine's name.
        provenance: hashes of the artifact and of the rows.
        minimum_positives, minimum_negatives: with fewer the engine is not admitted: AUC of a handful of rows does
            not move however the scores do.
        created: time of the check, with a time zone; now if None.
        environment: versions and machine; those of this process if None.

    Raises:
        DataError: shapes differ, a label is not 0 or 1, a logit is not finite, or only one class is present.
        UsageError: ``margin`` is not in (0, 1].
    """
    margins = margin if isinstance(margin, Margins) else Margins.of(margin)
    columns = (_columns(values) for values in (labels, primary_logits, engine_logits))
    found = [
        _compare(*parts, link=link, groups=groups, margins=margins, engines=(reference_engine, engine))
        for _, link, *parts in zip(tasks, links, *columns, strict=True)
    ]
    by_task = {task: part.auc_difference for task, part in zip(tasks, found, strict=True)}
    auc_difference = max(by_task.values(), key=abs)
    others = _largest([part.others for part in found])
    judged = {name: margins.judged[name] for name in others}
    positives, negatives = min(part.positives for part in found), min(part.negatives for part in found)
    difference = np.concatenate([part.score_difference for part in found])
    enough = positives >= minimum_positives and negatives >= minimum_negatives
    differences: dict[MetricName, float] = {"auc": auc_difference, **others}
    allowed: dict[MetricName, float] = {"auc": margins.auc, **judged}
    admitted = enough and all(abs(differences[name]) < MARGIN_SHARE * allowed[name] for name in allowed)
    if enough:
        reason = _reason(differences, allowed, admitted=admitted)
    else:
        needed = f"{minimum_positives} and {minimum_negatives}"
        reason = f"Too little data: {positives} positive and {negatives} negative rows, where {needed} are needed."
    return ParityCertificate(
        variant=variant,
        engine=engine,
        device=device,
        instruction_set=instruction_set,
        reference_engine=reference_engine,
        rows=len(found[0].score_difference),
        score_difference_max=float(difference.max()),
        score_difference_p99=percentile(difference, 99),
        auc_difference=auc_difference,
        tasks=by_task,
        margin=margins.auc,
        metrics=others,
        margins=judged,
        admitted=admitted,
        reason=reason,
        provenance=dict(provenance),
        created=created_at(created),
        environment=dict(this_environment() if environment is None else environment),
    )


@dataclass(frozen=True, slots=True)
class _TaskParity:
    """One task's part of a comparison; ``score_difference`` is ``(rows,)``, ``others`` are differences by metric."""

    auc_difference: float
    others: Mapping[MetricName, float]
    score_difference: Floats
    positives: int
    negatives: int


def _columns(values: ArrayLike) -> list[np.ndarray]:
    """One array ``(rows,)`` a task."""
    array = np.asarray(values)
    return list(array.T) if array.ndim == 2 else [array]


def _compare(
    labels: np.ndarray,
    primary_logits: np.ndarray,
    engine_logits: np.ndarray,
    *,
    link: str,
    groups: ArrayLike | None,
    margins: Margins,
    engines: tuple[str, str],
) -> _TaskParity:
    positive = check_labels(labels)
    primary = check_finite(primary_logits, len(positive), where=f"logits of {engines[0]}")
    scores = check_finite(engine_logits, len(positive), where=f"logits of {engines[1]}")
    positives, negatives = check_both_classes(positive)
    auc_difference = auc(positive, scores) - auc(positive, primary)
    rows = PairedRows(positive, primary, scores, {}, groups)
    others = _of_probabilities(rows, margins) if link == "sigmoid" else {}
    others |= {test.name: test.delta for test in judge(measure_groups(rows), margins) if test.judged}
    return _TaskParity(auc_difference, others, np.abs(scores - primary), positives, negatives)


def _of_probabilities(rows: PairedRows, margins: Margins) -> dict[MetricName, float]:
    """Relative difference of normalized entropy and difference of the log calibration, where they are judged."""
    loss, other = (float(row_log_loss(rows.positive, scores).mean()) + _TINY for scores in (rows.a, rows.b))
    mean, other_mean = (float(sigmoid(scores).mean()) + _TINY for scores in (rows.a, rows.b))
    found: dict[MetricName, float] = {
        "normalized_entropy": (other - loss) / loss,
        "calibration": float(np.log(other_mean / mean)),
    }
    return {name: difference for name, difference in found.items() if name in margins.judged}


def _largest(found: Sequence[Mapping[MetricName, float]]) -> dict[MetricName, float]:
    """By metric, the largest difference of all tasks that have it."""
    names = dict.fromkeys(name for differences in found for name in differences)
    return {name: max((each[name] for each in found if name in each), key=abs) for name in names}


def _reason(differences: Mapping[MetricName, float], margins: Mapping[MetricName, float], *, admitted: bool) -> str:
    """On the AUC where all metrics are within, else on the one that is furthest out."""
    name: MetricName = "auc" if admitted else max(margins, key=lambda name: abs(differences[name]) / margins[name])
    relation = "under" if admitted else "not under"
    others = ", ".join(TITLES[other] for other in margins if other != "auc") if admitted else ""
    return (
        f"{TITLES[name]} differs by {differences[name]:+.2e}, {relation} the {MARGIN_SHARE * margins[name]:.2e} that a "
        f"change of engine may use{f'; so do {others} with theirs' if others else ''}."
    )
