"""Which rung of the ladder the next batch runs on, and what is known of the load: the policies' state in a pool.

Not thread-safe: the pool's lock is held around every call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rankine.policy.autoscale import Offered, Signals
from rankine.policy.backlog import Backlog
from rankine.policy.cost import CostModel
from rankine.policy.debt import QualityDebt
from rankine.policy.demand import Demand, engine_share
from rankine.policy.ladder import Ladder, Load, Rung, RungChoice
from rankine.policy.lanes import Lane
from rankine.serving.devices import PoolDevice
from rankine.serving.work import Work

__all__ = ["Elastic"]

_GUESS = {1: 1e-4, 512: 1e-3}
"""Seconds of rows where nothing was measured: too little rather than too much, so that nobody is refused by a guess."""
_MIDDLING_ROWS = 512
_DEMAND_S = 0.5
"""Over which the offered work is averaged."""


class Elastic:
    """Cost models of all rungs on all devices, the ladder over those that are worth having, and the demand.

    Args:
        devices: that share the work, all with the same variants, best first.
        timed: by device, of each rung, seconds of runs by number of rows.

    Attributes:
        by_device: of each device the cost models of its rungs.
        lead: the device by whose times the backlog is planned: the fastest.
        costs: those of the lead.
        numbers: of the rungs that are worth having, the best first.
    """

    def __init__(
        self, devices: Sequence[PoolDevice], timed: Sequence[Sequence[Mapping[int, Sequence[float]]]] = ()
    ) -> None:
        rungs = devices[0].rungs
        self.by_device = [
            [CostModel(_profile(timed, number, at).items()) for at in range(len(rungs))]
            for number in range(len(devices))
        ]
        most_rows = max(rows for rows, _ in self.by_device[0][0].curve)
        most_s = [costs[-1].mean_s(most_rows) for costs in self.by_device]
        self.lead = most_s.index(min(most_s))
        self.costs = self.by_device[self.lead]
        self._capacity = sum(
            device.workers * most_s[self.lead] / own_s for device, own_s in zip(devices, most_s, strict=True)
        )
        steps = [
            Rung(str(at), rung.margin, rung.loss, self.costs[at].mean_s(most_rows) / most_rows)
            for at, rung in enumerate(rungs)
        ]
        self.ladder = Ladder(steps, max(rung.margin for rung in rungs))
        self.numbers = tuple(int(rung.variant) for rung in self.ladder.rungs)
        self._losses = [rung.loss for rung in rungs]
        self.debt = QualityDebt()
        self._demand, self._runs = Demand(_DEMAND_S), Demand(_DEMAND_S)
        self._offered = Offered(self._capacity)

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
        work_s = self.costs[0].mean_s(rows, requests)
        self._demand.add(work_s, now_s)
        self._offered.add(work_s, now_s)

    def middling_s(self) -> float:
        """How long a request of middling size takes on the rung in use."""
        return self.costs[self.at].mean_s(_MIDDLING_ROWS, 1)

    def signals(self, now_s: float) -> Signals:
        """What an autoscaler looks at, without refusals; debt is what the load costs, not what the plan does."""
        debt = max(0.0, self.debt.recent(now_s) - max(0.0, self._losses[0]))
        return Signals(self._offered.utilization(now_s), debt=debt)

    def choose(
        self,
        now_s: float,
        backlog: Backlog[Work],
        lanes: Sequence[Lane],
        wait_s: float,
        loop_per_s: float | None,
        *,
        is_long: bool,
    ) -> RungChoice:
        """The rung for a batch that starts now.

        Args:
            is_long: the line before the queue is.
            loop_per_s: seconds that an event loop works a second which shares the only core; None: there is none.
        """
        share = 1.0 if loop_per_s is None else engine_share(loop_per_s, self._runs.per_s(now_s))
        demand = self._demand.per_s(now_s) / (self._capacity * share)
        load = Load(demand, wait_s, lambda slowdown: backlog.slack_s(lanes, slowdown), is_long)
        return self.ladder.choose(now_s, load)

    def slowdown(self, device: int, rows: int) -> float:
        """Time of a device for a batch of so many rows over that of the lead."""
        fastest = self.fastest
        return self.by_device[device][fastest].mean_s(rows) / self.costs[fastest].mean_s(rows)

    def ran(
        self, number: int, rows: int, requests: int, co_running: int, seconds: float, now_s: float, device: int = 0
    ) -> None:
        """A batch ran: its own model learns, and that of the fastest rung, by which requests are admitted."""
        costs = self.by_device[device]
        expected_s = costs[number].mean_s(rows, requests, co_running)
        costs[number].observe(rows, requests, co_running, seconds)
        fastest = self.fastest
        if number != fastest and expected_s > 0:
            share = costs[fastest].mean_s(rows, requests, co_running) / expected_s
            costs[fastest].observe(rows, requests, co_running, seconds * share)

    def ranked(self, number: int, requests: int, seconds: float, now_s: float) -> None:
        """So many requests were ranked by a rung, in calls that took so long."""
        self._runs.add(seconds, now_s)
        self.debt.add(self._losses[number], requests, now_s)


def _profile(timed: Sequence[Sequence[Mapping[int, Sequence[float]]]], device: int, rung: int) -> Mapping[int, float]:
    """Median seconds by rows, as measured; a guess where nothing was."""
    if device >= len(timed) or rung >= len(timed[device]):
        return _GUESS
    return {rows: float(np.median(spent_s)) for rows, spent_s in timed[device][rung].items()}
