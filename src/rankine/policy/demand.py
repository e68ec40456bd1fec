"""How much work is offered, admitted or not, and how much can be done: what the ladder and autoscaling look at."""

from __future__ import annotations

import math

__all__ = ["Demand", "engine_share"]

_LEAST_SHARE = 0.05


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


def engine_share(loop_per_s: float, engine_per_s: float) -> float:
    """The share of a core that is left to an engine which shares it with an event loop.

    A cheaper rung makes the engine's work less, not the loop's: that is what the engine has to make do with.

    Args:
        loop_per_s: seconds that the loop works a second, the engine's calls that it makes included.
        engine_per_s: seconds of those calls.
    """
    return max(_LEAST_SHARE, 1.0 - max(0.0, loop_per_s - engine_per_s))
