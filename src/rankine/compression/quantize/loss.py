"""What quantization costs on validation rows, and which layers it costs it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankine.compression.context import Context
from rankine.compression.quantize.layers import Layer
from rankine.compression.quantize.write import Calibrated
from rankine.metrics import normalized_entropy
from rankine.models.lookup_plan import plan_sources
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import Network
from rankine.models.onnx_session import feeds, open_session
from rankine.models.tables import AnyTable
from rankine.training.fit import task_aucs

if TYPE_CHECKING:
    import onnx

__all__ = ["Judge", "Kept", "Loss", "Sensitivity", "keep_costliest"]

_ROWS = 65536
"""Validation rows, drawn by the seed, on which losses are taken: their differences are paired, so that these are enough
to tell 0.00005 of AUC."""
_INPUT_BYTES = 1 << 30
"""What the graph reads is kept for all graphs that are compared: of long histories fewer rows."""


@dataclass(frozen=True)
class Loss:
    """Mean over tasks; positive is worse.

    Attributes:
        auc: absolute.
        entropy: of normalized entropy, relative; 0 where a task is no probability.
    """

    auc: float
    entropy: float

    @property
    def cost(self) -> float:
        """The larger of both, in units of AUC; a certificate allows three times as much of normalized entropy."""
        return max(self.auc, self.entropy / 3)

    def __sub__(self, other: Loss) -> Loss:
        return Loss(self.auc - other.auc, self.entropy - other.entropy)


class Judge:
    """Scores graphs against a network in FP32, on a seeded sample of validation rows."""

    def __init__(self, network: Network, context: Context) -> None:
        count = context.validation.batch.rows
        row_bytes = sum(4 * source.width for source in plan_sources(network.schema, network.tables))
        rows = min(_ROWS, max(_INPUT_BYTES // row_bytes, 1))
        chosen = np.sort(np.random.default_rng(context.seed).permutation(count)[:rows])
        sample = context.validation.select(chosen)
        self.rows = len(chosen)
        self._schema, self._batch, self._labels = network.schema, sample.batch, sample.targets
        self._probabilities = all(task.link == "sigmoid" for task in network.schema.tasks)
        self._reference = self._quality(network.graph, self._inputs(network.tables))

    def with_tables(self, tables: Mapping[str, AnyTable]) -> Callable[[onnx.ModelProto], Loss]:
        """The loss of graphs that read these tables."""
        inputs = self._inputs(tables)

        def loss(model: onnx.ModelProto) -> Loss:
            (auc, entropy), (best, least) = self._quality(model, inputs), self._reference
            return Loss(best - auc, entropy / least - 1)

        return loss

    def _inputs(self, tables: Mapping[str, AnyTable]) -> dict[str, np.ndarray]:
        return dict(reference_lookup(self._schema, tables, self._batch, np.float32))

    def _quality(self, model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> tuple[float, float]:
        """AUC and normalized entropy, the mean over tasks."""
        session = open_session(model, threads=0)
        logits = np.concatenate([session.run(["logits"], part)[0] for part in feeds(inputs, rows=8192)])
        tasks = range(self._labels.shape[1]) if self._probabilities else ()
        entropies = [normalized_entropy(self._labels[:, task], logits[:, task]) for task in tasks]
        return float(np.mean(task_aucs(self._labels, logits))), float(np.mean(entropies)) if entropies else 1.0


@dataclass(frozen=True)
class Sensitivity:
    """What each layer costs when it alone is INT8, and what they cost together.

    Attributes:
        tables: loss by the tables, with every layer in FP32; the others are on top of it.
        alone: by layer.
        together: of all layers that were to be INT8, and of those that stayed so.
    """

    rows: int
    tables: Loss
    alone: Mapping[str, Loss]
    together: tuple[Loss, Loss]


Kept = tuple[tuple[Layer, ...], Sensitivity]


def keep_costliest(
    calibrated: Calibrated,
    layers: Sequence[Layer],
    loss: Callable[[onnx.ModelProto], Loss],
    largest_cost: float,
    rows: int,
) -> Kept:
    """Those of ``layers`` that stay INT8: the costliest alone go back to FP32, one after the other, until what all that
    are left cost together is at most ``largest_cost``.

    Args:
        loss: of a graph, tables included.
        rows: on which it is taken.
    """
    tables = loss(calibrated.model)
    alone = {layer.name: loss(calibrated.in_int8((layer,))) - tables for layer in layers}
    left = tuple(sorted(layers, key=lambda layer: alone[layer.name].cost))
    first = together = loss(calibrated.in_int8(left)) - tables
    while left and together.cost > largest_cost:
        left = left[:-1]
        together = loss(calibrated.in_int8(left)) - tables
    return left, Sensitivity(rows, tables, alone, (first, together))
