"""How the requests of a simulated server ended, filled while the simulation runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from rankine.planning.simulate_entry import Connections
from rankine.planning.simulate_setup import DeviceRan, Outcomes
from rankine.planning.simulate_traffic import Trace
from rankine.planning.simulate_worker import Request, SimulatedWorker
from rankine.policy.backlog import Decision
from rankine.policy.reason import Reason

__all__ = ["Ended"]


class Ended:
    """What came of the requests of a trace so far.

    Args:
        outside_s: until a client has its answer.

    Attributes:
        reasons: how often each decision was taken.
        connections: of the client.
    """

    def __init__(self, trace: Trace, outside_s: float) -> None:
        self._trace, self._outside_s = trace, outside_s
        self.connections = Connections()
        self._status = np.zeros(len(trace), np.int16)
        self._finish_s = np.full(len(trace), math.inf)
        self._rung = np.full(len(trace), -1, np.int8)
        self._batches = self._batch_rows = 0
        self.reasons: Counter[Reason] = Counter()

    def has(self, request: Request) -> bool:
        """Whether a request is over."""
        return bool(self._status[request.number])

    def end(self, request: Request, status: int, now_s: float, rung: int = -1) -> None:
        """A request is over."""
        self._status[request.number] = status
        self._finish_s[request.number] = now_s + self._outside_s
        self.connections.answered(now_s + self._outside_s)
        self._rung[request.number] = rung

    def began(self, decision: Decision[Request]) -> None:
        """A batch runs."""
        self.reasons[decision.reason] += 1
        self._batches += 1
        self._batch_rows += decision.rows

    def outcomes(self, workers: Sequence[SimulatedWorker], end_s: float, debt: float) -> Outcomes:
        """All of it, when everything is over."""
        return Outcomes(
            trace=self._trace,
            status=self._status,
            finish_s=self._finish_s,
            rung=self._rung,
            reasons={str(reason): count for reason, count in sorted(self.reasons.items()) if count},
            batches=self._batches,
            batch_rows=self._batch_rows,
            busy_s=sum(worker.busy_s for worker in workers) / len(workers),
            end_s=max(end_s, self._trace.duration_s),
            debt=debt,
            learned=tuple(worker.learned[0] for worker in workers),
            devices=tuple(DeviceRan(one.name, one.batches, one.rows, one.busy_s) for one in workers),
        )
