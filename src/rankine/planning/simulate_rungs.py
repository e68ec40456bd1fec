"""The ladder of a simulated server: which rung runs the next batch, and what quality that gives up."""

from __future__ import annotations

from collections.abc import Sequence

from rankine.planning.simulate_setup import Setup
from rankine.planning.simulate_worker import Request
from rankine.policy.admission import Gates
from rankine.policy.debt import QualityDebt
from rankine.policy.demand import Demand, engine_share
from rankine.policy.ladder import Ladder, Load, RungChoice
from rankine.policy.lanes import Lane

__all__ = ["SimulatedRungs"]


class SimulatedRungs:
    """The rungs of a server; one, without a choice, where it has no ladder.

    Attributes:
        factors: times of each rung over those of the first.
    """

    def __init__(self, setup: Setup) -> None:
        self._ladder = Ladder(setup.rungs, setup.floor, setup.ladder) if setup.rungs else None
        rungs = len(self._ladder.rungs) if self._ladder else 1
        self.factors = [self._ladder.factor(rung) if self._ladder else 1.0 for rung in range(rungs)]
        self._demand, self._beside = Demand(), Demand()
        self._is_long = False
        self._debt = QualityDebt()

    @property
    def is_on_fastest(self) -> bool:
        """Whether there is no faster rung left."""
        return self._ladder is None or self._ladder.at == len(self._ladder.rungs) - 1

    @property
    def debt(self) -> float:
        """Quality given up so far."""
        return self._debt.total

    def offered(self, work_s: float, now_s: float) -> None:
        """A request came, of so much work on the first rung."""
        self._demand.add(work_s, now_s)

    def held_up(self, seconds: float, now_s: float) -> None:
        """The front end has taken so long from an engine on its core."""
        self._beside.add(seconds, now_s)

    def line_is_long(self) -> None:
        """Those in line for the front end take much of the time that requests have."""
        self._is_long = True

    def answered(self, rung: int, now_s: float) -> None:
        """A request was answered by this rung."""
        self._debt.add(self._ladder.rungs[rung].loss if self._ladder else 0.0, 1, now_s)

    def choose(self, gates: Gates[Request], lanes: Sequence[Lane], now_s: float) -> RungChoice | None:
        """The rung for the next batch; None where there is nothing to choose."""
        ladder, backlog = self._ladder, gates.backlog
        if ladder is None:
            return None
        wait_s = backlog.work_s * ladder.slowdown(ladder.at) / len(lanes)
        demand = self._demand.per_s(now_s) / (len(lanes) * engine_share(self._beside.per_s(now_s), 0.0))
        guard_s = gates.margin_s
        load = Load(demand, wait_s, lambda slowdown: backlog.slack_s(lanes, slowdown) - guard_s, self._is_long)
        self._is_long = False
        return ladder.choose(now_s, load)
