"""Which variant the next batch runs on: quality bends before requests are shed.

The allocation of DCAF (Jiang et al. 2020, arXiv 2006.09684): take the rung of greatest ``quality - price * cost``,
where one price, moved by feedback, keeps the demand within capacity. One variant a batch; a rung is kept for a dwell
time before the next step up. Down goes at once as far as it must for everybody who waits to be on time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rankine.errors import UsageError
from rankine.policy.reason import Reason

__all__ = ["Ladder", "LadderLimits", "Load", "Rung", "RungChoice", "within_floor"]


_SHORTENS_S = 0.1
"""A rung is given so long to make a line shorter before the next one is taken for it."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A certified variant.

    Attributes:
        margin: at which it is certified; 0 for the original itself.
        loss: certified upper bound of what it gives up against the original, in AUC.
        cost: its seconds per row, relative to any one rung.
        kept: share of the candidates that it ranks, those of the best prior scores, where a request brings such
            scores and the operator allows it.
    """

    variant: str
    margin: float
    loss: float
    cost: float
    kept: float = 1.0


@dataclass(frozen=True, slots=True)
class LadderLimits:
    """How the ladder moves.

    Attributes:
        utilization: share of the capacity that demand may take at a rung before it is too dear; a step up must leave
            it below this on the upper rung.
        wait_s: predicted wait that counts as full use.
        dwell_s: time at a rung before a step up.
        dead_band: relative deviation from the set point that moves nothing.
        speed_per_s: how fast the price moves: its logarithm's change per second and unit of the logarithmic error.
    """

    utilization: float = 0.9
    wait_s: float = 0.020
    dwell_s: float = 0.5
    dead_band: float = 0.05
    speed_per_s: float = 4.0


@dataclass(frozen=True, slots=True)
class Load:
    """What presses on the server now.

    Attributes:
        demand: seconds of work offered per second of capacity, were all of it run on the best rung; what is refused
            counts too.
        wait_s: predicted wait of a request that comes now.
        slack_s: by :meth:`Ladder.slowdown` of a rung: how much later everything that waits could start with nobody
            late, if it ran there.
        is_long: the line before the queue takes much of the time that requests have.
    """

    demand: float
    wait_s: float
    slack_s: Callable[[float], float]
    is_long: bool = False


@dataclass(frozen=True, slots=True)
class RungChoice:
    """The rung for the next batch.

    Attributes:
        at: its place on the ladder, 0 the best.
        reason: why it is not another one.
    """

    at: int
    rung: Rung
    price: float
    reason: Reason
    text: str


def within_floor(rungs: Sequence[Rung], floor: float) -> tuple[Rung, ...]:
    """The rungs that an operator who accepts a loss of ``floor`` allows: as they come, and only where each is cheaper.

    Raises:
        UsageError: no rung is allowed, or rungs are not in the order of their margins, or a cost is not positive.
    """
    for better, worse in pairwise(rungs):
        if worse.margin < better.margin:
            raise UsageError("rungs must come by increasing margin", where=worse.variant, got=worse.margin)
    kept: list[Rung] = []
    for rung in rungs:
        if not 0.0 < rung.cost < math.inf:
            raise UsageError("a cost must be positive and finite", where=rung.variant, got=rung.cost)
        if rung.margin <= floor and (not kept or rung.cost < kept[-1].cost):
            kept.append(rung)
    if not kept:
        got = ", ".join(f"{rung.variant} at {rung.margin:g}" for rung in rungs) or "no rung"
        raise UsageError("no rung is certified within the floor", where="floor", got=got, allowed=f"<= {floor:g}")
    return tuple(kept)


class Ladder:
    """The rung in use, and the price that moves it; changed by :meth:`choose`.

    Args:
        rungs: see :func:`within_floor`, best first.
        floor: the largest margin that the operator accepts.
    """

    def __init__(self, rungs: Sequence[Rung], floor: float, limits: LadderLimits | None = None) -> None:
        self.rungs = within_floor(rungs, floor)
        self._limits = limits or LadderLimits()
        best = self.rungs[0].cost
        self._costs = [rung.cost / best for rung in self.rungs]
        # Rungs that no price would choose (inside the convex hull) get the price of those around them.
        prices = [
            max(1e-12, worse.loss - better.loss) / (dear - cheap)
            for (better, worse), (dear, cheap) in zip(pairwise(self.rungs), pairwise(self._costs), strict=True)
        ]
        self._least, self._most = (min(prices) / 2, max(prices) * 2) if prices else (1.0, 1.0)
        self._price = self._least
        self._at = 0
        self._since_s = -math.inf
        self._moved_s = math.nan

    @property
    def at(self) -> int:
        """Place of the rung in use, 0 the best."""
        return self._at

    @property
    def price(self) -> float:
        """Quality that a unit of cost is worth now: DCAF's lambda."""
        return self._price

    def factor(self, at: int) -> float:
        """Cost of a rung over that of the best one."""
        return self._costs[at]

    def slowdown(self, at: int) -> float:
        """Cost of a rung over that of the last one, by which the backlog is planned: nobody is refused sooner."""
        return self._costs[at] / self._costs[-1]

    def choose(self, now_s: float, load: Load) -> RungChoice:
        """The rung for a batch that starts now."""
        self._move_price(now_s, load)
        needed = self._needed(load, now_s)
        wanted = self._wanted()
        if needed > self._at:
            return self._go(needed, now_s, Reason.FORCED_DOWN, "on a better one, requests that wait would be late")
        if wanted > self._at:
            return self._go(wanted, now_s, Reason.STEP_DOWN, "demand is more than this share of quality is worth")
        if max(wanted, needed) == self._at:
            return self._stay(Reason.STAY, "the best that the load allows")
        if now_s - self._since_s < self._limits.dwell_s:
            return self._stay(Reason.DWELL, f"a rung is kept for {self._limits.dwell_s:g} s")
        if load.demand * self._costs[self._at - 1] > self._limits.utilization:
            return self._stay(Reason.STAY, "the next better one could not carry the demand")
        return self._go(self._at - 1, now_s, Reason.STEP_UP, "the load allows a better one")

    def keep(self, at: int) -> RungChoice:
        """The rung that a session keeps to, or the floor's where the ladder has become shorter."""
        at = min(at, len(self.rungs) - 1)
        return RungChoice(at, self.rungs[at], self._price, Reason.SESSION, "its session keeps to it")

    def _needed(self, load: Load, now_s: float) -> int:
        """The best rung at which nobody who waits is late, the floor's where it is none; for a long line the next."""
        last = len(self.rungs) - 1
        needed = next((at for at in range(last) if load.slack_s(self.slowdown(at)) >= 0.0), last)
        if load.is_long and needed <= self._at < last and now_s - self._since_s >= _SHORTENS_S:
            return self._at + 1
        return needed

    def _wanted(self) -> int:
        """The rung of greatest quality less price times cost, the better one of equals."""
        worth = [-rung.loss - self._price * cost for rung, cost in zip(self.rungs, self._costs, strict=True)]
        return max(range(len(worth)), key=lambda at: (worth[at], -at))

    def _move_price(self, now_s: float, load: Load) -> None:
        passed_s = 0.0 if math.isnan(self._moved_s) else max(0.0, min(1.0, now_s - self._moved_s))
        self._moved_s = now_s
        used = load.demand * self._costs[self._at] / self._limits.utilization
        pressure = max(used, load.wait_s / self._limits.wait_s, 1e-3)
        error = max(-2.0, min(2.0, math.log(pressure)))
        if abs(error) <= self._limits.dead_band:
            return
        price = self._price * math.exp(self._limits.speed_per_s * error * passed_s)
        # Bounded just outside of where it chooses the best or the last rung, so that it is back at once (no wind-up).
        self._price = max(self._least, min(self._most, price))

    def _go(self, at: int, now_s: float, reason: Reason, text: str) -> RungChoice:
        self._at, self._since_s = at, now_s
        return RungChoice(at, self.rungs[at], self._price, reason, text)

    def _stay(self, reason: Reason, text: str) -> RungChoice:
        return RungChoice(self._at, self.rungs[self._at], self._price, reason, text)
