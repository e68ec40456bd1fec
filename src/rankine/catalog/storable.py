"""Ids and raw features in the form in which files keep them: int64, float32 or UTF-8 bytes, never Python objects."""

from __future__ import annotations

import numpy as np

from rankine.errors import DataError, did_you_mean
from rankine.models.columns import Column, Columns, Ragged
from rankine.models.schema import Feature, MultiHotFeature, RaggedFeature, Schema

__all__ = ["as_ids", "refuse_twice", "storable_column"]


def as_ids(schema: Schema, ids: np.ndarray) -> np.ndarray:
    """External ids of any order as int64, or UTF-8 bytes, ``(n,)``.

    Raises:
        DataError: they are of another type.
    """
    if schema.item_id_dtype == "string":
        return _as_bytes(schema.item_id, ids)
    if ids.dtype.kind not in "iu":
        raise DataError("item ids must be integers", where=schema.item_id, got=str(ids.dtype), allowed="int64")
    return _as_int64(schema.item_id, ids)


def refuse_twice(schema: Schema, ids: np.ndarray) -> None:
    """Refuse an id that sorted ``ids (n,)`` hold more than once.

    Raises:
        DataError: names it.
    """
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        got = ids[twice[0]]
        shown = got.decode(errors="replace") if isinstance(got, bytes) else int(got)
        raise DataError("an item id is given twice", where=schema.item_id, got=shown, hint="Give one row an item.")


def storable_column(feature: Feature, columns: Columns, items: int) -> Column:
    """The raw column of a static item feature, as files keep it, ``items`` rows.

    Raises:
        DataError: it is missing, or has another length, form or type.
    """
    if feature.name not in columns:
        hint = did_you_mean(feature.name, columns)
        raise DataError("the catalog needs a column for this item feature", where=feature.name, hint=hint)
    column = columns[feature.name]
    if len(column) != items:
        raise DataError("must have one row an item", where=feature.name, got=len(column), allowed=str(items))
    if isinstance(column, Ragged) != isinstance(feature, RaggedFeature):
        allowed = "a ragged column" if isinstance(feature, RaggedFeature) else "one value an item"
        raise DataError("has the wrong form", where=feature.name, allowed=allowed)
    if not isinstance(column, Ragged):
        return _storable(feature, column)
    if isinstance(feature, MultiHotFeature) and feature.pooling == "max" and column.weights is not None:
        raise DataError("takes no weights: it is pooled by max", where=feature.name)
    weights = None if column.weights is None else column.weights.astype(np.float32)
    return Ragged(_storable(feature, column.values), column.offsets.astype(np.int32), weights)


def _storable(feature: Feature, values: np.ndarray) -> np.ndarray:
    if feature.dtype == "string":
        return _as_bytes(feature.name, values)
    if values.dtype.kind not in ("fiu" if feature.dtype == "float32" else "iu"):
        raise DataError("has the wrong type", where=feature.name, got=str(values.dtype), allowed=feature.dtype)
    return _as_int64(feature.name, values) if feature.dtype == "int64" else values.astype(feature.dtype)


def _as_int64(where: str, values: np.ndarray) -> np.ndarray:
    """The same integers; unsigned ones that int64 cannot hold would silently become negative."""
    if values.dtype.kind == "u" and values.size and values.max() > np.iinfo(np.int64).max:
        raise DataError(
            "a value is out of int64's range", where=where, got=int(values.max()), allowed="up to 2**63 - 1"
        )
    return values.astype(np.int64)


def _as_bytes(where: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        return values
    if values.dtype.kind == "U":
        return np.char.encode(values, "utf-8")
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values):
        return np.array([value.encode() for value in values], dtype=bytes)
    raise DataError("must be strings", where=where, got=str(values.dtype), allowed="string")
