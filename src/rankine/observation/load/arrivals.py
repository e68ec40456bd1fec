"""When requests are due: the arrival process of an open loop.

Gaps of a Poisson process are *exponential* with mean ``1 / rate``. (Gaps drawn from a Poisson distribution, as some
load generators do, are another process altogether, with far less burstiness.)
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rankine.errors import UsageError

__all__ = ["Arrivals", "schedule"]

Arrivals = Literal["exponential", "fixed"]


def schedule(
    rate_rps: float, duration_s: float, *, seed: int, arrivals: Arrivals = "exponential"
) -> NDArray[np.float64]:
    """Times at which requests are due, in seconds from the start, increasing, all below ``duration_s``.

    Args:
        rate_rps: mean rate in requests per second.
        duration_s: length of the run.
        seed: the same seed gives the same times.
        arrivals: ``exponential`` gaps (MLPerf's Server scenario), or ``fixed`` gaps of ``1 / rate_rps``.

    Raises:
        UsageError: the rate or the duration is not positive.
    """
    for where, value in (("rate_rps", rate_rps), ("duration_s", duration_s)):
        if not (value > 0 and np.isfinite(value)):
            raise UsageError("must be positive and finite", where=where, got=value)
    if arrivals == "fixed":
        return np.arange(max(1, round(rate_rps * duration_s)), dtype=np.float64) / rate_rps
    random = np.random.default_rng(seed)
    expected = rate_rps * duration_s
    # Six standard deviations more than expected: a second draw is needed about once in a billion runs.
    block = int(expected + 6 * np.sqrt(expected) + 16)
    due = np.cumsum(random.exponential(1 / rate_rps, block))
    while due[-1] < duration_s:
        due = np.concatenate([due, due[-1] + np.cumsum(random.exponential(1 / rate_rps, block))])
    return due[due < duration_s]
