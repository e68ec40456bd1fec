"""Data sets that bring a schema of their own, read with another one of the same columns."""

from __future__ import annotations

from dataclasses import replace

from rankine.data.dataset import Dataset
from rankine.data.labels import read_labels
from rankine.errors import UsageError, did_you_mean
from rankine.models.schema import DenseFeature, Feature, MultiHotFeature, Schema

__all__ = ["adopt_schema", "with_schema"]


def with_schema(dataset: Dataset, wanted: Schema | None) -> Dataset:
    """The data set, which has one task, read with another schema of its columns, or as it is where none is wanted.

    Raises:
        UsageError: as :func:`adopt_schema` says.
        DataError: a label is neither 0 nor 1, and its task has no threshold.
    """
    if wanted is None:
        return dataset
    schema = adopt_schema(wanted, dataset.schema, name=dataset.name)
    columns = {dataset.schema.tasks[0].label: dataset.labels[:, 0]}
    return replace(
        dataset,
        schema=schema,
        requests={feature.name: dataset.requests[feature.name] for feature in schema.request_features},
        items={feature.name: dataset.items[feature.name] for feature in schema.catalog_features},
        pairs={feature.name: dataset.pairs[feature.name] for feature in schema.row_features},
        labels=read_labels(schema.tasks, columns, lambda task: f"{dataset.name}: task '{task.name}'"),
    )


def adopt_schema(wanted: Schema | None, own: Schema, *, name: str) -> Schema:
    """``wanted``, if it reads the columns that ``own`` reads; ``own`` where none is wanted.

    Features can be left out and put into another order; encoding, table, default, pooling and length are free, and so
    are tasks, ranking, split and call. What the columns are is not: name, side, freshness, kind, dtype, width and
    weights of a feature, the columns of item, group and time, and the labels that there are.

    Args:
        own: has every feature and every label column of the data set.
        name: of the data set, for messages.

    Raises:
        UsageError: names the first thing that the data set does not have so.
    """
    if wanted is None:
        return own
    features = {feature.name: feature for feature in own.features}
    for feature in wanted.features:
        if feature.name not in features:
            hint = did_you_mean(feature.name, features)
            raise UsageError(f"{name} brings its own schema, without '{feature.name}'", where="schema", hint=hint)
        _check_alike(name, feature, features[feature.name])
    for key in ("item_id", "item_id_dtype", "group", "timestamp"):
        got, allowed = getattr(wanted, key), getattr(own, key)
        if got != allowed:
            raise _differs(name, f"schema: {key}", str(got), str(allowed))
    labels = {task.label for task in own.tasks}
    for task in wanted.tasks:
        if task.label not in labels:
            raise _differs(name, f"schema: tasks: {task.name}: label", task.label, ", ".join(sorted(labels)))
    return wanted


def _check_alike(name: str, wanted: Feature, own: Feature) -> None:
    for key in ("kind", "side", "freshness", "dtype"):
        got, allowed = getattr(wanted, key), getattr(own, key)
        if got != allowed:
            raise _differs(name, f"schema: feature '{own.name}': {key}", str(got), str(allowed))
    if isinstance(wanted, MultiHotFeature) and isinstance(own, MultiHotFeature) and wanted.weights != own.weights:
        raise _differs(name, f"schema: feature '{own.name}': weights", str(wanted.weights), str(own.weights))
    if isinstance(wanted, DenseFeature) and isinstance(own, DenseFeature) and wanted.width != own.width:
        raise _differs(name, f"schema: feature '{own.name}': width", str(wanted.width), str(own.width))


def _differs(name: str, where: str, got: str, allowed: str) -> UsageError:
    return UsageError(f"{name} brings its own schema, and has this otherwise", where=where, got=got, allowed=allowed)
