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
_LOOKS = 64
_LEAST_S = 1e-3


class Standing:
    """Whether one queue stands: it has been long for half a second, and since then not short for most of a tenth.

    A queue that is in two places, as in line for the event loop and in the plan of the engine, is one: under load it
    moves from one to the other, and is never short for those that wait.

    What is long depends on the time that requests have, in the harmonic mean of the last ones: of that those without a
    deadline change little.
    """

    def __init__(self) -> None:
        self._long_since_s = math.inf
        self._long_share = 0.0
        self._urgency = 0.0
        self._looks = 0
        self._looked_s = -math.inf

    def refuses(self, queue_s: float, wait_s: float, left_s: float, now_s: float) -> bool:
        """Whether the queue stands, and a request would wait for much of the time it has.

        Args:
            queue_s: that all in it will take.
            wait_s: that this request would wait.
            left_s: until it is due.
        """
        self.look(queue_s, left_s, now_s)
        return self.stands(now_s) and self.is_much(wait_s, left_s)

    def look(self, queue_s: float, left_s: float, now_s: float) -> None:
        """See how long the queue is; it is short where it takes no more than a tenth of the time requests have.

        Args:
            queue_s: that all in it will take.
            left_s: that the request has which has come.
        """
        if left_s > 0.0:  # else it tells nothing of others
            self._looks = min(_LOOKS, self._looks + 1)
            self._urgency += (1.0 / max(_LEAST_S, left_s) - self._urgency) / self._looks
        is_long = queue_s * self._urgency > _SHORT_SHARE
        since_s = now_s - self._looked_s
        self._looked_s = now_s
        if since_s > _OVER_S:  # nobody has come: there is no load
            self._long_since_s, self._long_share = math.inf, float(is_long)
        else:
            self._long_share += (1.0 - math.exp(-since_s / _OVER_S)) * (is_long - self._long_share)
        if is_long:
            self._long_since_s = min(self._long_since_s, now_s)
        elif not self.stands(now_s) or self._long_share < 0.5:
            self._long_since_s = math.inf

    def stands(self, now_s: float) -> bool:
        """Whether it does."""
        return now_s - self._long_since_s > _STANDS_S

    @staticmethod
    def is_much(wait_s: float, left_s: float) -> bool:
        """Whether a request that has so much time would wait for much of it: four tenths."""
        return wait_s > _WAIT_SHARE * left_s

    @staticmethod
    def least_left_s(wait_s: float) -> float:
        """Who has no more time left than this and waits for so long waits for much of it."""
        return wait_s / _WAIT_SHARE
