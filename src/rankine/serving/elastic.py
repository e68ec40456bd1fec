"""Which rung of the ladder the next batch runs on, and what is known of the load: the policies' state in a pool.

Not thread-safe: the pool's lock is held around every call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rankine.policy.autoscale import Offered, Signals
from rankine.policy.backlog import Backlog
from rankine.policy.cost import CostModel
from rankine.policy.debt import QualityDebt
from rankine.policy.ladder import Ladder, Load, Rung, RungChoice
from rankine.policy.lanes import Lane
from rankine.serving.rungs import ServedRung
from rankine.serving.work import Work

__all__ = ["Elastic"]

_GUESS = {1: 1e-4, 512: 1e-3}
"""Seconds of rows where nothing was measured: too little rather than too much, so that nobody is refused by a guess."""
_MIDDLING_ROWS = 512
_DEMAND_S = 0.5
"""Over which the offered work is averaged."""


class Elastic:
    """Cost models of all rungs, the ladder over those that are worth having, and the demand.

    Args:
        rungs: best first.
        workers: that share the work.
        timed: of each rung, seconds of runs by number of rows.
    """

    def __init__(
        self, rungs: Sequence[ServedRung], workers: int, timed: Sequence[Mapping[int, Sequence[float]]] = ()
    ) -> None:
        self._workers = workers
        profiles = [{rows: float(np.median(spent_s)) for rows, spent_s in one.items()} for one in timed]
        self.costs = [CostModel((profiles[at] if at < len(profiles) else _GUESS).items()) for at in range(len(rungs))]
        most = max(rows for rows, _ in self.costs[0].curve)
        steps = [
            Rung(str(at), rung.margin, rung.loss, self.costs[at].mean_s(most) / most) for at, rung in enumerate(rungs)
        ]
        self.ladder = Ladder(steps, max(rung.margin for rung in rungs))
        self._losses = [rung.loss for rung in rungs]
        self.debt = QualityDebt()
        self._demand_s = 0.0
        self._offered = Offered(workers)
        self._seen_s = math.nan

    @property
    def fastest(self) -> int:
        """Number of the rung that decides what can be admitted."""
        return int(self.ladder.rungs[-1].variant)

    @property
    def at(self) -> int:
        """Number of the rung in use."""
        return int(self.ladder.rungs[self.ladder.at].variant)

    def offered(self, rows: int, requests: int, now_s: float) -> None:
        """A request came, whether it is let in or not."""
        self._fade(now_s)
        work_s = self.costs[0].mean_s(rows, requests)
        self._demand_s += work_s / _DEMAND_S
        self._offered.add(work_s, now_s)

    def middling_s(self) -> float:
        """How long a request of middling size takes on the rung in use."""
        return self.costs[self.at].mean_s(_MIDDLING_ROWS, 1)

    def signals(self, now_s: float) -> Signals:
        """What an autoscaler looks at, as far as it is known here: debt is what the load costs, not what the plan does."""
        debt = max(0.0, self.debt.recent(now_s) - max(0.0, self._losses[0]))
        return Signals(self._offered.utilization(now_s), debt=debt)

    def choose(self, now_s: float, backlog: Backlog[Work], lanes: Sequence[Lane], wait_s: float) -> RungChoice:
        """The rung for a batch that starts now."""
        self._fade(now_s)
        load = Load(self._demand_s / self._workers, wait_s, lambda slowdown: backlog.slack_s(lanes, slowdown))
        return self.ladder.choose(now_s, load)

    def ran(self, number: int, rows: int, requests: int, co_running: int, seconds: float, now_s: float) -> None:
        """A batch ran: its own model learns, and that of the fastest rung, by which requests are admitted."""
        expected_s = self.costs[number].mean_s(rows, requests, co_running)
        self.costs[number].observe(rows, requests, co_running, seconds)
        fastest = self.fastest
        if number != fastest and expected_s > 0:
            share = self.costs[fastest].mean_s(rows, requests, co_running) / expected_s
            self.costs[fastest].observe(rows, requests, co_running, seconds * share)
        self.debt.add(self._losses[number], requests, now_s)

    def _fade(self, now_s: float) -> None:
        if not math.isnan(self._seen_s):
            self._demand_s *= math.exp((self._seen_s - now_s) / _DEMAND_S)
        self._seen_s = now_s
