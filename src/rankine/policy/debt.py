"""Quality debt: what the rungs in use may have given up at most, by their certificates, weighted by traffic."""

from __future__ import annotations

import math

__all__ = ["QualityDebt"]


class QualityDebt:
    """Certified upper bound of the AUC given up, averaged over requests.

    Args:
        memory_s: over which :meth:`recent` forgets.
    """

    def __init__(self, memory_s: float = 60.0) -> None:
        self._memory_s = memory_s
        self._loss = self._weight = 0.0
        self._recent_loss = self._recent_weight = 0.0
        self._seen_s = math.nan

    def add(self, loss: float, requests: float, now_s: float) -> None:
        """``requests`` were answered by a rung whose loss is certified to be at most ``loss``.

        A variant that is certified to be better than the original gives up nothing, but pays nobody else's debt back.
        """
        given_up = max(0.0, loss) * requests
        self._loss += given_up
        self._weight += requests
        self._fade(now_s)
        self._recent_loss += given_up
        self._recent_weight += requests

    @property
    def total(self) -> float:
        """Over all requests since the start; 0 before the first."""
        return self._loss / self._weight if self._weight else 0.0

    def recent(self, now_s: float) -> float:
        """Over the last minute or so, exponentially weighted; 0 where there was no request."""
        self._fade(now_s)
        return self._recent_loss / self._recent_weight if self._recent_weight > 1e-9 else 0.0

    def _fade(self, now_s: float) -> None:
        if not math.isnan(self._seen_s) and now_s > self._seen_s:
            left = math.exp((self._seen_s - now_s) / self._memory_s)
            self._recent_loss *= left
            self._recent_weight *= left
        self._seen_s = now_s
