"""Rows of tables to INT8 and INT4, with a scale and a bias each: ``value = q * scale + bias``, as in FBGEMM."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from rankine.models.tables import Floats, Table, pack_int4

__all__ = ["quantize_rows"]

_LEVELS = {"int8": 255, "int4": 15}
_BLOCK_ROWS = 1 << 15
"""Rows that are quantized at once: bounds what is held beside a large table."""
_CLIP_STEP, _CLIP_STEPS, _REFITS = 0.01, 12, 2
"""INT4 ranges shrink by at most 12 steps of 1 % of the row's range and are refitted twice. On trained tables of 16
columns that takes a quarter off the squared error of min and max; more steps or rounds take nothing more."""


def quantize_rows(rows: Floats, form: Literal["int8", "int4"], scales: type[np.floating[Any]]) -> tuple[Table, float]:
    """The table of these rows ``(n, dim)``, and the squared error of it.

    INT8 covers the range of each row, with a scale and bias that were rounded to their type first. INT4 clips the range
    where that lowers the row's squared error: the greedy search of Guan et al., "Post-Training 4-bit Quantization on
    Embedding Tables" (2019, arXiv 1911.02079), and then least squares, given the levels found.

    Args:
        scales: NumPy type of scale and bias: float16 or float32.
    """
    levels = _LEVELS[form]
    count, dim = rows.shape
    cells = np.empty((count, -(-dim // 2) if form == "int4" else dim), np.uint8)
    scale, bias = np.ones(count, scales), np.zeros(count, scales)
    error = 0.0
    for start in range(0, count if dim else 0, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        low, high = rows[block].min(axis=1), rows[block].max(axis=1)
        if form == "int4":
            low, high = _refitted(rows[block], *_clipped(rows[block], low, high, levels), levels)
        scale[block], bias[block] = _outward(low, high, levels, scales)
        codes = _codes(rows[block], scale[block], bias[block], levels)
        error += float(_errors(rows[block], codes, scale[block], bias[block]).sum(dtype=np.float64))
        cells[block] = pack_int4(codes) if form == "int4" else codes
    return Table(cells, scale, bias, dim if form == "int4" else None), error


def _outward(low: Floats, high: Floats, levels: int, dtype: type[np.floating[Any]]) -> tuple[Floats, Floats]:
    """Scale and bias of a type, such that ``bias <= low`` and ``bias + levels * scale >= high``."""
    with np.errstate(over="ignore"):  # beyond the halves' range: infinite, and refused by the error that comes of it
        bias = low.astype(dtype)
        bias = np.where(bias > low, np.nextafter(bias, dtype(-np.inf)), bias)
        exact = (high.astype(np.float64) - bias.astype(np.float64)) / levels
        scale = exact.astype(dtype)
        scale = np.where(scale < exact, np.nextafter(scale, dtype(np.inf)), scale)
    return np.where(scale > 0, scale, dtype(1)), bias


def _codes(rows: Floats, scale: Floats, bias: Floats, levels: int) -> np.ndarray:
    """uint8 ``(n, dim)``: the nearest level of each value."""
    steps = (rows - bias.astype(np.float32)[:, None]) / scale.astype(np.float32)[:, None]
    codes: np.ndarray = np.clip(np.rint(steps), 0, levels).astype(np.uint8)
    return codes


def _errors(rows: Floats, codes: np.ndarray, scale: Floats, bias: Floats) -> Floats:
    """Squared error of each row, ``(n,)``."""
    found = codes * scale.astype(np.float32)[:, None] + bias.astype(np.float32)[:, None]
    errors: Floats = np.square(found - rows).sum(axis=1)
    return errors


def _clipped(rows: Floats, low: Floats, high: Floats, levels: int) -> tuple[Floats, Floats]:
    """The range of each row that lowers its squared error most: either end moves inward a step at a time, whichever is
    better, and the best range on the way is kept."""
    step = (high - low) * np.float32(_CLIP_STEP)
    best_low, best_high, least = low, high, _range_errors(rows, low, high, levels)
    for _ in range(_CLIP_STEPS):
        from_below = _range_errors(rows, low + step, high, levels)
        from_above = _range_errors(rows, low, high - step, levels)
        below = from_below < from_above
        low, high = np.where(below, low + step, low), np.where(below, high, high - step)
        errors = np.minimum(from_below, from_above)
        better = errors < least
        best_low, best_high = np.where(better, low, best_low), np.where(better, high, best_high)
        least = np.minimum(errors, least)
    return best_low, best_high


def _refitted(rows: Floats, low: Floats, high: Floats, levels: int) -> tuple[Floats, Floats]:
    """The range of each row whose line fits the levels best that the values took, by turns: as Lloyd's algorithm."""
    for _ in range(_REFITS):
        scale = _step(low, high, levels)
        codes = _codes(rows, scale, low, levels)
        centered = codes - codes.mean(axis=1, dtype=np.float32, keepdims=True)
        spread = np.square(centered).sum(axis=1)
        slope = (centered * rows).sum(axis=1) / np.where(spread > 0, spread, 1)
        scale = np.where(slope > 0, slope, scale)
        low = np.where(high > low, rows.mean(axis=1) - scale * codes.mean(axis=1, dtype=np.float32), low)
        high = np.where(high > low, low + levels * scale, high)
    return low, high


def _range_errors(rows: Floats, low: Floats, high: Floats, levels: int) -> Floats:
    scale = _step(low, high, levels)
    return _errors(rows, _codes(rows, scale, low, levels), scale, low)


def _step(low: Floats, high: Floats, levels: int) -> Floats:
    """From one level to the next; one where the row's values are all equal (nearly: the quotient may round to zero)."""
    step: Floats = (high - low) / np.float32(levels)
    return np.where(step > 0, step, np.float32(1))
