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

__all__ = ["TRAINING_FILE", "BaselineRecord", "TrainingRecord", "check_same_data", "check_same_schema", "data_part"]

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
    check_same_schema(artifact, dataset)
    record = artifact.read_json(TRAINING_FILE, BaselineRecord)
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


def check_same_schema(artifact: Artifact, dataset: Dataset) -> None:
    """Refuse data that is read otherwise than what the baseline was trained on; which rows it has does not matter.

    Raises:
        DataError: says what differs.
    """
    trained = data_part(Transforms.read(artifact).schema)
    if data_part(dataset.schema) != trained:
        raise DataError(
            "is read by another schema than the baseline was trained with",
            where=dataset.name,
            got=_difference(data_part(dataset.schema), trained),
            allowed="the features, labels and split of training",
            hint="Give the same --data as for training, and the same --schema if one was given.",
        )


def data_part(schema: Schema) -> Schema:
    """A schema without what is found out when a model is brought in: how it is called, and its links."""
    tasks = tuple(task.model_copy(update={"link": "sigmoid"}) for task in schema.tasks)
    return schema.model_copy(update={"call": None, "tasks": tasks})


def _difference(found: Schema, trained: Schema) -> str:
    """The features that only one has, and what both have with other values."""
    here, there = found.model_dump(mode="json"), trained.model_dump(mode="json")
    ours, theirs = ({one["name"]: one for one in facts.pop("features")} for facts in (here, there))
    only = (
        ("without", [name for name in theirs if name not in ours]),
        ("with", [one for one in ours if one not in theirs]),
    )
    told = [f"{word} the features {', '.join(names)}" for word, names in only if names]
    for name in ours:
        told += _differing(ours[name], theirs.get(name, ours[name]), f"{name}.")
    told += _differing(here, there)
    return "; ".join(told or ["the features in another order"])


def _differing(here: Mapping[str, Any], there: Mapping[str, Any], of: str = "") -> list[str]:
    keys = [key for key in dict.fromkeys([*here, *there]) if here.get(key) != there.get(key)]
    return [f"{of}{key}={here.get(key)} instead of {there.get(key)}" for key in keys]
