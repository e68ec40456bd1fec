"""Raw values as clients send them to raw columns: types, defaults, limits. Encoding is the transforms' work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from rankine.errors import BadRequest, DataError
from rankine.models.columns import Column, Columns, Ragged
from rankine.models.schema import CategoricalFeature, DenseFeature, Feature, MultiHotFeature
from rankine.models.transforms import Transforms

__all__ = [
    "INT64",
    "MAX_STRING_CHARS",
    "TEXT",
    "as_bytes_array",
    "column_of",
    "default_column",
    "encode",
    "ids_array",
    "type_of",
]

MAX_STRING_CHARS = 1024
_MAX_STRING_COLUMN_BYTES = 64 << 20
INT64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TEXT = Annotated[str, Meta(max_length=MAX_STRING_CHARS)]


def type_of(feature: Feature) -> Any:
    """The type of one value of a feature, as msgspec decodes and checks it."""
    match feature:
        case DenseFeature(width=1):
            return float
        case DenseFeature(width=width):
            return Annotated[list[float], Meta(min_length=width, max_length=width)]
        case MultiHotFeature(max_length=longest):
            return Annotated[list[_scalar(feature)], Meta(max_length=longest)]  # type: ignore[misc]
        case CategoricalFeature():
            return _scalar(feature)


def column_of(feature: Feature, values: Sequence[Any], where: str) -> Column:
    """A raw column from one value a row, each already of :func:`type_of`.

    Raises:
        BadRequest: a string holds NUL, or the strings are too long together.
    """
    match feature:
        case DenseFeature():
            return as_float32(np.array(values, np.float64)).reshape(len(values), -1)
        case MultiHotFeature():
            offsets = np.zeros(len(values) + 1, np.int32)
            np.cumsum([len(row) for row in values], out=offsets[1:])
            return Ragged(_flat(feature, [value for row in values for value in row], where), offsets)
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


def _scalar(feature: CategoricalFeature | MultiHotFeature) -> Any:
    return INT64 if feature.dtype == "int64" else TEXT


def _flat(feature: CategoricalFeature | MultiHotFeature, values: Sequence[Any], where: str) -> np.ndarray:
    return np.array(values, np.int64) if feature.dtype == "int64" else as_bytes_array(values, where)
