"""Quality of a network on validation rows, as the search asks for it: paired with the baseline, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rankine.certification.margins import Margins
from rankine.compression.search import Judged
from rankine.metrics import calibration_ratio, normalized_entropy
from rankine.models.columns import Batch
from rankine.models.network import Network, NetworkScorer
from rankine.models.schema import Task
from rankine.stats import paired_delong

__all__ = ["ValidationJudge"]

_UNIT = Margins.of(0.001)
"""How the metrics' margins relate to AUC's."""


@dataclass(frozen=True, eq=False)
class ValidationJudge:
    """A :class:`~rankine.compression.search.Judge` over one batch of labeled rows.

    Attributes:
        batch: the rows.
        labels: ``(rows, tasks)``, 0 or 1.
        tasks: their links say for which an entropy and a calibration are defined.
        clusters: ids ``(rows,)`` by dimension, for the standard error.
        baseline: what networks are compared with.
    """

    batch: Batch
    labels: np.ndarray
    tasks: tuple[Task, ...]
    clusters: Mapping[str, np.ndarray]
    baseline: Network

    @cached_property
    def baseline_logits(self) -> np.ndarray:
        """Float32 ``(rows, tasks)``."""
        return NetworkScorer(self.baseline).logits(self.batch)

    def judge(self, network: Network) -> Judged:
        """The network against the baseline: the task that loses most."""
        logits = NetworkScorer(network).logits(self.batch)
        return max((self._task(column, logits) for column in range(len(self.tasks))), key=lambda found: found.loss)

    def _task(self, column: int, logits: np.ndarray) -> Judged:
        labels, before, after = self.labels[:, column], self.baseline_logits[:, column], logits[:, column]
        found = paired_delong(labels, before, after, tuple(self.clusters.values()))
        losses, entropy_change = [-found.delta], None
        if self.tasks[column].link == "sigmoid":
            entropy_change = 1 - normalized_entropy(labels, after) / normalized_entropy(labels, before)
            calibrations = [abs(np.log(calibration_ratio(labels, values))) for values in (before, after)]
            losses.append(-entropy_change * _UNIT.auc / (_UNIT.normalized_entropy or 1))
            losses.append(float(calibrations[1] - calibrations[0]) * _UNIT.auc / (_UNIT.calibration or 1))
        return Judged(loss=max(losses), auc_change=found.delta, auc_se=found.se, entropy_change=entropy_change)
