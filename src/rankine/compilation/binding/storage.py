"""How values of items are stored: FP32 as they are, FP16 rounded, INT8 with a scale and a bias a row, as tables are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rankine.compilation.binding.costs import Storage
from rankine.compression.table_rows import quantize_rows
from rankine.errors import EngineError

__all__ = ["STORED_PARTS", "restored", "stored"]

STORED_PARTS: Mapping[Storage, tuple[str, ...]] = {"float32": ("",), "float16": ("",), "int8": ("", ".scale", ".bias")}
"""What follows the name of a stored column in the names of its arrays: of the rows nothing."""

_HALF_LIMIT = float(np.finfo(np.float16).max)
_BYTE_LIMIT = 0.49 * float(np.finfo(np.float32).max)
"""Between any two values of a row lies less than the largest float: 255 steps of its scale are finite."""


def stored(values: np.ndarray, storage: Storage, where: str, *, strict: bool = True) -> dict[str, np.ndarray]:
    """``(items, width)`` floats as they are stored, by what follows the name of their column (:data:`STORED_PARTS`):
    the rows; of INT8 also scale and bias, float32 ``(items,)``.

    INT8 rows are clipped to half the range of float32.

    Args:
        strict: whether an item may be refused, as where one is written. Otherwise FP16 saturates, and what is not
            finite stays so (an INT8 row is then NaN as a whole): that concerns only requests that ask for the item.

    Raises:
        EngineError: ``strict``, and a value is not finite as stored; names ``where``.
    """
    finite = np.isfinite(values)
    if storage == "float16" and not strict:
        values = np.where(finite, np.clip(values, -_HALF_LIMIT, _HALF_LIMIT), values)
    with np.errstate(over="ignore"):  # what a half cannot hold is infinite, and refused just below
        values = values.astype(np.float16 if storage == "float16" else np.float32, copy=False)
    if strict and not np.isfinite(values).all():
        hint = (
            "Store it as float32."
            if storage == "float16" and finite.all()
            else "The catalog graph gives NaN or infinity."
        )
        raise EngineError("a value stored of an item is not finite", where=where, allowed=storage, hint=hint)
    arrays = (values,) if storage != "int8" else _in_bytes(values, finite.all(axis=1), where)
    return dict(zip(STORED_PARTS[storage], arrays, strict=True))


def _in_bytes(values: np.ndarray, finite: np.ndarray, where: str) -> tuple[np.ndarray, ...]:
    """Rows, scale and bias. ``finite (items,)``: rows that are; of the others the bias is NaN."""
    rows = np.where(finite[:, None], np.clip(values, -_BYTE_LIMIT, _BYTE_LIMIT), np.float32(0))
    with np.errstate(over="ignore"):  # the squared error of large rows, which nobody reads
        table, _ = quantize_rows(rows, "int8", np.float32)
    if table.scale is None or table.bias is None:
        raise EngineError("INT8 rows came without scale and bias", where=where)
    return table.rows, table.scale, np.where(finite, table.bias, np.float32(np.nan))


def restored(values: np.ndarray, storage: Storage) -> np.ndarray:
    """``(items, ...)`` floats as they are read again."""
    if storage == "float32":
        return values
    flat = np.ascontiguousarray(values.reshape(len(values), -1), np.float32)
    parts = stored(flat, storage, "values")
    rows = parts[""].astype(np.float32)
    if storage == "int8":
        rows = rows * parts[".scale"][:, None] + parts[".bias"][:, None]
    return np.asarray(rows, values.dtype).reshape(values.shape)
