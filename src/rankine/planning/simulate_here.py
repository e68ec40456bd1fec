"""What a simulated event loop holds to run it itself, as :class:`rankine.serving.here.Here` does."""

from __future__ import annotations

import math

from rankine.planning.simulate_worker import Request, SimulatedWorker
from rankine.policy.admission import Gates
from rankine.policy.one_core import HELD_S, MOMENT_S, Company, is_enough, may_join, may_run_here

__all__ = ["SimulatedHere"]

_TICK_S = 1e-3
"""Timers of the event loop count so much; one that is due fires in the next turn, whatever that was for."""


class SimulatedHere:
    """Requests that the loop runs itself, at once or with those that come meanwhile.

    Args:
        worker: in whose name they run.

    Attributes:
        held: those that wait for others.
    """

    def __init__(self, gates: Gates[Request], worker: SimulatedWorker) -> None:
        self._gates, self._worker = gates, worker
        self._company = Company()
        self.held: list[Request] = []
        self._rows = self._waited_with = 0
        self._predicted_s = self._since_s = self._due_s = 0.0
        self._fires_s = self._wakes_s = -math.inf

    def has_room(self, request: Request) -> bool:
        """Whether one more request would not make it too much."""
        rows = self._rows + request.rows
        predicted_s = self._gates.cost.mean_s(rows, len(self.held) + 1)
        fits = may_run_here(predicted_s, joined=True, one_core=True)
        return not self.held or (fits and rows <= self._gates.backlog.shape.most_rows)

    def with_next_s(self, request: Request) -> float:
        """What the engine is predicted to take for all that is held and one request more."""
        return self._gates.cost.mean_s(self._rows + request.rows, len(self.held) + 1)

    def takes(self, request: Request, now_s: float, *, at_ease: bool) -> bool:
        """Whether a request, if it is let in, is for the loop.

        Args:
            at_ease: there is time for it and all others several times over.
        """
        rows, requests, joined = self._rows + request.rows, len(self.held) + 1, bool(self.held)
        if self._worker.running is not None or len(self._gates.backlog):
            return False
        if rows > self._gates.backlog.shape.most_rows:
            return False
        due_s = min(self._due_s, request.deadline_s) if joined else request.deadline_s
        if not at_ease and not may_join(self.with_next_s(request), due_s - now_s):
            return False
        return all(
            may_run_here(cost.mean_s(rows, requests), joined=joined, one_core=True) for cost in self._worker.learned
        )  # on whichever rung

    def hold(self, request: Request, now_s: float) -> bool:
        """Keep a request that was let in; whether all of them are to run at once."""
        self._predicted_s = self.with_next_s(request)
        if not self.held:
            self._since_s, self._due_s = now_s, request.deadline_s
            self._fires_s = self._wakes_s = now_s
        self._due_s = min(self._due_s, request.deadline_s)
        self.held.append(request)
        self._rows += request.rows
        return self._must_go(now_s)

    def goes_s(self, free_s: float) -> float:
        """When a loop that is free then looks at them; infinity where there are none."""
        return max(self._wakes_s, free_s) if self.held else math.inf

    def goes(self, now_s: float, busy: float, *, crowded: bool) -> bool:
        """Whether they run in this turn of the loop.

        Args:
            busy: the share of its time that the loop works. ``crowded``: others wait for it.
        """
        if not self.held or now_s < self._fires_s:
            return False
        if self._must_go(now_s):
            return True
        if crowded:
            return False
        if self._company.is_expected(busy):
            self._waited_with = len(self.held)
            self._wakes_s = now_s + MOMENT_S
            self._fires_s = (math.floor(now_s / _TICK_S) + 1) * _TICK_S
            return False
        return True

    def taken(self) -> list[Request]:
        """All that was held: it is about to run."""
        held, self.held, self._rows = self.held, [], 0
        if self._waited_with:
            self._company.waited(came=len(held) > self._waited_with)
            self._waited_with = 0
        return held

    def _must_go(self, now_s: float) -> bool:
        """Whether they are an efficient batch, or may not wait any more."""
        has_time = now_s - self._since_s < HELD_S and now_s + self._predicted_s + HELD_S < self._due_s
        enough = is_enough(self._rows, self._gates.backlog.shape.target_rows, self._predicted_s)
        return enough or not has_time
