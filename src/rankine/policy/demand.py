"""How much work is offered, admitted or not: what the ladder and autoscaling look at."""

from __future__ import annotations

import math

__all__ = ["Demand"]


class Demand:
    """Work offered per second, exponentially weighted over the last ``memory_s`` seconds."""

    def __init__(self, memory_s: float = 1.0) -> None:
        self._memory_s = memory_s
        self._work_per_s = 0.0
        self._seen_s = -math.inf

    def add(self, work_s: float, now_s: float) -> None:
        """A request came that takes ``work_s`` seconds of one worker."""
        since_s = now_s - self._seen_s
        if since_s > 0.0:
            self._work_per_s *= math.exp(-since_s / self._memory_s)
            self._seen_s = now_s
        self._work_per_s += work_s / self._memory_s

    def per_s(self, now_s: float) -> float:
        """Seconds of work a second: above the number of workers is more than they can do."""
        return self._work_per_s * math.exp(-max(0.0, now_s - self._seen_s) / self._memory_s)
