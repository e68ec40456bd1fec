"""The event loop of a simulated server that shares its core with the engine: one thing after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rankine.policy.one_core import HELD_S

__all__ = ["SimulatedLoop", "SimulatedTurns"]

_BUSY_OVER_S = 0.0225
"""The share of time that it works is that of about so long, as :class:`rankine.serving.lag.LoopLag` counts."""


class SimulatedLoop:
    """When the loop is free, and how busy it is.

    Args:
        wakes_s: seconds more of what it does first after it had nothing to do, or had rested, by how long.

    Attributes:
        works: it has work at all; else it is done with everything at once, on a core of its own.
        free_s: when it is done with all that it has.
    """

    def __init__(self, wakes_s: Sequence[tuple[float, float]], *, works: bool) -> None:
        self.works = works
        self.free_s = 0.0
        self._idle_s = [idle_s for idle_s, _ in wakes_s] or [0.0]
        self._more_s = [more_s for _, more_s in wakes_s] or [0.0]
        self._rests_until_s = 0.0
        self._busy, self._counted_s = 0.0, 0.0

    def looks_s(self, arrived_s: float) -> float:
        """When it reads what has arrived at some time."""
        return max(arrived_s, self.free_s, self._rests_until_s) if self.works else arrived_s

    def work(self, now_s: float, seconds: float) -> float:
        """When it is done with something that is there now and takes so long."""
        if not self.works:
            return now_s
        if now_s > self.free_s:
            seconds += float(np.interp(now_s - self.free_s, self._idle_s, self._more_s))
        self.free_s = max(now_s, self.free_s) + seconds
        self._busy = self.busy(self.free_s) + seconds / _BUSY_OVER_S
        self._counted_s = self.free_s
        return self.free_s

    def rest(self, now_s: float, seconds: float) -> None:
        """It stands aside for so long, or until :meth:`wake`."""
        self._rests_until_s = max(now_s, self.free_s) + seconds if seconds else 0.0

    def wake(self) -> None:
        """A batch is done."""
        self._rests_until_s = 0.0

    def busy(self, now_s: float) -> float:
        """The share of the time until now that it worked."""
        return self._busy * math.exp(min(0.0, self._counted_s - now_s) / _BUSY_OVER_S)


class SimulatedTurns:
    """When the loop runs what is planned, as :class:`rankine.serving.turns.Turns` does: one batch a turn.

    Attributes:
        is_soon: something waits for a turn.
    """

    def __init__(self) -> None:
        self.is_soon = False
        self._since_s = 0.0
        self._goes_on_s: float | None = None

    def soon(self, now_s: float) -> None:
        """Something waits."""
        if not self.is_soon:
            self.is_soon, self._since_s = True, now_s

    def goes_s(self, free_s: float) -> float:
        """When a turn may run a batch, of a loop that is free then; infinity where nothing waits for one."""
        return max(self._since_s, free_s) if self.is_soon else math.inf

    def has_waited(self, now_s: float) -> bool:
        """Whether nothing further is read before the batch runs."""
        return self.is_soon and now_s - self._since_s >= HELD_S

    def begin(self) -> float | None:
        """The turn is there. Returns since when what runs now has waited for the one before, if it has."""
        goes_on_s, self._goes_on_s, self.is_soon = self._goes_on_s, None, False
        return goes_on_s

    def go_on(self, now_s: float) -> None:
        """A batch is done, and more waits."""
        self._goes_on_s = now_s
        self.soon(now_s)
