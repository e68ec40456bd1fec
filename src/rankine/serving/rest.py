"""The event loop stands aside while a worker runs a batch on the core that both share.

It does where batches are too long for the loop itself (see :mod:`rankine.serving.turns`), or there are several workers.
To read one request between two stretches of a batch takes three times as long as to read it right after another. What
comes while the loop rests is read together when the batch is done, or after a moment. Nobody is ranked later for that:
there is one core, and it works. How long is decided by :mod:`rankine.policy.one_core`.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from time import perf_counter

from rankine.policy.one_core import REFUSES_FOR_S, rest_s
from rankine.serving.placing import Worker

__all__ = ["Rest"]


class Rest:
    """Rests of one event loop.

    Args:
        workers: that may run batches on its core.

    Attributes:
        enabled: the loop and the workers share a core.
        crowded: whether anybody waits for the loop.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._ended = threading.Lock()
        self._ended.acquire()
        self._rests = self._is_soon = False
        self._refuses_until_s = -math.inf
        self.enabled = False
        self.crowded: Callable[[], bool] = _never

    def soon(self) -> None:
        """Rest when all that was there has begun, and has been answered where it could be; on the event loop."""
        if self.enabled and not self._is_soon:
            self._is_soon = True
            asyncio.get_running_loop().call_soon(self._take)

    def end(self) -> None:
        """A batch is done, and its results are on their way to the loop; from a worker's thread."""
        if self._rests:
            self._rests = False
            try:
                self._ended.release()
            except RuntimeError:  # it has just ended by itself, and another worker was quicker
                return

    def refused(self) -> None:
        """A request is refused."""
        self._refuses_until_s = perf_counter() + REFUSES_FOR_S

    def _take(self) -> None:
        self._is_soon = False
        self._rests = True  # from here on an end is heard
        now_s = perf_counter()
        left_s = max((one.free_s - now_s for one in self._workers if one.running), default=0.0)
        seconds = rest_s(left_s, refuses=now_s < self._refuses_until_s)
        heard = bool(seconds) and not self.crowded() and self._ended.acquire(timeout=seconds)
        self._rests = False
        if not heard:
            self._ended.acquire(blocking=False)  # of an end while it was being decided


def _never() -> bool:
    """Where nobody waits for the loop."""
    return False
