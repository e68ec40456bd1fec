"""Student's t, in the standard library alone: serving machines have no SciPy."""

from __future__ import annotations

import math
from statistics import NormalDist

from rankine.errors import UsageError

__all__ = ["t_probability", "t_quantile"]


def t_probability(value: float, freedom: float) -> float:
    """Chance that Student's t with ``freedom`` degrees of freedom is at most ``value``; normal where they are infinite.

    By the incomplete beta function, as a continued fraction (Lentz's method; Press et al., Numerical Recipes, 6.4).
    """
    if math.isinf(freedom):
        return NormalDist().cdf(value)
    tail = _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value * value)) / 2
    return tail if value < 0 else 1.0 - tail


def t_quantile(probability: float, freedom: float) -> float:
    """The value that Student's t stays below with ``probability``, by bisection.

    Raises:
        UsageError: ``probability`` is not between 0 and 1.
    """
    if not 0 < probability < 1:
        raise UsageError("not a probability", where="confidence", got=probability, allowed="between 0 and 1")
    if math.isinf(freedom):
        return NormalDist().inv_cdf(probability)
    low, high = -1e3, 1e3
    for _ in range(70):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function of ``0 <= x <= 1``."""
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, the mirrored one is fast
        return 1.0 - _incomplete_beta(b, a, 1.0 - x)
    scale = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1.0 / max(1.0 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, 300):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / max(1.0 + term * d, tiny)
            c = max(1.0 + term / c, tiny)
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return scale * fraction
