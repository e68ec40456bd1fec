"""Where a baseline came from, and the check that later stages read the same data, split alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankine.artifact import Artifact
from rankine.config import Frozen
from rankine.data.dataset import Dataset
from rankine.errors import DataError
from rankine.models.intake.origin import Origin, Proof
from rankine.models.schema import Schema
from rankine.models.transforms import Transforms
from rankine.training.config import FitConfig, FitResult

__all__ = ["TRAINING_FILE", "BaselineRecord", "TrainingRecord", "check_same_data", "data_part"]

TRAINING_FILE = "training.json"


class BaselineRecord(Frozen):
    """Where a baseline came from: the data and the sizes of its splits; of a trained one, settings and history; of one
    from elsewhere, where it was and the proof that it is what its owner had."""

    schema_version: int = 1
    dataset: str
    provenance: Mapping[str, str]
    rows: Mapping[str, int]
    best_auc: float | None = None
    model: Mapping[str, Any] | None = None
    fit: FitConfig | None = None
    result: FitResult | None = None
    origin: Origin | None = None
    proof: Proof | None = None


class TrainingRecord(BaselineRecord):
    """The record of a baseline that was trained here."""

    model: Mapping[str, Any]
    fit: FitConfig
    result: FitResult


def check_same_data(artifact: Artifact, dataset: Dataset) -> None:
    """Refuse data other than what the baseline was trained on: its splits would mix training and test rows.

    Raises:
        DataError: says which fact differs.
    """
    record = artifact.read_json(TRAINING_FILE, BaselineRecord)
    trained = Transforms.read(artifact).schema
    if data_part(dataset.schema) != data_part(trained):
        raise DataError(
            "is read by another schema than the baseline was trained with",
            where=dataset.name,
            got=_difference(data_part(dataset.schema), data_part(trained)),
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


def data_part(schema: Schema) -> Schema:
    """A schema without what is found out when a model is brought in: how it is called, and its links."""
    tasks = tuple(task.model_copy(update={"link": "sigmoid"}) for task in schema.tasks)
    return schema.model_copy(update={"call": None, "tasks": tasks})


def _difference(found: Schema, trained: Schema) -> str:
    """Keys whose values differ, with both values."""
    here, there = found.model_dump(mode="json"), trained.model_dump(mode="json")
    return ", ".join(f"{key}={here[key]} instead of {there[key]}" for key in here if here[key] != there[key])
