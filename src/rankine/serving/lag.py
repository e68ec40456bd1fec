"""How long one turn of the event loop takes, about what a request still has before it that is handled now; and how busy
the loop is.

Under overload a turn takes as long as all requests that are ready. A timer that fires late tells how long.
"""

from __future__ import annotations

import asyncio
from time import perf_counter, thread_time

from rankine.policy.demand import Demand

__all__ = ["LoopLag"]

_EVERY_S = 0.005
_UNNOTICED_S = 0.002
"""Timers are that late on an idle machine too."""


_BUSY_RATE = 0.2
_WORK_S = 0.5


class LoopLag:
    """The delay of the running event loop; zero until :meth:`start`.

    Attributes:
        busy: share of the last 25 ms or so that its thread worked. ``work``: that, over half a second.
    """

    def __init__(self) -> None:
        self.busy = 0.0
        self.work = Demand(_WORK_S)
        self._worked_s = self._looked_s = 0.0
        self._late_s = 0.0
        self._due_s = float("inf")

    def start(self) -> None:
        """Begin to watch the running loop, until it ends."""
        self._worked_s, self._looked_s = thread_time(), perf_counter()
        self._watch(asyncio.get_running_loop())

    @property
    def seconds(self) -> float:
        """How long a turn takes now, about; 0 where it is next to nothing."""
        late_s = max(self._late_s, perf_counter() - self._due_s)
        return late_s if late_s > _UNNOTICED_S else 0.0

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = perf_counter()
        self._late_s = max(0.0, now_s - self._due_s)
        self._due_s = now_s + _EVERY_S
        worked_s = thread_time()
        self.work.add(worked_s - self._worked_s, now_s)
        if now_s > self._looked_s:
            share = (worked_s - self._worked_s) / (now_s - self._looked_s)
            self.busy += _BUSY_RATE * (share - self.busy)
        self._worked_s, self._looked_s = worked_s, now_s
        loop.call_later(_EVERY_S, self._watch, loop)
