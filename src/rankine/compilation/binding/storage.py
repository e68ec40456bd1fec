"""How values of items are stored: FP32 as they are, FP16 rounded, INT8 with a scale and a bias a row, as tables are."""

from __future__ import annotations

import numpy as np

from rankine.compilation.binding.costs import Storage
from rankine.compression.table_rows import quantize_rows
from rankine.errors import EngineError

__all__ = ["restored", "stored"]


def stored(values: np.ndarray, storage: Storage, where: str) -> dict[str, np.ndarray]:
    """``(items, width)`` floats as they are stored, by what follows the name of their column: ``""`` the rows; of INT8
    also ``.scale`` and ``.bias``, float32 ``(items,)``.

    Raises:
        EngineError: a value is not finite as stored; names ``where``.
    """
    with np.errstate(over="ignore"):  # what a half cannot hold is infinite, and refused just below
        values = values.astype(np.float16 if storage == "float16" else np.float32, copy=False)
    if not np.isfinite(values).all():
        hint = "Store it as float32." if storage == "float16" else "The catalog graph gives NaN or infinity."
        raise EngineError("a value stored of an item is not finite", where=where, allowed=storage, hint=hint)
    if storage != "int8":
        return {"": values}
    table, _ = quantize_rows(values, "int8", np.float32)
    if table.scale is None or table.bias is None:
        raise EngineError("INT8 rows came without scale and bias", where=where)
    return {"": table.rows, ".scale": table.scale, ".bias": table.bias}


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
