"""Held-out rows with a good baseline, for tests of certificates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from rankine.certification import Margins, QualityCertificate, certify_quality
from rankine.metrics import sigmoid

ROWS = 6000
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class HeldOut:
    """Held-out rows with a good baseline: 200 users, 80 items."""

    def __init__(self) -> None:
        rng = np.random.default_rng(21)
        self.baseline = rng.normal(size=ROWS)
        self.labels = rng.random(ROWS) < sigmoid(self.baseline)
        self.noise = rng.normal(size=ROWS)
        self.clusters = {"user": rng.integers(0, 200, ROWS), "item": rng.integers(0, 80, ROWS)}

    def certify(
        self,
        variant: np.ndarray,
        margin: float | Margins = 0.001,
        clusters: Mapping[str, np.ndarray] | None = None,
        rows: slice = slice(None),
        minimum_positives: int = 100,
    ) -> QualityCertificate:
        chosen = self.clusters if clusters is None else clusters
        return certify_quality(
            self.labels[rows],
            self.baseline[rows],
            variant[rows],
            margin=margin,
            clusters={name: ids[rows] for name, ids in chosen.items()},
            variant="student-int8",
            engine="onnxruntime",
            provenance={"model": "sha256:0", "split": "sha256:1", "recipe": "sha256:2", "seed": "7"},
            minimum_positives=minimum_positives,
            created=WHEN,
            environment={"python": "3.11", "cores": 2, "memory_gib": 7.5},
        )
