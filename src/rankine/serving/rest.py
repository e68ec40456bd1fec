"""The event loop stands aside while a batch runs on the core that both share.

It would else interrupt the batch for each request that comes, and find the caches full of the engine's tables each time:
to read one request takes three times as long so as to read it right after another. What comes while it rests is read
together when the batch is done, or after a moment. Nobody is ranked later for that: there is one core, and it works.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from time import perf_counter

from rankine.serving.placing import Worker

__all__ = ["Rest"]

_MOMENT_S, _SHORT_S = 4e-3, 2e-3
_SHORT_FOR_S = 0.1
_WORTH_S = 2e-4
"""A batch that is predicted to be done sooner is not worth a rest."""


class Rest:
    """Rests of one event loop, of 4 ms at most; of 2 ms where requests are refused, who should learn it soon.

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
        self._short_until_s = -math.inf
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
        self._short_until_s = perf_counter() + _SHORT_FOR_S

    def _take(self) -> None:
        self._is_soon = False
        now_s = perf_counter()
        left_s = max((one.free_s - now_s for one in self._workers if one.running), default=0.0)
        if left_s < _WORTH_S or self.crowded():
            return
        self._rests = True
        self._ended.acquire(timeout=min(left_s, _SHORT_S if now_s < self._short_until_s else _MOMENT_S))
        self._rests = False


def _never() -> bool:
    """Where nobody waits for the loop."""
    return False
