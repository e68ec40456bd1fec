"""Controlled delay: a queue that stands is emptied from its head, slowly at first (Nichols & Jacobson 2012, RFC 8289).

A queue that takes up a burst and drains again is good; one that stays above a target for a whole interval only adds
delay. Where deadlines are given admission prevents that; this is for requests without, and for wrong predictions.
"""

from __future__ import annotations

import math

__all__ = ["CoDel"]


class CoDel:
    """Whether the request at the head of the queue is dropped instead of run.

    Args:
        target_s: wait that is acceptable for as long as it likes.
        interval_s: how long the wait must have been above it before the first drop.
    """

    def __init__(self, target_s: float = 0.1, interval_s: float = 1.0) -> None:
        self._target_s, self._interval_s = target_s, interval_s
        self._above_since_s = math.inf
        self._dropping = False
        self._next_s = -math.inf
        self._count = 0

    def drops(self, waited_s: float, now_s: float, *, last: bool) -> bool:
        """Ask at each departure from the queue.

        Args:
            waited_s: of the request at the head.
            last: nothing waits behind it: the queue does not stand.
        """
        if waited_s < self._target_s or last:
            self._above_since_s = math.inf
            self._dropping = False
            return False
        if self._above_since_s == math.inf:
            self._above_since_s = now_s
        if self._dropping:
            if now_s < self._next_s:
                return False
            self._count += 1
        elif now_s - self._above_since_s >= self._interval_s:
            # Soon after the last episode: go on at about its rate, which was nearly enough.
            recent = now_s - self._next_s < 16 * self._interval_s
            self._count = max(1, self._count - 2) if recent else 1
            self._dropping = True
            self._next_s = now_s
        else:
            return False
        self._next_s += self._interval_s / math.sqrt(self._count)
        return True
