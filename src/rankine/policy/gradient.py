"""A limit on requests in flight that needs no model: it falls when latency rises over what it used to be.

Gradient2 of Netflix's concurrency-limits, which Envoy's adaptive concurrency resembles. A backstop: admission by
predicted time comes first, this catches what its model does not know.
"""

from __future__ import annotations

import math

__all__ = ["GradientLimit"]


class GradientLimit:
    """The number of requests that may be in flight.

    Args:
        first, least, most: the limit at the start, and its bounds.
        tolerance: latency may rise to so many times its long-term mean before the limit falls.
        queue: requests that may wait on top of those that run: how fast the limit grows.
        smoothing: share of a new value in the limit.
        window: samples over which the long-term mean forgets.
    """

    def __init__(
        self,
        *,
        first: float = 100.0,
        least: float = 10.0,
        most: float = 10_000.0,
        tolerance: float = 2.0,
        queue: float = 4.0,
        smoothing: float = 0.2,
        window: int = 600,
    ) -> None:
        self._limit, self._least, self._most = first, least, most
        self._tolerance, self._queue, self._smoothing = tolerance, queue, smoothing
        self._rate = 2.0 / (window + 1)
        self._long_s = math.nan

    @property
    def limit(self) -> float:
        """Requests that may be in flight now."""
        return self._limit

    def observe(self, latency_s: float, in_flight: int) -> None:
        """Learn from an answered request.

        Args:
            latency_s: from its admission to its answer.
            in_flight: requests in flight when it was admitted.
        """
        if not 0.0 < latency_s < math.inf:
            return
        if math.isnan(self._long_s):
            self._long_s = latency_s
        self._long_s += self._rate * (latency_s - self._long_s)
        # After a long overload the mean has risen with it: let it come down faster than it went up.
        if self._long_s > 2.0 * latency_s:
            self._long_s *= 0.95
        if in_flight < self._limit / 2:
            return  # the limit is not what holds the load back, so latency says nothing about it
        gradient = max(0.5, min(1.0, self._tolerance * self._long_s / latency_s))
        wanted = self._limit * gradient + self._queue
        limit = (1.0 - self._smoothing) * self._limit + self._smoothing * wanted
        self._limit = max(self._least, min(self._most, limit))
