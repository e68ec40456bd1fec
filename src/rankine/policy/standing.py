"""A queue that stands is kept short: a burst is what it is for; where it is always long it only makes everybody wait.

Whoever comes to a queue as long as there is time has lost most of that before its turn, what goes wrong then makes it
late, and no more is answered than if the queue were short. (Controlled delay, as in Maurer, "Fail at Scale", ACM Queue
13(8), 2015.)
"""

from __future__ import annotations

import math

__all__ = ["Standing"]

_SHORT_SHARE, _WAIT_SHARE, _STANDS_S = 0.1, 0.4, 0.5
_OVER_S = 0.1


class Standing:
    """Whether one queue stands: it has been long for half a second, and since then never short for a tenth of one.

    A queue that is in two places, as in line for the event loop and in the plan of the engine, is one: under load it
    moves from one to the other, and is never short for those that wait.
    """

    def __init__(self) -> None:
        self._long_since_s = self._short_since_s = math.inf
        self._looked_s = -math.inf

    def refuses(self, queue_s: float, wait_s: float, left_s: float, now_s: float) -> bool:
        """Whether the queue stands, and a request would wait for much of the time it has.

        Args:
            queue_s: that all in it will take.
            wait_s: that this request would wait; four tenths of ``left_s`` are much.
            left_s: until it is due.
        """
        self.look(queue_s, left_s, now_s)
        return self.stands(now_s) and wait_s > _WAIT_SHARE * left_s

    def look(self, queue_s: float, left_s: float, now_s: float) -> None:
        """See how long the queue is; it is short where it takes no more than a tenth of the time a request has."""
        if now_s - self._looked_s > _OVER_S:  # nobody has come: there is no load
            self._long_since_s = math.inf
        self._looked_s = now_s
        if queue_s > _SHORT_SHARE * left_s:
            self._long_since_s, self._short_since_s = min(self._long_since_s, now_s), math.inf
            return
        self._short_since_s = min(self._short_since_s, now_s)
        if not self.stands(now_s) or now_s - self._short_since_s > _OVER_S:
            self._long_since_s = math.inf

    def stands(self, now_s: float) -> bool:
        """Whether it does."""
        return now_s - self._long_since_s > _STANDS_S

    @staticmethod
    def least_left_s(wait_s: float) -> float:
        """Who has no more time left than this and waits for so long waits for much of it."""
        return wait_s / _WAIT_SHARE
