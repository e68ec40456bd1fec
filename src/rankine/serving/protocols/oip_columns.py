"""Tensors of the Open Inference Protocol to raw columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rankine.errors import BadRequest
from rankine.models.columns import Column, Ragged
from rankine.models.schema import DenseFeature, Feature, RaggedFeature, TableFeature
from rankine.serving.inputs import as_bytes_array, as_float32, check_weighable, longest_list
from rankine.serving.protocols.oip_tensors import Tensor

__all__ = ["column_from_tensors", "ids_from_tensor", "refuse_incomplete", "rows_of_tensors"]

_PARTS = ("values", "offsets", "weights")


def rows_of_tensors(features: Iterable[Feature], tensors: Mapping[str, Tensor]) -> int:
    """Number of rows as the first tensor that tells it says; the others are checked against it later."""
    for feature in features:
        ragged = isinstance(feature, RaggedFeature)
        tensor = tensors.get(f"{feature.name}.offsets" if ragged else feature.name)
        if tensor is not None and tensor.shape:
            return max(0, tensor.shape[0] - 1) if ragged else tensor.shape[0]
    raise BadRequest("no input tells the number of rows", where="inputs")


def refuse_incomplete(feature: RaggedFeature, tensors: Mapping[str, Tensor]) -> None:
    """A ragged feature is given as values and offsets, or not at all.

    Raises:
        BadRequest: names the tensor that is missing.
    """
    given = [part for part in _PARTS if f"{feature.name}.{part}" in tensors]
    missing = [part for part in _PARTS[:2] if part not in given]
    if given and missing:
        hint = "A ragged feature is values and offsets."
        raise BadRequest("required input is missing", where=f"{feature.name}.{missing[0]}", hint=hint)


def column_from_tensors(feature: Feature, tensors: Mapping[str, Tensor], rows: int) -> Column | None:
    """The raw column of a feature, or None where its tensors are not given.

    Raises:
        BadRequest: names the tensor whose shape, datatype or values are wrong.
    """
    if isinstance(feature, RaggedFeature):
        return _ragged(feature, tensors, rows)
    tensor = tensors.get(feature.name)
    if tensor is None:
        return None
    width = feature.width if isinstance(feature, DenseFeature) else 1
    allowed = [(rows, width), (rows,)] if width == 1 else [(rows, width)]
    if tensor.shape not in allowed:
        got = f"shape {list(tensor.shape)}"
        raise BadRequest("has the wrong shape", where=tensor.name, got=got, allowed=str(list(allowed[-1])))
    if isinstance(feature, DenseFeature):
        return _floats(tensor).reshape(rows, width)
    return _flat(feature, tensor)


def ids_from_tensor(tensor: Tensor, dtype: str) -> tuple[list[Any], np.ndarray]:
    """External item ids, as the reply gives them and as the catalog looks them up."""
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ((), (1,)):
        raise BadRequest("has the wrong shape", where=tensor.name, got=f"shape {list(tensor.shape)}", allowed="[N]")
    known = _integers(tensor) if dtype == "int64" else _texts(tensor)
    ids: list[Any] = known.tolist() if dtype == "int64" else tensor.values.tolist()
    return ids, known


def _ragged(feature: RaggedFeature, tensors: Mapping[str, Tensor], rows: int) -> Ragged | None:
    refuse_incomplete(feature, tensors)
    names = [f"{feature.name}.{part}" for part in _PARTS]
    values, offsets, weights = (tensors.get(name) for name in names)
    if values is None or offsets is None:
        return None
    flat = _flat(feature, values)
    starts = _integers(offsets)
    if offsets.shape != (rows + 1,):
        got = f"shape {list(offsets.shape)}"
        raise BadRequest("has the wrong shape", where=names[1], got=got, allowed=f"[{rows + 1}], one more than rows")
    if starts[0] != 0 or starts[-1] != len(flat) or (starts[1:] < starts[:-1]).any():
        allowed = f"non-decreasing from 0 to {len(flat)}, the number of values"
        raise BadRequest("offsets do not fit the values", where=names[1], allowed=allowed)
    longest = int((starts[1:] - starts[:-1]).max())
    if longest > longest_list(feature):
        allowed = f"at most {longest_list(feature)} values a row"
        raise BadRequest("a list is too long", where=names[0], got=longest, allowed=allowed)
    if weights is None:
        return Ragged(flat, starts.astype(np.int32))
    check_weighable(feature, names[2])
    return Ragged(flat, starts.astype(np.int32), _weights(weights, len(flat)))


def _weights(tensor: Tensor, count: int) -> np.ndarray:
    factors = _floats(tensor)
    if len(factors) != count:
        raise BadRequest("must have one weight a value", where=tensor.name, got=len(factors), allowed=str(count))
    if not np.isfinite(factors).all():
        raise BadRequest("must be finite", where=tensor.name, got="NaN or infinity")
    return factors


def _flat(feature: TableFeature, tensor: Tensor) -> np.ndarray:
    return _integers(tensor) if feature.dtype == "int64" else _texts(tensor)


def _integers(tensor: Tensor) -> np.ndarray:
    if tensor.values.dtype.kind not in "iu":
        raise BadRequest("has the wrong datatype", where=tensor.name, got=tensor.datatype, allowed="INT64")
    if tensor.values.dtype == np.uint64 and (tensor.values > np.uint64(2**63 - 1)).any():
        raise BadRequest("a value is out of int64's range", where=tensor.name, allowed="INT64")
    return tensor.values.astype(np.int64)


def _floats(tensor: Tensor) -> np.ndarray:
    if tensor.values.dtype.kind not in "fiu":
        raise BadRequest("has the wrong datatype", where=tensor.name, got=tensor.datatype, allowed="FP32")
    return as_float32(tensor.values)


def _texts(tensor: Tensor) -> np.ndarray:
    if tensor.datatype != "BYTES":
        raise BadRequest("has the wrong datatype", where=tensor.name, got=tensor.datatype, allowed="BYTES")
    return as_bytes_array(tensor.values.tolist(), tensor.name)
