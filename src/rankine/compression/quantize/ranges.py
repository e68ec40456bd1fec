"""Ranges of activations: four ways to choose one from what was observed on calibration rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rankine.compression.quantize.observe import Observed

__all__ = ["CANDIDATES", "LEVELS", "Range", "RangeMethod", "candidates"]

LEVELS = 255
"""Steps of a u8 range."""
_THRESHOLDS = 64
_SHARES, _LEAST_SHARE = 24, 1 / 16
_LEAST_STEP = 1e-30
_TINY = 1e-8

RangeMethod = Literal["minmax", "percentile", "entropy", "mse"]


@dataclass(frozen=True)
class Range:
    """What 0 and 255 stand for; zero is always one of the levels, so that a ReLU's zeros and padding stay exact."""

    low: float
    high: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", min(float(self.low), 0.0))
        object.__setattr__(self, "high", max(float(self.high), 0.0))

    @property
    def scale(self) -> np.float32:
        """Of one step; a range of no width has steps of one, since all that it stands for is zero."""
        step = (self.high - self.low) / LEVELS
        return np.float32(step if step > _LEAST_STEP else 1.0)

    @property
    def zero_point(self) -> np.uint8:
        return np.uint8(np.clip(np.rint(-self.low / float(self.scale)), 0, LEVELS))

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """``values`` as the quantized graph sees them, float32 of the same shape."""
        zero = int(self.zero_point)
        codes = np.clip(np.rint(values / self.scale) + np.float32(zero), 0, LEVELS)
        found: np.ndarray = ((codes - np.float32(zero)) * self.scale).astype(np.float32)
        return found


def candidates(observed: Observed) -> dict[str, Range]:
    """A range by each way: what ``auto`` chooses from."""
    return {name: choose(observed) for name, choose in CANDIDATES.items()}


def _minmax(observed: Observed) -> Range:
    return Range(observed.low, observed.high)


def _percentile(share: float) -> Callable[[Observed], Range]:
    """The range that holds this share of the values, as much left out below as above."""

    def choose(observed: Observed) -> Range:
        edges, below = observed.edges, np.cumsum(observed.counts) / observed.counts.sum()
        low = int(np.searchsorted(below, (1 - share) / 2, side="right"))
        high = int(np.searchsorted(below, (1 + share) / 2, side="left"))
        return Range(edges[low], edges[min(high, len(below) - 1) + 1])

    return choose


def _entropy(observed: Observed) -> Range:
    """The clipping threshold whose 256 levels lose least information: the smallest Kullback-Leibler divergence of the
    histogram, clipped, from its quantized form (Migacz, "8-bit inference with TensorRT", GTC 2017)."""
    best, least = _minmax(observed), np.inf
    for clipped in _clipped(observed):
        divergence = _divergence(observed, clipped)
        if divergence < least:
            best, least = clipped, divergence
    return best


def _mse(observed: Observed) -> Range:
    """The range of least squared error, by a grid over both of its ends."""
    centers, counts = observed.centers, observed.counts
    shares = np.geomspace(1.0, _LEAST_SHARE, _SHARES)
    lows = shares * observed.low if observed.low < 0 else [0.0]
    highs = shares * observed.high if observed.high > 0 else [0.0]
    best, least = _minmax(observed), np.inf
    for low in lows:
        for high in highs:
            found = Range(low, high)
            error = float(np.square(found.rounded(centers) - centers) @ counts)
            if error < least:
                best, least = found, error
    return best


def _clipped(observed: Observed) -> list[Range]:
    """Ranges clipped at one threshold on either side, the widest first, the narrowest with a bin a level."""
    largest = max(-observed.low, observed.high)
    return [
        Range(max(observed.low, -threshold), min(observed.high, threshold))
        for threshold in largest * np.linspace(1.0, (LEVELS + 1) / len(observed.counts), _THRESHOLDS)
    ]


def _divergence(observed: Observed, clipped: Range) -> float:
    """Of the clipped histogram from the same one on 256 levels, in nats."""
    centers, counts = observed.centers, observed.counts
    inside = (centers >= clipped.low) & (centers <= clipped.high)
    kept = counts[inside].astype(np.float64)
    if not kept.sum():
        return np.inf
    reference = kept.copy()
    reference[0] += counts[centers < clipped.low].sum()
    reference[-1] += counts[centers > clipped.high].sum()
    levels = np.rint((centers[inside] - clipped.low) / clipped.scale).astype(np.int64)
    filled = (kept > 0).astype(np.float64)
    mean = np.bincount(levels, kept) / np.maximum(np.bincount(levels, filled), 1)
    model = np.where(kept > 0, mean[levels], 0.0)
    reference, model = reference / reference.sum(), model / model.sum()
    present = reference > 0
    return float((reference[present] * np.log(reference[present] / np.maximum(model[present], _TINY))).sum())


CANDIDATES: Mapping[str, Callable[[Observed], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile(0.9999),
    "percentile 99.9": _percentile(0.999),
    "entropy": _entropy,
    "mse": _mse,
}
