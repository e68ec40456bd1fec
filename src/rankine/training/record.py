"""Where a baseline came from, and the check that later stages read the same data, split alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankine.artifact import Artifact
from rankine.config import Frozen
from rankine.data.dataset import Dataset
from rankine.errors import DataError
from rankine.models.schema import Schema
from rankine.models.transforms import Transforms
from rankine.training.config import FitConfig, FitResult

__all__ = ["TRAINING_FILE", "TrainingRecord", "check_same_data"]

TRAINING_FILE = "training.json"


class TrainingRecord(Frozen):
    """Where the baseline came from: data, sizes of its splits, settings and history."""

    schema_version: int = 1
    dataset: str
    provenance: Mapping[str, str]
    rows: Mapping[str, int]
    best_auc: float | None = None
    model: Mapping[str, Any]
    fit: FitConfig
    result: FitResult


def check_same_data(artifact: Artifact, dataset: Dataset) -> None:
    """Refuse data other than what the baseline was trained on: its splits would mix training and test rows.

    Raises:
        DataError: says which fact differs.
    """
    record = artifact.read_json(TRAINING_FILE, TrainingRecord)
    trained = Transforms.read(artifact).schema
    if dataset.schema != trained:
        raise DataError(
            "is read by another schema than the baseline was trained with",
            where=dataset.name,
            got=_difference(dataset.schema, trained),
            hint="Give the same --schema as for training: features, labels and the split must be the same.",
        )
    if dict(dataset.provenance) != dict(record.provenance):
        differing = sorted(
            key
            for key in {*dataset.provenance, *record.provenance}
            if dataset.provenance.get(key) != record.provenance.get(key)
        )
        raise DataError(
            "is not the data that the baseline was trained on",
            where=dataset.name,
            got=", ".join(f"{key}={dataset.provenance.get(key)}" for key in differing),
            allowed=", ".join(f"{key}={record.provenance.get(key)}" for key in differing),
            hint="Give the same --data, --rows and --seed as for training, or test rows may have been trained on.",
        )


def _difference(found: Schema, trained: Schema) -> str:
    """Keys whose values differ, with both values."""
    here, there = found.model_dump(mode="json"), trained.model_dump(mode="json")
    return ", ".join(f"{key}={here[key]} instead of {there[key]}" for key in here if here[key] != there[key])
