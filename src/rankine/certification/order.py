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
from rankine.certification.margins import Margins
from rankine.certification.multiplicity import Multiplicity, Outcome, Procedure, fixed_sequence, holm
from rankine.certification.plan import Pair, deciding
from rankine.certification.trial import Trial
from rankine.config import parse
from rankine.metrics import auc

__all__ = ["Outlook", "apply_procedure", "auc_change", "order_of", "outlook_of"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What validation rows say of a pair, of the task that does worst: p-value of its certificate, change of AUC."""

    p_value: float
    auc_change: float


def outlook_of(trial: Trial, artifact: Artifact, pair: Pair, logits: np.ndarray, margins: Margins) -> Outlook:
    """How likely a pair is to pass, from a certificate that nobody sees.

    The p-value is 1 where the rows are too few for a certificate, as it then is for every pair.

    Args:
        trial: on validation rows.
        logits: the pair's, ``(rows, tasks)``.
        margins: those at which the test rows will decide.

    Raises:
        DataError: a logit is not finite.
    """
    labels = trial.rows.labels
    testable = len(_tasks_with_both(labels)) == labels.shape[1]
    change = auc_change(labels, trial.baseline, logits)
    if not testable:
        return Outlook(1.0, change)
    [certificates] = trial.quality(artifact, pair, logits, [margins])
    return Outlook(max(found.p_value for found in certificates), change)


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
    found: Sequence[Sequence[QualityCertificate]], procedure: Procedure
) -> list[list[QualityCertificate]]:
    """Certificates with the procedure over all tests in them; one that passed alone and not under it is inconclusive.

    With one test there is nothing to adjust. With several tasks the p-value of a test is its largest. Every certificate
    records the outcomes of all tests.

    Args:
        found: certificates a task of every test, in the order fixed before the tests; Holm's procedure only reports it.
    """
    if len(found) < 2:
        return [list(certificates) for certificates in found]
    p_values = [max(certificate.p_value for certificate in certificates) for certificates in found]
    adjusted = (fixed_sequence if procedure == "fixed-sequence" else holm)(p_values)
    names = _names([certificates[0] for certificates in found])
    settled = []
    for place, certificates in enumerate(found):
        taken = Multiplicity(
            procedure=procedure,
            order=names,
            position=place + 1,
            p_value=p_values[place],
            p_adjusted=adjusted.p_adjusted[place],
        )
        settled.append([_settled(certificate, taken) for certificate in certificates])
    outcomes = tuple(_outcome(certificates) for certificates in settled)
    return [[_recording(certificate, outcomes) for certificate in certificates] for certificates in settled]


def _names(tests: Sequence[QualityCertificate]) -> tuple[str, ...]:
    """Variant and engine of each test; with the margin where the tests differ in it."""
    several = len({test.margin for test in tests}) > 1
    at = [f" at {test.margin:g}" if several else "" for test in tests]
    return tuple(f"{test.variant} on {test.engine}{margin}" for test, margin in zip(tests, at, strict=True))


def _tasks_with_both(labels: np.ndarray) -> list[int]:
    """The columns of labels ``(rows, tasks)`` that have both classes."""
    return [task for task, values in enumerate(labels.T) if 0 < values.sum() < len(values)]


def _settled(certificate: QualityCertificate, taken: Multiplicity) -> QualityCertificate:
    """The certificate with its place in the procedure, and the verdict that it leaves."""
    update: dict[str, object] = {"multiplicity": taken}
    if certificate.passed and not taken.passed:
        update |= {"verdict": "inconclusive", "reason": _reason(taken)}
    return certificate.model_copy(update=update)


def _outcome(certificates: Sequence[QualityCertificate]) -> Outcome:
    """What a test found, of all its tasks."""
    worst = max(certificates, key=lambda certificate: certificate.p_value)
    metric = worst.deciding_metric
    values = {
        "variant": worst.variant,
        "engine": worst.engine,
        "margin": worst.margin,
        "verdict": deciding(certificates).verdict,
        "p_value": worst.p_value,
        "task": worst.task,
        "metric": metric.name,
        "metric_margin": metric.margin,
        "ci_low": metric.ci_low,
    }
    return parse(Outcome, values, source="outcome")


def _recording(certificate: QualityCertificate, outcomes: tuple[Outcome, ...]) -> QualityCertificate:
    """The certificate with what all tests found; checked again as a whole."""
    taken = certificate.multiplicity
    recording = None if taken is None else taken.model_copy(update={"outcomes": outcomes})
    values = dict(certificate.model_copy(update={"multiplicity": recording}))
    return parse(QualityCertificate, values, source="certificate")


def _reason(taken: Multiplicity) -> str:
    if taken.p_value > taken.alpha:
        return "This task passes alone, another task of the variant does not: all must."
    adjusted = f"adjusted p {taken.p_adjusted:.3f}, level {taken.alpha:g}"
    if taken.procedure == "fixed-sequence":
        return f"It passes alone, but tests are made in order, and one before it did not pass ({adjusted})."
    return f"It passes alone, but not as one of {len(taken.order)} tests on the same rows ({adjusted})."
