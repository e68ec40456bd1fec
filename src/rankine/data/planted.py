"""What the generators of synthetic data share: distributions, and the arithmetic of a planted logit."""

from __future__ import annotations

import numpy as np

from rankine.metrics import sigmoid

__all__ = ["bias_for", "draw", "falling", "standard", "zipf"]


def falling(size: int, exponent: float) -> np.ndarray:
    """Probabilities proportional to ``1 / rank ** exponent``, float64 ``(size,)``."""
    weights = 1.0 / np.arange(1, size + 1) ** exponent
    return np.asarray(weights / weights.sum())


def draw(rng: np.random.Generator, probabilities: np.ndarray, draws: int) -> np.ndarray:
    """Indices that occur with these probabilities, by inverse CDF, int64 ``(draws,)``."""
    cdf = np.cumsum(probabilities)
    return np.minimum(np.searchsorted(cdf, rng.random(draws), side="right"), len(cdf) - 1)


def zipf(rng: np.random.Generator, size: int, exponent: float, draws: int) -> np.ndarray:
    """Draws from a bounded Zipf distribution over ``size`` ids; ids are shuffled against ranks."""
    ranks = draw(rng, falling(size, exponent), draws)
    return np.asarray(rng.permutation(size)[ranks])


def standard(values: np.ndarray) -> np.ndarray:
    """The values shifted and scaled to mean 0 and standard deviation 1; constant ones to 0."""
    spread = float(values.std())
    return np.asarray((values - values.mean()) / (spread if spread > 0 else 1.0))


def bias_for(logits: np.ndarray, rate: float) -> float:
    """The shift at which the mean probability is ``rate``, by bisection (the mean rises with the shift)."""
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        if float(sigmoid(logits + middle).mean()) < rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2
