"""One engine with one model built for it, and what its logits are held to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankine.compilation.conformance.batches import ranking_batch
from rankine.compilation.engine import Capabilities, Engine, Model, Runner, Target
from rankine.compilation.engines.reference import ReferenceRunner
from rankine.compilation.verify import INT8_MEAN_SCORE_LIMIT, score_errors
from rankine.errors import ConformanceFailed
from rankine.models.columns import Batch

__all__ = ["BUCKETS", "Case", "build_case", "why_not"]

BUCKETS = (1, 8, 64, 512, 1024)
"""Row counts that an engine with static buckets is built for; it pads to them, and cuts larger batches itself."""
_ENOUGH_FOR_A_MEAN = 64
_OWN_FORM = 2
"""An INT8 form of an engine's own rounds elsewhere than the canonical one: a single score may be off by twice as much.
The bound of the mean is the same, and a quality certificate of its own decides."""


@dataclass(frozen=True)
class Case:
    """One engine with one model built for it.

    Attributes:
        name: of the engine.
        folder: what the engine wrote at its build.
        device: that it was built for.
        reference: of the model, float64.
        make_batch: ``(rows, seed)`` to rows for the model; None for random ones.
    """

    name: str
    engine: Engine
    capabilities: Capabilities
    model: Model
    folder: Path
    reference: ReferenceRunner
    device: str = "cpu"
    make_batch: Callable[[int, int], Batch] | None = None

    @property
    def where(self) -> str:
        """The case in words."""
        return f"{self.name} on {self.device}, {self.model.name}"

    def open(self, threads: int = 1) -> Runner:
        """A runner of the engine; the check closes it."""
        where = self.capabilities.opened_on(self.device)
        return self.engine.open(self.model, self.folder, device=where, threads=threads)

    def batch(self, rows: int, seed: int = 0) -> Batch:
        """Rows for the model."""
        if self.make_batch is not None:
            return self.make_batch(rows, seed)
        return ranking_batch(self.model, rows, seed=seed)

    def expected(self, batch: Batch) -> np.ndarray:
        """Float64 logits ``(rows, tasks)``."""
        return self.reference.logits(batch)

    def out(self, rows: int) -> np.ndarray:
        """An array for logits, full of NaN."""
        return np.full((rows, self.tasks), np.nan, np.float32)

    @property
    def tasks(self) -> int:
        """Columns of the logits."""
        return int(self.expected(self.batch(1)).shape[1])

    def run(self, runner: Runner, batch: Batch) -> np.ndarray:
        """Logits of ``batch``, float32 ``(rows, tasks)``."""
        out = self.out(batch.rows)
        runner.run(batch, out)
        return out

    def hold(self, out: np.ndarray, expected: np.ndarray, what: str) -> float:
        """The largest error of logits, in the measure that the numeric form bounds.

        FP32: ``|a - b| / max(1, |b|)``. INT8: of scores, since a rounding may fall either way; the mean is bounded too.

        Raises:
            ConformanceFailed: it is over the bound, or not finite.
        """
        limit, errors = score_errors(self.model.numeric, out.astype(np.float64), expected)
        if self.model.numeric == "int8" and self.capabilities.own_int8_form:
            limit *= _OWN_FORM
        errors = np.where(np.isfinite(errors), errors, np.inf)
        worst = int(errors.max(axis=1).argmax())
        largest, mean = float(errors.max()), float(errors.mean())
        if largest > limit:
            raise ConformanceFailed(
                f"{what}: logits differ from the reference by {largest:.3g}, over {limit:.3g}",
                where=f"{self.where}, row {worst}",
                got=str(out[worst].tolist()),
                allowed=str(expected[worst].tolist()),
            )
        if self.model.numeric == "int8" and len(out) >= _ENOUGH_FOR_A_MEAN and mean > INT8_MEAN_SCORE_LIMIT:
            raise ConformanceFailed(
                f"{what}: scores differ from the reference in the mean",
                where=self.where,
                got=f"{mean:.3g}",
                allowed=f"at most {INT8_MEAN_SCORE_LIMIT:g}",
            )
        return largest

    def failure(self, message: str, *, got: object = None, allowed: str | None = None) -> ConformanceFailed:
        """The error of a check, to be raised."""
        return ConformanceFailed(message, where=self.where, got=got, allowed=allowed)


def why_not(capabilities: Capabilities, model: Model, device: str = "cpu") -> str | None:
    """Why an engine's capability record leaves a model out; None where it does not."""
    if model.numeric not in capabilities.numerics:
        return f"does not run {model.numeric.upper()}"
    if capabilities.needs_checkpoint and model.checkpoint is None:
        return "runs the trained module, which this form does not have"
    if device not in capabilities.verifiable:
        return f"has no device '{device}' here"
    return None


def build_case(
    name: str,
    engine: Engine,
    model: Model,
    folder: Path,
    *,
    device: str = "cpu",
    make_batch: Callable[[int, int], Batch] | None = None,
) -> Case:
    """Build ``model`` into the empty ``folder``.

    Raises:
        EngineError: the engine does not support the model.
    """
    capabilities = engine.capabilities()
    target = Target(device=device, row_buckets=BUCKETS if capabilities.static_buckets else ())
    engine.build(model, target, folder)
    return Case(name, engine, capabilities, model, folder, ReferenceRunner(model), device, make_batch)
