"""Quality of scores: AUC, log loss, normalized entropy, calibration.

Every metric takes labels in {0, 1} and *logits*, both of shape ``(rows,)``, and computes in float64. A metric that is
not defined for the rows it is given raises :class:`~rankine.errors.DataError`; none returns NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankine.errors import DataError

__all__ = [
    "auc",
    "calibration_ratio",
    "check_both_classes",
    "check_finite",
    "check_labels",
    "log_loss",
    "midranks",
    "normalized_entropy",
    "row_log_loss",
    "sigmoid",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def sigmoid(logits: ArrayLike) -> Floats:
    """Probabilities of ``logits``, any shape, without overflow for large ones."""
    values = np.asarray(logits, dtype=np.float64)
    # exp of a non-positive number only: it can underflow to 0, which is the right answer, but never overflow.
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def auc(labels: ArrayLike, logits: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive row scores above a negative one, ties count half.

    From the rank sum of the positives (Mann & Whitney 1947) with midranks, O(n log n).

    Raises:
        DataError: lengths differ, a label is not 0 or 1, a logit is not finite, or only one class is present.
    """
    positive, scores = _checked(labels, logits)
    positives, negatives = check_both_classes(positive)
    rank_sum = float(midranks(scores)[positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def log_loss(labels: ArrayLike, logits: ArrayLike) -> float:
    """Mean negative log likelihood in nats; defined for one class alone too.

    Raises:
        DataError: no rows, lengths differ, a label is not 0 or 1, or a logit is not finite.
    """
    return float(row_log_loss(labels, logits).mean())


def row_log_loss(labels: ArrayLike, logits: ArrayLike) -> Floats:
    """Negative log likelihood of each row in nats, shape ``(rows,)``: ``log(1 + exp(z)) - y z``, exact for large z.

    Raises:
        DataError: as :func:`log_loss`.
    """
    positive, scores = _checked(labels, logits)
    return np.logaddexp(0.0, np.where(positive, -scores, scores))


def normalized_entropy(labels: ArrayLike, logits: ArrayLike) -> float:
    """Log loss over the entropy of the base rate: 1 is as good as predicting the mean, lower is better.

    He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", 2014.

    Raises:
        DataError: as :func:`auc`.
    """
    positive, scores = _checked(labels, logits)
    positives, negatives = check_both_classes(positive)
    rate = positives / (positives + negatives)
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return log_loss(positive, scores) / float(entropy)


def calibration_ratio(labels: ArrayLike, logits: ArrayLike) -> float:
    """Mean predicted probability over the observed rate of positives: 1 is calibrated, above 1 predicts too much.

    Raises:
        DataError: as :func:`log_loss`, or there is no positive row.
    """
    positive, scores = _checked(labels, logits)
    if not positive.any():
        raise DataError("the calibration ratio needs at least one positive row", where="labels", got="no positives")
    return float(sigmoid(scores).mean() / positive.mean())


def midranks(values: Floats) -> Floats:
    """Ranks from 1 of finite ``values``, shape ``(rows,)``; equal values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(values) else order
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values), dtype=np.float64)
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def check_labels(labels: ArrayLike) -> Bools:
    """``labels`` as booleans, shape ``(rows,)``.

    Raises:
        DataError: not one dimension, no rows, or a value other than 0 and 1.
    """
    values = np.asarray(labels)
    if values.ndim != 1:
        raise DataError("must have one dimension", where="labels", got=f"shape {values.shape}", allowed="(rows,)")
    if not len(values):
        raise DataError("there are no rows to measure", where="labels", got="0 rows")
    positive = np.asarray(values == 1, dtype=np.bool_)
    wrong = ~positive & np.asarray(values != 0, dtype=np.bool_)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            "must be binary",
            where=f"labels[{row}]",
            got=str(values[row]),
            allowed="0, 1",
            hint="Graded labels need a threshold in the schema, such as rating >= 4.",
        )
    return positive


def check_finite(values: ArrayLike, rows: int, *, where: str) -> Floats:
    """``values`` as float64 of shape ``(rows,)``.

    Raises:
        DataError: another shape, not numbers, or NaN or infinity in it; ``where`` names them.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("must be numbers", where=where, got=type(values).__name__) from None
    if numbers.shape != (rows,):
        raise DataError("must have one value a row", where=where, got=f"shape {numbers.shape}", allowed=f"({rows},)")
    finite = np.isfinite(numbers)
    if not finite.all():
        row = int((~finite).argmax())
        raise DataError(
            "must be finite",
            where=f"{where}[{row}]",
            got=f"{numbers[row]}, {int((~finite).sum())} such of {rows} rows",
            hint="Scores with NaN or infinity cannot be ranked: look for overflow in FP16, or for empty features.",
        )
    return numbers


def check_both_classes(positive: Bools) -> tuple[int, int]:
    """The numbers of positive and of negative rows.

    Raises:
        DataError: one of them is zero.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        raise DataError(
            "both classes must be present",
            where="labels",
            got=f"{positives} positives, {negatives} negatives",
            hint="Take more rows, or check the label's threshold.",
        )
    return positives, negatives


def _checked(labels: ArrayLike, logits: ArrayLike) -> tuple[Bools, Floats]:
    positive = check_labels(labels)
    return positive, check_finite(logits, len(positive), where="logits")
