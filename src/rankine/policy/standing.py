"""A queue that stands is kept short: a burst is what it is for; where it is always long it only makes everybody wait.

Whoever comes to a queue as long as there is time has lost most of that before its turn, what goes wrong then makes it
late, and no more is answered than if the queue were short. (Controlled delay, as in Maurer, "Fail at Scale", ACM Queue
13(8), 2015.)
"""

from __future__ import annotations

import math

__all__ = ["Standing"]

_SHORT_SHARE, _WAIT_SHARE, _STANDS_S = 0.1, 0.3, 0.5


class Standing:
    """Whether one queue stands."""

    def __init__(self) -> None:
        self._since_s = math.inf

    def refuses(self, queue_s: float, wait_s: float, left_s: float, now_s: float) -> bool:
        """Whether the queue has been long for half a second, and a request would wait for much of the time it has.

        Args:
            queue_s: that all in it will take. A tenth of ``left_s`` is short.
            wait_s: that this request would wait; three tenths of ``left_s`` is much.
            left_s: until it is due.
        """
        if queue_s <= _SHORT_SHARE * left_s:
            self.is_short()
            return False
        self._since_s = min(self._since_s, now_s)
        return now_s - self._since_s > _STANDS_S and wait_s > _WAIT_SHARE * left_s

    def is_short(self) -> None:
        """The queue is short, as those find it who wait for next to nothing and are not asked about here."""
        self._since_s = math.inf

    @staticmethod
    def least_left_s(wait_s: float) -> float:
        """Who has no more time left than this and waits for so long waits for much of it."""
        return wait_s / _WAIT_SHARE
