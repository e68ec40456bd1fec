"""Priorities of requests. They do not change the order, which would break promises already given: they leave room."""

from __future__ import annotations

import math
from enum import IntEnum

__all__ = ["Priorities", "Priority"]


class Priority(IntEnum):
    """How much a request matters; the lowest is refused first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


class Priorities:
    """Which priorities are in use: nobody leaves room to requests that do not come.

    Args:
        remembered_s: a priority is in use for so long after its last request.
    """

    def __init__(self, remembered_s: float = 10.0) -> None:
        self._remembered_s = remembered_s
        self._seen_s = [-math.inf] * len(Priority)

    def below_top(self, priority: Priority, now_s: float) -> int:
        """A request comes: how many higher priorities are in use."""
        self._seen_s[priority] = now_s
        used = 0
        for seen_s in self._seen_s[priority + 1 :]:
            used += now_s - seen_s <= self._remembered_s
        return used
