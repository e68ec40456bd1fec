"""Weights in the order in which kernels read them, and all arrays of a program in one blob."""

from __future__ import annotations

import math

import numpy as np

from rankine.compilation.fused.program import ABSENT, Code

__all__ = ["Blob", "packed_columns", "packed_weight"]

_COLUMNS = 16
"""Columns of weights are padded to a multiple of this."""
_PANEL = 64
"""Columns of a panel; the last one has what is left."""
_TOGETHER = 4
"""Consecutive products that one integer instruction adds."""
_UNIT = 64
"""Bytes that arrays are aligned to, the unit of references to them."""
_SLACK = 256
"""Bytes after the last array: kernels may read so far past the end of one."""


class Blob:
    """Arrays one after the other, equal ones once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._places: dict[bytes, int] = {}
        self._size = 0

    def reference(self, array: np.ndarray | None) -> int:
        """Where an array lies, in units of 64 bytes; ``ABSENT`` for none."""
        return ABSENT if array is None else self._place(array) // _UNIT

    def element(self, numbers: np.ndarray) -> int:
        """Where float32 numbers lie, in elements of four bytes."""
        return self._place(np.asarray(numbers, np.float32)) // 4

    def contents(self) -> bytes:
        return b"".join(self._parts) + bytes(_SLACK)

    def _place(self, array: np.ndarray) -> int:
        data = np.ascontiguousarray(array).tobytes()
        if data not in self._places:
            self._places[data] = self._size
            padded = data.ljust(_rounded_up(len(data), _UNIT), b"\0")
            self._parts.append(padded)
            self._size += len(padded)
        return self._places[data]


def packed_weight(code: Code, weight: np.ndarray) -> np.ndarray:
    """Weights ``(K, N)`` in panels of 64 columns.

    Returns:
        float32: each panel is its ``K`` rows. int8: each panel is ``ceil(K / 4)`` groups of ``(columns, 4)``, four
        rows side by side for each column. What is added to fill either is zero.
    """
    inner, width = weight.shape
    height = _rounded_up(inner, _TOGETHER) if code is Code.LINEAR_I8 else inner
    padded = np.zeros((height, _rounded_up(width, _COLUMNS)), weight.dtype)
    padded[:inner, :width] = weight
    panels = [padded[:, start : start + _PANEL] for start in range(0, padded.shape[1], _PANEL)]
    if code is Code.LINEAR_I8:
        panels = [panel.reshape(-1, _TOGETHER, panel.shape[1]).transpose(0, 2, 1) for panel in panels]
    return np.concatenate([panel.reshape(-1) for panel in panels])


def packed_columns(array: np.ndarray) -> np.ndarray:
    """One number a column, padded with zeros as the weights are."""
    return np.pad(array, (0, _rounded_up(len(array), _COLUMNS) - len(array)))


def _rounded_up(size: int, unit: int) -> int:
    return math.ceil(size / unit) * unit
