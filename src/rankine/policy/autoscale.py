"""How many hosts of this size the traffic of this one needs: what an autoscaler is told, and why.

The figure is not rounded: over all hosts they add up to the number that is needed, which the autoscaler rounds up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from rankine.policy.demand import Demand
from rankine.policy.reason import Reason

__all__ = ["Desired", "Offered", "Refusals", "ScaleReason", "Share", "Signals", "desired_replicas", "together"]

_NEXT_TO_NOTHING = 0.01
"""Share of refused requests that bursts bring about anyway: the bound on misses that a sustainable rate is held to."""
MEMORY_S = 60.0
_LEAST_SEEN = 0.05
"""Of the memory: in the first seconds a few requests would look like a flood."""
_NO_DEBT = 1e-7
_MOST_SHED = 0.99
_REFUSED = frozenset(
    {
        Reason.QUEUE_FULL,
        Reason.KEPT_SHORT,
        Reason.FRONT_END,
        Reason.OTHERS_LATE,
        Reason.PRIORITY,
        Reason.CONCURRENCY,
        Reason.STANDING_QUEUE,
    }
)
"""What more hosts would help against: neither a quota, nor a deadline that an idle server could not keep either."""
_LET_IN = frozenset({Reason.ADMITTED, Reason.PROBE})


class ScaleReason(StrEnum):
    """Which signal asks for the most."""

    UTILIZATION = "utilization"
    REFUSALS = "refusals"
    QUALITY_DEBT = "quality_debt"


@dataclass(frozen=True, slots=True)
class Signals:
    """The load of a host, over the last minute or so.

    Attributes:
        utilization: of what is busiest: predicted work that is offered, at full quality, over what the workers can do;
            or the share of its time that the front end, or that the cores are busy.
        shed: share of the requests that was refused for want of capacity, 0 to 1.
        debt: AUC that is given up because the load asks for it, see :class:`~rankine.policy.debt.QualityDebt`.
    """

    utilization: float = 0.0
    shed: float = 0.0
    debt: float = 0.0


@dataclass(frozen=True, slots=True)
class Desired:
    """Hosts of this size, not rounded, and the signal that asks for so many."""

    replicas: float
    reason: ScaleReason


def desired_replicas(signals: Signals, target: float) -> Desired:
    """How many hosts would have a utilization of ``target`` together, with the traffic that this one has alone.

    A host that refuses the share ``s`` is as busy as it can be, and is offered 1 / (1 - s) of that, whatever the
    prediction says; one that bends its quality is as busy as it can be at full quality.
    """
    asked = [(signals.utilization / target, ScaleReason.UTILIZATION)]
    if signals.shed > _NEXT_TO_NOTHING:
        asked.append((1 / (1 - min(signals.shed, _MOST_SHED)) / target, ScaleReason.REFUSALS))
    if signals.debt > _NO_DEBT:
        asked.append((1 / target, ScaleReason.QUALITY_DEBT))
    return Desired(*max(asked, key=lambda one: one[0]))


def together(groups: Iterable[Signals]) -> Signals:
    """The load of a host from that of its processes, which are of one size."""
    found = list(groups)
    if not found:
        return Signals()
    asked = sum(one.utilization for one in found)
    # Processes that are offered more have more to refuse and to answer worse.
    weights = [one.utilization / asked if asked else 1 / len(found) for one in found]
    return Signals(
        asked / len(found),
        sum(weight * one.shed for weight, one in zip(weights, found, strict=True)),
        sum(weight * one.debt for weight, one in zip(weights, found, strict=True)),
    )


class Offered:
    """Work that is offered to some workers, averaged over the last minute or so; not thread-safe.

    Args:
        workers: that share it; a slow one counts for a part of one.
        memory_s: over which it forgets: long enough that a burst starts no host, short enough to follow the day.
    """

    def __init__(self, workers: float, memory_s: float = MEMORY_S) -> None:
        self._workers = workers
        self._memory_s = memory_s
        self._demand = Demand(memory_s)
        self._begun_s = math.nan

    def add(self, work_s: float, now_s: float) -> None:
        """A request came that takes ``work_s`` seconds of one worker, whether it is let in or not."""
        if math.isnan(self._begun_s):
            self._begun_s = now_s
        self._demand.add(work_s, now_s)

    def utilization(self, now_s: float) -> float:
        """Over what the workers can do: above 1 is more."""
        if math.isnan(self._begun_s):
            return 0.0
        # The average is over what was seen: before the first request nothing is known.
        seen = 1 - math.exp(-max(0.0, now_s - self._begun_s) / self._memory_s)
        return self._demand.per_s(now_s) / max(seen, _LEAST_SEEN) / self._workers


class Share:
    """A share of time, averaged over the last minute or so; not thread-safe."""

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._memory_s = memory_s
        self._sum = self._weight = 0.0

    def add(self, share: float, seconds: float) -> None:
        """It was ``share`` for so long until now."""
        left = math.exp(-seconds / self._memory_s)
        self._sum = left * self._sum + (1 - left) * share
        self._weight = left * self._weight + (1 - left)

    @property
    def mean(self) -> float:
        """Over what was seen; 0 before anything was."""
        return self._sum / self._weight if self._weight else 0.0


class Refusals:
    """The share of requests that was refused for want of capacity in the last minute or so; not thread-safe."""

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._refused, self._asked = Demand(memory_s), Demand(memory_s)

    def add(self, reason: Reason, now_s: float) -> None:
        """A decision; those that are not about admission do not count."""
        if reason in _LET_IN:
            self._asked.add(1.0, now_s)
        elif reason in _REFUSED:
            self._refused.add(1.0, now_s)
            self._asked.add(1.0, now_s)

    def share(self, now_s: float) -> float:
        """Between 0 and 1; 0 where nobody asked."""
        asked = self._asked.per_s(now_s)
        return min(1.0, self._refused.per_s(now_s) / asked) if asked > 0 else 0.0
