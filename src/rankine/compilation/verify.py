"""Is what an engine computes what the graph means? Held to the float64 reference on real rows.

FP32: ``|a - b| <= 1e-5 * max(1, |b|)`` on logits. INT8 is compared with the float64 evaluation of the same canonical
QDQ graph; there a value that falls on the other side of a rounding step moves the score, so only a sanity bound on
scores is held here. The certificate decides about quality.
"""

from __future__ import annotations

import numpy as np

from rankine.compilation.engine import Runner
from rankine.config import Frozen
from rankine.errors import EngineError
from rankine.models.columns import Batch
from rankine.models.variant import Model, Numeric

__all__ = [
    "FP32_LIMIT",
    "INT8_SCORE_LIMIT",
    "Verification",
    "logit_errors",
    "reference_logits",
    "verify",
    "verify_logits",
]

FP32_LIMIT = 1e-5
"""Largest ``|a - b| / max(1, |b|)`` on FP32 logits."""
INT8_SCORE_LIMIT = 0.05
"""Largest ``|sigmoid(a) - sigmoid(b)|`` of INT8 logits."""


class Verification(Frozen):
    """What a comparison with the reference found; errors are absolute differences of logits.

    Attributes:
        max_error: in the measure that ``limit`` bounds: relative above one for FP32, of scores for INT8.
    """

    max_logit_error: float
    mean_logit_error: float
    max_error: float
    rows: int
    limit: float


def verify(model: Model, runner: Runner, batch: Batch) -> Verification:
    """Run ``batch`` on ``runner`` and hold it to the float64 reference of ``model``.

    Raises:
        EngineError: a logit is not finite or differs by more than the limit; names the worst row.
    """
    return verify_logits(model, runner, batch, reference_logits(model, batch))


def reference_logits(model: Model, batch: Batch) -> np.ndarray:
    """Logits ``(rows, tasks)`` in float64."""
    from rankine.compilation.engines.reference import ReferenceRunner

    return ReferenceRunner(model).logits(batch)


def verify_logits(
    model: Model, runner: Runner, batch: Batch, reference: np.ndarray, *, rounded: bool = False
) -> Verification:
    """As :func:`verify`, where the reference was computed before: float64 ``(rows, tasks)``.

    Args:
        rounded: whether the runner rounds what the graph does not, as storage below FP32 does; then INT8's bound holds.
    """
    if batch.rows == 0:
        raise EngineError("nothing to verify with: the batch has no rows", where="verify")
    logits = np.full(reference.shape, np.nan, np.float32)
    runner.run(batch, logits)
    difference = np.abs(logits - reference)
    limit, errors = logit_errors("int8" if rounded else model.numeric, logits.astype(np.float64), reference)
    worst = int(np.argmax(np.where(np.isfinite(errors), errors, np.inf).max(axis=1)))
    # Written so that NaN fails: no comparison with it is true.
    if not errors[worst].max() <= limit:
        raise EngineError(
            f"the engine's logits differ from the reference by {errors[worst].max():.3g}, over {limit:.3g}",
            where=f"{model.name}, row {worst}",
            got=f"{logits[worst].tolist()}",
            allowed=f"{reference[worst].tolist()}",
        )
    return Verification(
        max_logit_error=float(difference.max()),
        mean_logit_error=float(difference.mean()),
        max_error=float(errors.max()),
        rows=batch.rows,
        limit=limit,
    )


def logit_errors(numeric: Numeric, logits: np.ndarray, reference: np.ndarray) -> tuple[float, np.ndarray]:
    """The limit of a numeric form, and the errors ``(rows, tasks)`` that it bounds; both arguments are float64."""
    if numeric == "fp32":
        return FP32_LIMIT, np.abs(logits - reference) / np.maximum(1.0, np.abs(reference))
    return INT8_SCORE_LIMIT, np.abs(_sigmoid(logits) - _sigmoid(reference))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * logits))
