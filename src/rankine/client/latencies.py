"""How long requests took lately, by their size: what is slow for ten candidates is fast for a thousand."""

from __future__ import annotations

from collections import deque
from math import ceil

__all__ = ["Latencies"]

_KEPT = 512
_ENOUGH = 50
_SORT_EVERY = 32


class Latencies:
    """A quantile of the last latencies, for each power of two of candidates."""

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._sizes: dict[int, _Window] = {}

    def observe(self, rows: int, latency_s: float) -> None:
        """A request of ``rows`` candidates took, or at least took, ``latency_s``."""
        self._sizes.setdefault(rows.bit_length(), _Window()).add(latency_s, self._quantile)

    def quantile_s(self, rows: int) -> float | None:
        """The quantile among requests of about ``rows`` candidates; None until there were enough of them."""
        window = self._sizes.get(rows.bit_length())
        return None if window is None else window.quantile_s


class _Window:
    """The last latencies of one size; they are sorted now and then, not at every request."""

    def __init__(self) -> None:
        self.quantile_s: float | None = None
        self._last: deque[float] = deque(maxlen=_KEPT)
        self._until_sorted = _ENOUGH

    def add(self, latency_s: float, quantile: float) -> None:
        self._last.append(latency_s)
        self._until_sorted -= 1
        if self._until_sorted == 0:
            self._until_sorted = _SORT_EVERY
            self.quantile_s = sorted(self._last)[ceil(quantile * len(self._last)) - 1]
