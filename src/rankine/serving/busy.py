"""How busy a server process is beside its engines' queue: a small model is bound by the front end, or by the cores."""

from __future__ import annotations

import asyncio
from time import perf_counter, process_time, thread_time

from rankine.policy.autoscale import Share

__all__ = ["Busy"]

_EVERY_S = 1.0


class Busy:
    """Watches the event loop that :meth:`start` is called in, and the whole process.

    Args:
        cores: that the process may use, or its part of those that it shares with others.
    """

    def __init__(self, cores: float) -> None:
        self._cores = cores
        self._loop, self._process = Share(), Share()
        self._last_s = self._thread_s = self._process_s = 0.0

    def start(self) -> None:
        """Begin, until the loop ends."""
        self._last_s, self._thread_s, self._process_s = perf_counter(), thread_time(), process_time()
        asyncio.get_running_loop().call_later(_EVERY_S, self._look)

    @property
    def share(self) -> float:
        """Of the last minute: of the time of the event loop, or of all cores, whichever is more."""
        return max(self._loop.mean, self._process.mean)

    def _look(self) -> None:
        now_s, thread_s, process_s = perf_counter(), thread_time(), process_time()
        passed_s = now_s - self._last_s
        if passed_s > 0:
            self._loop.add((thread_s - self._thread_s) / passed_s, passed_s)
            self._process.add((process_s - self._process_s) / passed_s / self._cores, passed_s)
        self.start()
