"""An encoded batch as the arguments that a model from elsewhere takes, in every form that a ``call`` can name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rankine.errors import BadRequest, ConfigError
from rankine.models.call import Argument, Call, PackedColumn
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.schema import CategoricalFeature, DenseFeature, Feature, Schema, SequenceFeature

__all__ = ["argument_dtype", "call_arguments", "check_call"]

_KINDS: Mapping[str, tuple[str, ...]] = {
    "value": ("categorical", "dense"),
    "column": ("categorical", "dense"),
    "flat": ("categorical", "dense"),
    "values": ("multi_hot",),
    "offsets": ("multi_hot",),
    "ends": ("multi_hot",),
    "weights": ("multi_hot",),
    "padded": ("sequence",),
    "length": ("sequence",),
    "mask": ("sequence",),
}
"""Kinds of feature that each form of an argument can hold."""


def call_arguments(call: Call, schema: Schema, batch: Batch) -> dict[str, np.ndarray]:
    """The model's arguments for every row of ``batch``, by name, in the order of the call.

    Shapes are those that :class:`~rankine.models.call.Argument` gives for each form. A sequence longer than its
    ``max_length`` is cut as the schema says; values without weights weigh one.

    Raises:
        BadRequest: the batch lacks a column.
        ConfigError: a feature is asked for in a form that its kind does not have.
    """
    check_call(call, schema)
    features = {feature.name: feature for feature in schema.features}
    rows = {name: _rows(features[name], batch) for argument in call.arguments for name in argument.features}
    return {
        argument.name: _build(argument, argument_dtype(argument, schema), features, rows) for argument in call.arguments
    }


def argument_dtype(argument: Argument, schema: Schema) -> np.dtype:
    """In which type the model gets an argument.

    Numbers are never cut to integers: where the call leaves the type of dense features or weights at int64, they are
    float32.
    """
    dense = {feature.name for feature in schema.features if isinstance(feature, DenseFeature)}
    numbers = argument.form == "weights" or not dense.isdisjoint(argument.features)
    return np.dtype("float32" if numbers else argument.dtype)


def check_call(call: Call, schema: Schema) -> None:
    """Refuse a call whose forms do not fit the kinds of the features.

    Raises:
        ConfigError: names the argument, and the forms that its feature has.
    """
    features = {feature.name: feature for feature in schema.features}
    for argument in call.arguments:
        where = f"call: argument '{argument.name}'"
        for column in argument.columns:
            feature = features[column.feature]
            if feature.kind == "multi_hot" or (column.part == "length" and feature.kind != "sequence"):
                allowed = "categorical, dense and sequence features; 'length' of a sequence"
                raise ConfigError(
                    f"a packed matrix cannot hold the {column.part} of '{feature.name}'",
                    where=where,
                    got=f"kind {feature.kind}",
                    allowed=allowed,
                )
        if argument.feature is None:
            continue
        feature = features[argument.feature]
        if argument.form == "flat" and isinstance(feature, DenseFeature) and feature.width > 1:
            raise ConfigError(
                f"feature '{feature.name}' has {feature.width} numbers a row, and form 'flat' one",
                where=where,
                hint="Write form 'value', which is (rows, width).",
            )
        kind = feature.kind
        if kind not in _KINDS[argument.form]:
            forms = ", ".join(form for form, kinds in _KINDS.items() if kind in kinds)
            raise ConfigError(
                f"feature '{argument.feature}' of kind {kind} has no form '{argument.form}'",
                where=where,
                allowed=forms,
                hint="Change the argument's form, or the feature's kind.",
            )


def _rows(feature: Feature, batch: Batch) -> Column:
    """The feature's value for every row."""
    columns = batch.pair if feature.per_row else batch.request if feature.side == "request" else batch.item
    if feature.name not in columns:
        raise BadRequest("the batch lacks this column", where=feature.name)
    column = columns[feature.name]
    if feature.per_row:
        return column
    index = batch.request_index if feature.side == "request" else batch.item_index
    return column.take(index) if isinstance(column, Ragged) else column[index]


def _build(
    argument: Argument, dtype: np.dtype, features: Mapping[str, Feature], rows: Mapping[str, Column]
) -> np.ndarray:
    if argument.feature is None:
        parts = [_packed(column, features[column.feature], rows[column.feature]) for column in argument.columns]
        # Ids in a matrix of floats are exact up to 2**24, as for the model itself.
        return np.concatenate([part.astype(dtype) for part in parts], axis=1)
    feature, column = features[argument.feature], rows[argument.feature]
    return np.ascontiguousarray(_form(argument, feature, column)).astype(dtype, copy=False)


def _form(argument: Argument, feature: Feature, column: Column) -> np.ndarray:
    if not isinstance(column, Ragged):
        if argument.form == "flat":
            return column.reshape(len(column))
        return column[:, None] if argument.form == "column" and column.ndim == 1 else column
    match argument.form:
        case "values":
            return column.values
        case "offsets":
            return column.offsets[:-1]
        case "ends":
            return column.offsets
        case "weights":
            return np.ones(len(column.values), np.float32) if column.weights is None else column.weights
        case "length":
            return _lengths(feature, column)
        case "mask":
            width = _sequence(feature).max_length
            return np.arange(width) < _lengths(feature, column)[:, None]
        case _:
            return _padded(feature, column, argument.pad)


def _packed(part: PackedColumn, feature: Feature, column: Column) -> np.ndarray:
    """The columns ``(rows, n)`` of one feature."""
    if isinstance(column, Ragged):
        if part.part == "length":
            return _lengths(feature, column)[:, None]
        return _padded(feature, column, part.pad)
    return column[:, None] if isinstance(feature, CategoricalFeature) else column


def _padded(feature: Feature, column: Ragged, pad: int) -> np.ndarray:
    """Ids ``(rows, max_length)``, ``pad`` after the values of each row."""
    sequence = _sequence(feature)
    lengths = _lengths(feature, column).astype(np.int64)
    starts = column.offsets[:-1].astype(np.int64)
    if sequence.truncation == "left":
        starts = column.offsets[1:].astype(np.int64) - lengths
    positions = np.arange(sequence.max_length)
    inside = positions < lengths[:, None]
    padded = np.full(inside.shape, pad, np.int64)
    padded[inside] = column.values[(starts[:, None] + positions)[inside]]
    return padded


def _lengths(feature: Feature, column: Ragged) -> np.ndarray:
    """Values of each row that are left after truncation, ``(rows,)``."""
    return np.minimum(np.diff(column.offsets), _sequence(feature).max_length)


def _sequence(feature: Feature) -> SequenceFeature:
    if not isinstance(feature, SequenceFeature):
        raise TypeError(f"{feature.name}: checked to be a sequence before")
    return feature
