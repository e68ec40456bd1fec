"""How values of items are stored: FP32 as they are, FP16 rounded, INT8 with a scale a row."""

from __future__ import annotations

import numpy as np

from rankine.compilation.binding.costs import Storage

__all__ = ["restored"]

_LARGEST_CODE = 127


def restored(values: np.ndarray, storage: Storage) -> np.ndarray:
    """``(items, ...)`` floats as they are read again.

    FP16 saturates at its largest number. INT8 is symmetric: ``round(x / scale)``, ``scale = max |x| / 127`` a row.
    """
    if storage == "float32":
        return values
    if storage == "float16":
        largest = float(np.finfo(np.float16).max)
        return np.asarray(np.clip(values, -largest, largest).astype(np.float16), values.dtype)
    rows = values.reshape(len(values), -1)
    scale = np.abs(rows).max(axis=1, keepdims=True, initial=0.0) / _LARGEST_CODE
    codes = np.rint(np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0))
    return np.asarray(codes * scale, values.dtype).reshape(values.shape)
