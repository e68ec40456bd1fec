"""What a pass may read beside the model: training and validation rows, the baseline as teacher, a seed, costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from rankine.events import Emit, step
from rankine.metrics import sigmoid
from rankine.models.columns import Batch
from rankine.models.network import Network, NetworkScorer
from rankine.training.fit import Examples, task_aucs

__all__ = ["Context", "CostModel", "draw_rows", "join"]

_CHUNK_ROWS = 65536


class CostModel(Protocol):
    """Measured cost of graphs on this machine; planning has one that reads a table of timed layers."""

    def latency_ms(self, network: Network, rows: int) -> float:
        """Predicted milliseconds of one call on its fastest engine, lookup included."""

    def layer_ms(self, rows: int, width: int, columns: int, numeric: str) -> float:
        """Of one linear layer ``(rows, width) x (width, columns)`` in ``fp32`` or ``int8``."""


@dataclass(frozen=True)
class Context:
    """Rows and settings that all passes of a recipe share. Test rows are not among them.

    Attributes:
        train: training rows and labels.
        validation: validation rows and labels; decide when to stop, and whatever a pass chooses.
        baseline: the teacher.
        seed: of initial weights, drawn rows and orders.
        cost: measured on this machine, where the caller has it.
    """

    train: Examples
    validation: Examples
    baseline: Network
    seed: int
    emit: Emit
    cost: CostModel | None = None

    @cached_property
    def _teacher(self) -> NetworkScorer:
        return NetworkScorer(self.baseline)

    @cached_property
    def taught(self) -> np.ndarray:
        """The baseline's probabilities of the training rows, float32 ``(rows, tasks)``; computed once."""
        return self.teach(self.train.batch, "teacher on training rows")

    def teach(self, batch: Batch, task: str) -> np.ndarray:
        """The baseline's scores, float32 ``(rows, tasks)``: probabilities where its outputs are logits."""
        parts = []
        with step(self.emit, task, total=batch.rows, unit="rows") as advance:
            for start in range(0, batch.rows, _CHUNK_ROWS):
                parts.append(self._teacher.logits(batch.select(slice(start, start + _CHUNK_ROWS))))
                advance(min(start + _CHUNK_ROWS, batch.rows), "")
        outputs = np.concatenate(parts)
        logits = np.array([task.link == "sigmoid" for task in self.baseline.schema.tasks])
        return np.where(logits, sigmoid(outputs), outputs).astype(np.float32)

    def targets(self, teacher_weight: float) -> np.ndarray:
        """Float32 ``(rows, tasks)`` for the training rows: this much baseline, the rest label."""
        if not teacher_weight:
            return self.train.targets.astype(np.float32)
        mixed: np.ndarray = teacher_weight * self.taught + (1 - teacher_weight) * self.train.targets
        return mixed.astype(np.float32)

    def examples(self, teacher_weight: float, drawn_rows: float) -> Examples:
        """Training rows with mixed targets, and drawn rows that the baseline labels alone, see
        :class:`rankine.compression.recipe.Tuning`; made once for all passes and candidates that ask for the same."""
        key = teacher_weight, drawn_rows
        if key not in self._made:
            parts = [Examples(self.train.batch, self.targets(teacher_weight))]
            drawn = draw_rows(self.train.batch, round(drawn_rows * self.train.batch.rows), self.seed)
            if drawn is not None and drawn.rows:
                parts.append(Examples(drawn, self.teach(drawn, "teacher on drawn rows")))
            self._made[key] = join(parts)
        return self._made[key]

    @cached_property
    def _made(self) -> dict[tuple[float, float], Examples]:
        return {}

    def calibration(self, rows: int) -> Batch:
        """A seeded sample of training rows."""
        return self.train.batch.select(self.calibration_index(rows))

    def calibration_index(self, rows: int) -> np.ndarray:
        """Which training rows :meth:`calibration` takes, ascending."""
        return np.sort(np.random.default_rng(self.seed).permutation(self.train.batch.rows)[:rows])

    def validation_auc(self, network: Network) -> float:
        """Mean over tasks of the AUC of a network, FP32 or INT8, on the validation rows."""
        return float(np.mean(task_aucs(self.validation.targets, NetworkScorer(network).logits(self.validation.batch))))


def draw_rows(batch: Batch, rows: int, seed: int) -> Batch | None:
    """Requests and items of ``batch``, recombined at random, each as often as it occurs; None where there are
    features of the (request, candidate) row, which cannot be recombined."""
    if batch.pair:
        return None
    generator = np.random.default_rng(seed)
    requests = batch.request_index[generator.integers(0, batch.rows, rows)]
    items = batch.item_index[generator.integers(0, batch.rows, rows)]
    return replace(batch, request_index=requests, item_index=items)


def join(examples: list[Examples]) -> Examples:
    """Examples over the same request and item columns, one after the other."""
    if len(examples) == 1:
        return examples[0]
    batch = replace(
        examples[0].batch,
        request_index=np.concatenate([part.batch.request_index for part in examples]),
        item_index=np.concatenate([part.batch.item_index for part in examples]),
    )
    return Examples(batch, np.concatenate([part.targets for part in examples]))
