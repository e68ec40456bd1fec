"""How requests come into a simulated server: over which connections, and in which line they wait to begin."""

from __future__ import annotations

import heapq
from collections import deque

from rankine.planning.simulate_worker import Request
from rankine.policy.front_end import FrontEnd

__all__ = ["ANSWER_SHARE", "BEGIN_SHARE", "HEAD_SHARE", "MOST_READ", "Connections", "SimulatedLine"]

HEAD_SHARE, BEGIN_SHARE, ANSWER_SHARE = 0.2, 0.5, 0.3
"""Of the front end's time for a request: to read its head and decide on it, to read its body, to answer it. Measured in
the server, function by function."""
MOST_READ = 64
"""Connections that are read in a turn, as by :class:`rankine.serving.inlet.Inlet`."""
_TURN_S = 3e-4
"""No further request begins in a turn that has taken so long, as in :class:`rankine.serving.entry.EntryLine`."""


class Connections:
    """Those of a client that keeps them open, and opens one where all that it has wait for an answer."""

    def __init__(self) -> None:
        self._answers_s: list[float] = []
        self._free = 0

    def opens(self, arrived_s: float) -> bool:
        """Whether a request that comes now, after all others so far, comes on a connection of its own."""
        while self._answers_s and self._answers_s[0] <= arrived_s:
            heapq.heappop(self._answers_s)
            self._free += 1
        if not self._free:
            return True
        self._free -= 1
        return False

    def answered(self, answered_s: float) -> None:
        """The client has an answer, or a refusal, at that time."""
        heapq.heappush(self._answers_s, answered_s)


class SimulatedLine:
    """Those that were let in and have not begun, in the order in which they came.

    Attributes:
        rows: of them.
        moves: some of it has still to begin, or has begun in this turn of the loop.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self._front_end = front_end
        self._waiting: deque[Request] = deque()
        self.rows = 0
        self.moves = False
        self._moved_s = self._ends_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, request: Request, now_s: float) -> bool:
        """Let a request wait for its turn, or begin at once (True) where nothing else does in this turn."""
        if self.moves:
            self._waiting.append(request)
            self.rows += request.rows
            return False
        self.moves, self._moved_s = True, now_s
        return True

    def turn(self, now_s: float) -> None:
        """A turn of the loop begins."""
        self._ends_s = now_s + _TURN_S
        self.moves = bool(self._waiting)

    def next(self, now_s: float) -> Request | None:
        """Who begins next in this turn."""
        if not self._waiting or now_s >= self._ends_s:
            return None
        self._front_end.moved(now_s - self._moved_s)
        self._moved_s = now_s
        request = self._waiting.popleft()
        self.rows -= request.rows
        return request
