"""Whether a worker is slow: its batches take far longer than predicted, while those of the others do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

__all__ = ["Pace", "is_slow"]

_LEAST_BATCHES = 32
_RATE = 1 / 16
_SLOW = 3.0


class Pace:
    """How long a worker's batches take, over what was predicted: an average of logarithms that forgets.

    Attributes:
        batches: seen so far.
    """

    def __init__(self) -> None:
        self.batches = 0
        self._log = 0.0

    @property
    def ratio(self) -> float:
        """Taken over predicted; 1 is as predicted."""
        return math.exp(self._log)

    def observe(self, taken_s: float, predicted_s: float) -> None:
        """A batch ran; without a prediction it tells nothing."""
        if taken_s > 0 and predicted_s > 0:
            self.batches += 1
            self._log += max(_RATE, 1 / self.batches) * (math.log(taken_s / predicted_s) - self._log)


def is_slow(mine: Pace, others: Sequence[Pace]) -> bool:
    """Whether a worker takes three times as long as the others do, over what is predicted for each one's batches.

    The prediction is common to all, so what is slow for all, such as a busy machine, is slow for nobody.
    """
    known = [other.ratio for other in others if other.batches >= _LEAST_BATCHES]
    return mine.batches >= _LEAST_BATCHES and bool(known) and mine.ratio > _SLOW * median(known)
