"""Weights and biases of INT8 layers: s8, symmetric, one scale an output column; biases int32 on the product's scale."""

from __future__ import annotations

import numpy as np

__all__ = ["column_scales", "quantize_bias", "quantize_weight", "rounded_weight"]

_LARGEST = 127
"""Symmetric: -128 is not used."""
_LARGEST_BIAS = 2.0**30
_LEAST_SCALE = 1e-30


def column_scales(weight: np.ndarray, bias: np.ndarray | None = None, input_scale: float = 1.0) -> np.ndarray:
    """Float32 ``(columns,)`` for a weight ``(width, columns)``.

    Where weights are next to nothing beside the bias, the scale is as large as the bias needs to fit into an int32.
    """
    scale = np.abs(weight).max(axis=0).astype(np.float64) / _LARGEST
    if bias is not None:
        scale = np.maximum(scale, np.abs(bias).astype(np.float64) / (input_scale * _LARGEST_BIAS))
    found: np.ndarray = np.where(scale > _LEAST_SCALE, scale, 1.0).astype(np.float32)
    return found


def quantize_weight(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Int8 ``(width, columns)``."""
    codes: np.ndarray = np.clip(np.rint(weight / scale), -_LARGEST, _LARGEST).astype(np.int8)
    return codes


def quantize_bias(bias: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Int32 ``(columns,)``; ``scale`` is the input's times the column's, as integer kernels add it to their sums."""
    codes: np.ndarray = np.rint(bias.astype(np.float64) / scale).astype(np.int32)
    return codes


def rounded_weight(weight: np.ndarray) -> np.ndarray:
    """A weight as the quantized graph sees it, float32 ``(width, columns)``."""
    scale = column_scales(weight)
    found: np.ndarray = quantize_weight(weight, scale).astype(np.float32) * scale
    return found
