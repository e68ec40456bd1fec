"""The parity certificate: does another engine (or device, or instruction set) give the primary engine's ranking?

The quality certificate is taken on one engine. Another engine of the same numeric form re-orders sums and rounds
differently; a check of seconds on real rows shows that it moves AUC by less than a tenth of the certified margin. An
engine with an INT8 form of its own needs a quality certificate of its own instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import AwareDatetime, Field, model_validator

from rankine.certification.provenance import created_at, this_environment
from rankine.certification.quality import check_margin
from rankine.config import Frozen
from rankine.metrics import Floats, auc, check_both_classes, check_finite, check_labels
from rankine.stats import percentile

__all__ = ["MARGIN_SHARE", "ParityCertificate", "certify_parity"]

MARGIN_SHARE = 0.1
"""The part of the certified margin that a change of engine may use up."""


class ParityCertificate(Frozen):
    """The outcome of one comparison of an engine with the primary one, on logits.

    ``auc_difference`` is the engine's AUC minus the primary engine's, on the same rows: that of the task in which it is
    largest. ``tasks`` has it for every task.
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
    admitted: bool
    reason: str
    provenance: dict[str, str]
    created: AwareDatetime
    environment: dict[str, str | int | float]

    @model_validator(mode="after")
    def _admission_follows_from_difference(self) -> Self:
        differences = (self.auc_difference, *self.tasks.values())
        if self.admitted and not all(abs(difference) < MARGIN_SHARE * self.margin for difference in differences):
            raise ValueError("'admitted' does not follow from the certificate's AUC difference and margin")
        return self


def certify_parity(
    labels: ArrayLike,
    primary_logits: ArrayLike,
    engine_logits: ArrayLike,
    *,
    margin: float,
    variant: str,
    engine: str,
    device: str,
    instruction_set: str,
    reference_engine: str,
    tasks: Sequence[str] = ("label",),
    provenance: Mapping[str, str],
    minimum_positives: int = 100,
    minimum_negatives: int = 100,
    created: datetime | None = None,
    environment: Mapping[str, str | int | float] | None = None,
) -> ParityCertificate:
    """Compare ``engine`` with the primary engine: admitted when ``|AUC difference| < margin / 10``.

    Args:
        labels: 0 or 1, shape ``(rows,)``, or ``(rows, tasks)`` of several tasks.
        primary_logits, engine_logits: scores of the same variant on the same rows, in the labels' shape.
        tasks: their names, one a column.
        margin: the margin of the variant's quality certificate, in (0, 1].
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
    check_margin(margin)
    columns = (_columns(values) for values in (labels, primary_logits, engine_logits))
    found = [_compare(*parts, engines=(reference_engine, engine)) for _, *parts in zip(tasks, *columns, strict=True)]
    by_task = {task: part.auc_difference for task, part in zip(tasks, found, strict=True)}
    auc_difference = max(by_task.values(), key=abs)
    positives, negatives = min(part.positives for part in found), min(part.negatives for part in found)
    difference = np.concatenate([part.score_difference for part in found])
    enough = positives >= minimum_positives and negatives >= minimum_negatives
    allowed = MARGIN_SHARE * margin
    admitted = enough and abs(auc_difference) < allowed
    if enough:
        relation = "under" if admitted else "not under"
        reason = f"AUC differs by {auc_difference:+.2e}, {relation} the {allowed:.2e} that a change of engine may use."
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
        margin=margin,
        admitted=admitted,
        reason=reason,
        provenance=dict(provenance),
        created=created_at(created),
        environment=dict(this_environment() if environment is None else environment),
    )


@dataclass(frozen=True, slots=True)
class _TaskParity:
    """One task's part of a comparison; ``score_difference`` is ``(rows,)``."""

    auc_difference: float
    score_difference: Floats
    positives: int
    negatives: int


def _columns(values: ArrayLike) -> list[np.ndarray]:
    """One array ``(rows,)`` a task."""
    array = np.asarray(values)
    return list(array.T) if array.ndim == 2 else [array]


def _compare(
    labels: np.ndarray, primary_logits: np.ndarray, engine_logits: np.ndarray, *, engines: tuple[str, str]
) -> _TaskParity:
    positive = check_labels(labels)
    primary = check_finite(primary_logits, len(positive), where=f"logits of {engines[0]}")
    scores = check_finite(engine_logits, len(positive), where=f"logits of {engines[1]}")
    positives, negatives = check_both_classes(positive)
    auc_difference = auc(positive, scores) - auc(positive, primary)
    return _TaskParity(auc_difference, np.abs(scores - primary), positives, negatives)
