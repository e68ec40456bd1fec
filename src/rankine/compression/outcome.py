"""What a pass hands on, and what is reported of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rankine.compression.context import Context
from rankine.config import Frozen
from rankine.metrics import normalized_entropy
from rankine.models.network import Network, NetworkScorer, size_of
from rankine.training.fit import task_aucs

__all__ = ["Measured", "Outcome", "PassReport", "measure"]


@dataclass(frozen=True)
class Outcome:
    """A pass's result.

    Attributes:
        text: what was done, in one line.
        details: what a reader may ask of it: ranks, widths, histories; JSON.
    """

    network: Network
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Measured(Frozen):
    """Size and quality of a network; see :class:`rankine.models.network.Size`. Quality is that of the validation rows,
    the mean over tasks; the entropy is None where a task is no logit."""

    parameters: int
    macs_per_row: int
    bytes: int
    validation_auc: float
    validation_entropy: float | None


class PassReport(Frozen):
    """One pass of a recipe: its settings, what it did, and the network before and after."""

    type: str
    settings: Mapping[str, Any]
    text: str
    before: Measured
    after: Measured
    seconds: float
    details: Mapping[str, Any] = {}


def measure(network: Network, context: Context) -> Measured:
    """Size of a network, and its quality on the validation rows."""
    size, labels = size_of(network), context.validation.targets
    logits = NetworkScorer(network).logits(context.validation.batch)
    judged = all(task.link == "sigmoid" for task in network.schema.tasks)
    entropies = (
        [normalized_entropy(labels[:, task], logits[:, task]) for task in range(labels.shape[1])] if judged else []
    )
    return Measured(
        parameters=size.parameters,
        macs_per_row=size.macs_per_row,
        bytes=size.bytes,
        validation_auc=float(np.mean(task_aucs(labels, logits))),
        validation_entropy=float(np.mean(entropies)) if entropies else None,
    )
