"""The line of requests that were let in and not begun: a few begin each turn of the event loop.

Would all begin that are ready, a turn would take as long as all of them, and whoever comes meanwhile, to be refused or
to be let in, would wait unseen in the kernel for that long. In between one looks at the sockets.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from time import perf_counter

from rankine.policy.front_end import FrontEnd

__all__ = ["EntryLine"]

Begin = Callable[[], None]
_TURN_S = 3e-4
"""No further one begins in a turn of the event loop that has taken so long already."""


class EntryLine:
    """Begins what is put into it, in order; on the event loop only.

    Args:
        front_end: learns how fast the line moves.

    Attributes:
        emptied: called when the last of it has begun.
        rows: of all that wait, as announced.
        looked_s: nothing that is read now was there at that time; -inf where nobody knows.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self._front_end = front_end
        self._waiting: deque[tuple[Begin, int]] = deque()
        self.rows = 0
        self._moving = False
        self._moved_s = 0.0
        self._turned_s = self.looked_s = -math.inf
        self.emptied: Begin = _nothing

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def moves(self) -> bool:
        """Whether any of it has still to begin, or has begun in this turn of the event loop."""
        return self._moving

    def put(self, begin: Begin, rows: int = 1) -> None:
        """Call ``begin`` when it is its turn: at once, where nothing else begins in this turn of the loop.

        Args:
            rows: that it is going to have ranked.
        """
        if self._moving:
            self._waiting.append((begin, rows))
            self.rows += rows
            return
        self._moving = True
        self._moved_s = perf_counter()
        asyncio.get_running_loop().call_soon(self._move)
        begin()

    def _move(self) -> None:
        if not self._waiting:
            self._moving = False
            self._turned_s = self.looked_s = -math.inf
            self.emptied()
            return
        asyncio.get_running_loop().call_soon(self._move)
        now_s = perf_counter()
        self.looked_s, self._turned_s = self._turned_s, now_s  # sockets are read between two turns
        end_s = now_s + _TURN_S
        while self._waiting and now_s < end_s:
            self._front_end.moved(now_s - self._moved_s)
            self._moved_s = now_s
            begin, rows = self._waiting.popleft()
            self.rows -= rows
            begin()
            now_s = perf_counter()


def _nothing() -> None:
    """Where nobody asks."""
