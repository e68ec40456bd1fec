"""The simulated server that knows the future's costs: what no real one could do better than by much."""

from __future__ import annotations

from dataclasses import replace

from rankine.planning.simulate_server import SimulatedServer
from rankine.planning.simulate_setup import Setup
from rankine.planning.simulate_traffic import Trace
from rankine.planning.simulate_worker import Request

__all__ = ["OracleServer"]


class OracleServer(SimulatedServer):
    """One that knows what batches take and regrets: where too much waits it gives up the largest request, not the last.

    That leaves the most requests on time on one machine (Moore & Hodgson 1968) among those known so far; that they
    come later than at once and run in batches keeps it from being a strict bound.
    """

    def __init__(self, trace: Trace, setup: Setup) -> None:
        super().__init__(trace, replace(setup, exact=True))

    def _arrive(self, request: Request, now_s: float) -> None:
        lanes = self._lanes(now_s)
        while not self._backlog.offer(request, lanes).fits:
            largest = max((*self._backlog, request), key=lambda waiting: waiting.rows)
            if largest is not request:
                self._backlog.remove(largest, now_s)
            self._ended.end(largest, 503, now_s)
            if largest is request:
                return
