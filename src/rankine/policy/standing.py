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
"""Where it was long for less than half of about so long it does not stand any more."""
_LOOKS = 64
"""As many requests tell what time there is."""
_LEAST_S = 1e-3
"""Who has less time than this counts as having so much: others do not depend on it."""


class Standing:
    """Whether one queue stands: it has been long for half a second, and since then not short for most of a tenth.

    Whoever comes looks at it once, with all that is in it; also who finds it short, or it would never be.

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
        since_s = max(0.0, now_s - self._looked_s)
        self._looked_s = now_s
        if since_s > self._over_s:
            self._long_since_s, self._long_share = math.inf, float(is_long)
        else:
            self._long_share += (1.0 - math.exp(-since_s / _OVER_S)) * (is_long - self._long_share)
        if is_long:
            self._long_since_s = min(self._long_since_s, now_s)
        elif not self.stands(now_s) or self._long_share < 0.5:
            self._long_since_s = math.inf

    @property
    def _over_s(self) -> float:
        """Where nobody comes for so long there is no load: as long as requests have, where that is more."""
        return max(_OVER_S, 1.0 / self._urgency) if self._urgency else _OVER_S

    def stands(self, now_s: float) -> bool:
        """Whether it does."""
        return now_s - self._long_since_s > _STANDS_S and now_s - self._looked_s <= self._over_s

    def refuses(self, wait_s: float, left_s: float, now_s: float) -> bool:
        """Whether it stands, and a request would wait for much of the time it has.

        Args:
            wait_s: that it would wait.
            left_s: until it is due.
        """
        return self.stands(now_s) and self.is_much(wait_s, left_s)

    @staticmethod
    def is_much(wait_s: float, left_s: float) -> bool:
        """Whether a request that has so much time would wait for much of it: four tenths. Not one that has none."""
        return wait_s > _WAIT_SHARE * left_s > 0.0

    @staticmethod
    def least_left_s(wait_s: float) -> float:
        """Who has no more time left than this and waits for so long waits for much of it."""
        return wait_s / _WAIT_SHARE
