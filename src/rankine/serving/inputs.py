"""Raw values as clients send them to raw columns: types, defaults, limits. Encoding is the transforms' work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from rankine.errors import BadRequest, DataError
from rankine.models.columns import Column, Columns, Ragged
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    MultiHotFeature,
    RaggedFeature,
    SequenceFeature,
    TableFeature,
)
from rankine.models.transforms import Transforms

__all__ = [
    "INT64",
    "MAX_STRING_CHARS",
    "TEXT",
    "WeightedList",
    "as_bytes_array",
    "check_weighable",
    "column_of",
    "default_column",
    "encode",
    "ids_array",
    "longest_list",
    "type_of",
]

MAX_STRING_CHARS = 1024
_MAX_STRING_COLUMN_BYTES = 64 << 20
_HISTORIES = 16
_LEAST_LONGEST = 1024
_LISTS = frozenset((list, tuple))
INT64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TEXT = Annotated[str, Meta(max_length=MAX_STRING_CHARS)]


class WeightedList(msgspec.Struct, forbid_unknown_fields=True):
    """A list of values with one weight each: the other form in which a ragged feature may be given."""

    values: list[Any]
    weights: list[float]


def type_of(feature: Feature) -> Any:
    """The type of one value of a feature, as msgspec decodes and checks it."""
    match feature:
        case DenseFeature(width=1):
            return float
        case DenseFeature(width=width):
            return Annotated[list[float], Meta(min_length=width, max_length=width)]
        case MultiHotFeature() | SequenceFeature():
            longest = Meta(max_length=longest_list(feature))
            values: Any = list[INT64] if feature.dtype == "int64" else list[TEXT]
            values = Annotated[values, longest]
            parts = [("values", values), ("weights", Annotated[list[float], longest])]
            return values | msgspec.defstruct("Weighted", parts, bases=(WeightedList,), forbid_unknown_fields=True)
        case CategoricalFeature():
            return _scalar(feature)


def longest_list(feature: RaggedFeature) -> int:
    """Most values that a client may send for one row: of a sequence more than the model reads, since the transforms cut
    it, but not without bound."""
    if isinstance(feature, SequenceFeature):
        return max(_HISTORIES * feature.max_length, _LEAST_LONGEST)
    return feature.max_length


def check_weighable(feature: RaggedFeature, where: str) -> None:
    """Refuse weights where they mean nothing.

    Raises:
        BadRequest: the feature is pooled by max.
    """
    if isinstance(feature, MultiHotFeature) and feature.pooling == "max":
        raise BadRequest("takes no weights: it is pooled by max", where=where, hint="Give the values alone, as a list.")


def column_of(feature: Feature, values: Sequence[Any], where: str, *, one: bool = False) -> Column:
    """A raw column from one value a row, each already of :func:`type_of`.

    Args:
        one: ``where`` names the only row itself, not a list of rows.

    Raises:
        BadRequest: a string holds NUL, the strings are too long together, or weights do not fit their values.
    """
    match feature:
        case DenseFeature():
            return as_float32(np.array(values, np.float64)).reshape(len(values), -1)
        case MultiHotFeature() | SequenceFeature():
            if _LISTS.issuperset(map(type, values)):
                return _ragged(feature, values, None, where)
            weights = _weights(feature, values, where, one=one)
            lists = [row.values if isinstance(row, WeightedList) else row for row in values]
            return _ragged(feature, lists, weights, where)
        case CategoricalFeature():
            return _flat(feature, values, where)


def as_float32(values: np.ndarray) -> np.ndarray:
    """What float32 cannot hold becomes infinity, which the transforms refuse by the feature's name."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def default_column(feature: Feature, rows: int) -> Column | None:
    """The schema's default in every row, or None where it has none."""
    if feature.default is None:
        return None
    value = [feature.default] * feature.width if isinstance(feature, DenseFeature) else feature.default
    return column_of(feature, [value] * rows, feature.name)


def ids_array(ids: Sequence[Any], dtype: str, where: str) -> np.ndarray:
    """External item ids, int64 or UTF-8 bytes, ``(n,)``."""
    return np.array(ids, np.int64) if dtype == "int64" else as_bytes_array(ids, where)


def as_bytes_array(values: Sequence[str], where: str) -> np.ndarray:
    """Strings as fixed-width UTF-8 bytes.

    Raises:
        BadRequest: a string holds NUL (fixed-width arrays drop trailing ones, so that two ids could become one), or
            the array would be too large: its width is that of the longest string.
    """
    encoded = [value.encode("utf-8") for value in values]
    longest = max(map(len, encoded), default=1)
    if longest * len(encoded) > _MAX_STRING_COLUMN_BYTES:
        raise BadRequest(
            "the strings are too long together", where=where, got=f"{len(encoded)} of up to {longest} bytes"
        )
    if any(b"\0" in value for value in encoded):
        raise BadRequest("a string must not hold the character NUL", where=where)
    return np.array(encoded, dtype=f"S{max(longest, 1)}")


def encode(transforms: Transforms, features: tuple[Feature, ...], columns: Columns, where: str) -> dict[str, Column]:
    """Columns as ids and numbers.

    Raises:
        BadRequest: names the field below ``where`` whose value the transforms refuse.
    """
    try:
        return transforms.encode(features, columns)
    except DataError as error:
        raise BadRequest(
            error.message, where=f"{where}.{error.where}", got=error.got, allowed=error.allowed, hint=error.hint
        ) from None


def _ragged(feature: RaggedFeature, lists: Sequence[Sequence[Any]], weights: np.ndarray | None, where: str) -> Ragged:
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum([len(row) for row in lists], out=offsets[1:])
    return Ragged(_flat(feature, [value for row in lists for value in row], where), offsets, weights)


def _weights(feature: RaggedFeature, rows: Sequence[Any], where: str, *, one: bool) -> np.ndarray:
    """Weights of the values of all rows, float32 ``(m,)``; those of a plain list are one."""
    weights: list[float] = []
    for at, row in enumerate(rows):
        if not isinstance(row, WeightedList):
            weights += [1.0] * len(row)
            continue
        path = f"{where}.weights" if one else f"{where}[{at}].weights"
        check_weighable(feature, path)
        if len(row.weights) != len(row.values):
            allowed = str(len(row.values))
            raise BadRequest("must have one weight a value", where=path, got=len(row.weights), allowed=allowed)
        weights += row.weights
    found = as_float32(np.array(weights, np.float64))
    if not np.isfinite(found).all():
        raise BadRequest("weights must be finite in float32", where=where)
    return found


def _scalar(feature: TableFeature) -> Any:
    return INT64 if feature.dtype == "int64" else TEXT


def _flat(feature: TableFeature, values: Sequence[Any], where: str) -> np.ndarray:
    return np.array(values, np.int64) if feature.dtype == "int64" else as_bytes_array(values, where)
