"""Several variants on one test split: the order in which they are tested, and what each verdict then is.

A fixed sequence stops at the first variant that does not pass, so the one most likely to pass comes first. A pass needs
every metric: a variant that ranks well and is badly calibrated does not pass, whatever its AUC. So the order comes from
the certificate itself, taken on validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rankine.artifact import Artifact
from rankine.certification.certificate import QualityCertificate
from rankine.certification.multiplicity import Multiplicity, Procedure, fixed_sequence, holm
from rankine.certification.plan import Pair
from rankine.certification.trial import Trial
from rankine.config import parse
from rankine.metrics import auc

__all__ = ["Outlook", "apply_procedure", "auc_change", "order_of", "outlook_of"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What validation rows say of a pair, of the task that does worst: p-value of its certificate, change of AUC."""

    p_value: float
    auc_change: float


def outlook_of(trial: Trial, artifact: Artifact, pair: Pair, logits: np.ndarray) -> Outlook:
    """How likely a pair is to pass, from a certificate that nobody sees.

    The p-value is 1 where the rows are too few for a certificate, as it then is for every pair.

    Args:
        trial: on validation rows.
        logits: the pair's, ``(rows, tasks)``.

    Raises:
        DataError: a logit is not finite.
    """
    labels = trial.rows.labels
    testable = len(_tasks_with_both(labels)) == labels.shape[1]
    p_value = max(found.p_value for found in trial.quality(artifact, pair, logits)) if testable else 1.0
    return Outlook(p_value, auc_change(labels, trial.baseline, logits))


def auc_change(labels: np.ndarray, baseline: np.ndarray, logits: np.ndarray) -> float:
    """Change of AUC from the baseline's, of the task that loses most; all arrays ``(rows, tasks)``.

    A task with one class says nothing; without any other the change is 0.
    """
    changes = [
        auc(labels[:, task], logits[:, task]) - auc(labels[:, task], baseline[:, task])
        for task in _tasks_with_both(labels)
    ]
    return min(changes, default=0.0)


def order_of(outlooks: Mapping[Pair, Outlook]) -> list[Pair]:
    """The likeliest to pass first: by p-value on validation rows; where that is the same by the AUC that is lost there,
    then by name."""
    return sorted(outlooks, key=lambda pair: (outlooks[pair].p_value, -outlooks[pair].auc_change, pair))


def apply_procedure(
    found: Mapping[Pair, Sequence[QualityCertificate]], procedure: Procedure, order: Sequence[Pair]
) -> dict[Pair, list[QualityCertificate]]:
    """Certificates with the procedure over all pairs in them; one that passed alone and not under it is inconclusive.

    With one pair there is nothing to adjust. With several tasks the p-value of a pair is its largest.

    Args:
        found: certificates a task, by (variant, engine).
        order: all pairs, in the order fixed before the test; Holm's procedure only reports it.
    """
    if len(order) < 2:
        return {pair: list(found[pair]) for pair in order}
    p_values = [max(certificate.p_value for certificate in found[pair]) for pair in order]
    adjusted = (fixed_sequence if procedure == "fixed-sequence" else holm)(p_values)
    names = tuple(f"{variant} on {engine}" for variant, engine in order)
    result = {}
    for place, pair in enumerate(order):
        taken = Multiplicity(
            procedure=procedure,
            order=names,
            position=place + 1,
            p_value=p_values[place],
            p_adjusted=adjusted.p_adjusted[place],
        )
        result[pair] = [_with(certificate, taken) for certificate in found[pair]]
    return result


def _tasks_with_both(labels: np.ndarray) -> list[int]:
    """The columns of labels ``(rows, tasks)`` that have both classes."""
    return [task for task, values in enumerate(labels.T) if 0 < values.sum() < len(values)]


def _with(certificate: QualityCertificate, taken: Multiplicity) -> QualityCertificate:
    """The certificate with its place in the procedure; checked again as a whole."""
    update: dict[str, object] = {"multiplicity": taken}
    if certificate.passed and not taken.passed:
        update |= {"verdict": "inconclusive", "reason": _reason(taken)}
    return parse(QualityCertificate, dict(certificate.model_copy(update=update)), source="certificate")


def _reason(taken: Multiplicity) -> str:
    if taken.p_value > taken.alpha:
        return "This task passes alone, another task of the variant does not: all must."
    adjusted = f"adjusted p {taken.p_adjusted:.3f}, level {taken.alpha:g}"
    if taken.procedure == "fixed-sequence":
        return f"It passes alone, but the variants are tested in order, and one before it did not pass ({adjusted})."
    return f"It passes alone, but not as one of {len(taken.order)} variants tested on the same rows ({adjusted})."
