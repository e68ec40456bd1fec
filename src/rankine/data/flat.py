"""A flat table as the schema reads it: one row an interaction, every feature a column of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankine.data import arrow
from rankine.data.labels import read_labels
from rankine.models.columns import Column, Columns
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    MultiHotFeature,
    Schema,
    SequenceFeature,
    Task,
)

__all__ = ["Flat", "column_roles", "feature_column", "read_flat"]


@dataclass(frozen=True)
class Flat:
    """Rows of a flat table: every column has one value a row.

    Attributes:
        features: raw columns by feature; sequences are truncated to their ``max_length``.
        item_ids: ``(rows,)`` int64 or UTF-8 bytes.
        labels: ``(rows, tasks)`` float32, 0 or 1.
        groups: ``(rows,)`` int64 or UTF-8 bytes, or None.
        timestamps: ``(rows,)`` or None.
    """

    features: Columns
    item_ids: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    timestamps: np.ndarray | None


def column_roles(schema: Schema) -> dict[str, str]:
    """The columns that a table must have, each with what it is for (empty for a feature), in the schema's order."""
    roles = {feature.name: "" for feature in schema.features}
    for feature in schema.features:
        if isinstance(feature, MultiHotFeature) and feature.weights is not None:
            roles.setdefault(feature.weights, f"the weights of feature '{feature.name}'")
    for task in schema.tasks:
        roles.setdefault(task.label, f"the label of task '{task.name}'")
    roles.setdefault(schema.item_id, "the id of the item")
    if schema.group is not None:
        roles.setdefault(schema.group, "the group")
    if schema.timestamp is not None:
        roles.setdefault(schema.timestamp, "the timestamp")
    return roles


def read_flat(raw: Mapping[str, Any], schema: Schema, *, source: str) -> Flat:
    """Raw pyarrow arrays of the columns that :func:`column_roles` names as NumPy columns.

    Args:
        raw: one pyarrow array a column.
        source: the file, for messages; rows are counted from its first.

    Raises:
        DataError: names the column, and where it can the row and the task, that does not fit the schema.
    """

    def where(name: str) -> str:
        return f"{source}: column '{name}'"

    def of_task(task: Task) -> str:
        return f"{source}: task '{task.name}', column '{task.label}'"

    convert_ids = arrow.integers if schema.item_id_dtype == "int64" else arrow.strings
    numbers = {task.label: arrow.dense(raw[task.label], of_task(task), width=1, default=None) for task in schema.tasks}
    return Flat(
        features={feature.name: feature_column(feature, raw, where) for feature in schema.features},
        item_ids=convert_ids(raw[schema.item_id], where(schema.item_id)),
        labels=read_labels(schema.tasks, {name: column[:, 0] for name, column in numbers.items()}, of_task),
        groups=None if schema.group is None else arrow.factorize(raw[schema.group], where(schema.group)),
        timestamps=None if schema.timestamp is None else arrow.times(raw[schema.timestamp], where(schema.timestamp)),
    )


def feature_column(feature: Feature, raw: Mapping[str, Any], where: Callable[[str], str]) -> Column:
    """The raw pyarrow array of a feature as a NumPy column; errors as :func:`read_flat`."""
    column, place = raw[feature.name], where(feature.name)
    match feature:
        case DenseFeature(width=width, default=number):
            return arrow.dense(column, place, width=width, default=number)
        case MultiHotFeature(dtype=dtype, default=values, weights=name):
            weights = None if name is None else (raw[name], where(name))
            return arrow.lists(column, place, dtype=dtype, default=values, weights=weights)
        case SequenceFeature(dtype=dtype, default=values):
            found = arrow.lists(column, place, dtype=dtype, default=values)
            # Here already, so that no vocabulary holds values that the model never sees.
            return found.truncated(feature.max_length, keep_last=feature.truncation == "left")
        case CategoricalFeature(dtype="int64", default=value):
            return arrow.integers(column, place, default=None if value is None else int(value))
        case CategoricalFeature(default=value):
            return arrow.strings(column, place, default=None if value is None else str(value))
