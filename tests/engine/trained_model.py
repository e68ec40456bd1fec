"""A DCN-v2 trained a little on synthetic rows: what several files of tests take through the stages."""

from __future__ import annotations

from pathlib import Path

from rankine.artifact import Artifact
from rankine.data import Dataset
from rankine.training.config import FitConfig
from rankine.training.train import train

FIT = FitConfig(batch_rows=512, max_epochs=2, learning_rate=5e-3)


def train_small(dataset: Dataset, out: Path) -> Artifact:
    """The artifact ``out`` of a baseline that has learned something in two epochs."""
    model = {"architecture": "dcn_v2", "hidden": (32, 16), "cross_layers": 1, "embedding_dim": 8}
    return train(dataset, model, FIT, out=out, name="clicks")
