"""Rows of a data set on which models are compared: encoded, with labels, and with what makes them dependent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rankine.artifact import Artifact
from rankine.certification.fields import field_slices, training_counts
from rankine.certification.settings import CertifySettings
from rankine.certification.slices import Slice, slices_of
from rankine.data.dataset import Dataset
from rankine.data.labels import check_classes
from rankine.models.columns import Batch
from rankine.models.schema import Task
from rankine.models.transforms import Transforms

__all__ = ["EvaluationRows", "held_out_rows", "slices_for", "split_facts"]


@dataclass(frozen=True, eq=False)
class EvaluationRows:
    """The rows of one split.

    Attributes:
        labels: ``(rows, tasks)``.
        tasks: the artifact's, whose links are those of the model.
        clusters: ids ``(rows,)`` by dimension, user and item.
        digest: hash of which rows these are, and of their labels.
    """

    batch: Batch
    labels: np.ndarray
    tasks: tuple[Task, ...]
    clusters: Mapping[str, np.ndarray]
    digest: str

    @property
    def groups(self) -> np.ndarray | None:
        """Whose lists are ranked: the user of each row, ``(rows,)``, where known."""
        return self.clusters.get("user")

    def take(self, index: np.ndarray) -> EvaluationRows:
        """Some of the rows; the digest stays that of all."""
        clusters = {name: ids[index] for name, ids in self.clusters.items()}
        return EvaluationRows(self.batch.select(index), self.labels[index], self.tasks, clusters, self.digest)


def held_out_rows(artifact: Artifact, dataset: Dataset) -> tuple[EvaluationRows, EvaluationRows]:
    """The validation and the test rows.

    Raises:
        DataError: the test rows of a task have one class only.
    """
    splits, transforms = dataset.splits(), Transforms.read(artifact)
    encoded, tasks = dataset.encode(transforms), transforms.schema.tasks
    check_classes(tasks, dataset.labels[splits.test], "test")
    validation, test = (_rows(dataset, encoded, tasks, part) for part in (splits.validation, splits.test))
    return validation, test


def slices_for(
    artifact: Artifact, dataset: Dataset, test: EvaluationRows, settings: CertifySettings
) -> Sequence[Slice]:
    """The parts of the test rows that are tested for harm, as the settings ask.

    Raises:
        UsageError: a field is asked for that is no categorical or multi-hot feature.
    """
    if not settings.slices:
        return ()
    splits = dataset.splits()
    by_field = field_slices(Transforms.read(artifact), test.batch, settings.slice_fields)
    ids = {} if dataset.groups is None else {"user": dataset.groups}
    if len(dataset.item_ids) > 1:
        ids["item"] = dataset.item_index
    counts = {name: training_counts(values[splits.train], values[splits.test]) for name, values in ids.items()}
    return by_field + slices_of({}, train_counts=counts)


def split_facts(dataset: Dataset) -> dict[str, str]:
    """Where the rows come from, for a certificate: the data set's provenance, and how it is split."""
    data = {f"data.{key}": value for key, value in dataset.provenance.items()}
    return {"split": dataset.schema.split.model_dump_json(), **data}


def _rows(dataset: Dataset, encoded: Batch, tasks: tuple[Task, ...], part: np.ndarray) -> EvaluationRows:
    labels = dataset.labels[part]
    digest = hashlib.sha256(np.ascontiguousarray(part, "<i8").tobytes())
    digest.update(np.ascontiguousarray(labels, "<f4").tobytes())
    # The artifact's tasks, not the data set's: only they have the links that were found when a model was brought in.
    return EvaluationRows(encoded.select(part), labels, tasks, dataset.clusters(part), digest.hexdigest())
