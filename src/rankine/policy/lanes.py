"""When batches will be done on several workers: each goes to the one that finishes it first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["Lane", "finishes", "schedule"]


@dataclass(frozen=True, slots=True)
class Lane:
    """A worker, as the plan sees it.

    Attributes:
        free_s: when what it runs is predicted to be done; now, where it is idle.
        slowdown: its time for a batch over that of the backlog's cost model.
    """

    free_s: float
    slowdown: float = 1.0


def finishes(durations_s: Sequence[float], lanes: Sequence[Lane]) -> list[float]:
    """When each batch is done, in the order given, which is the order in which they start.

    Greedy list scheduling (Graham 1966), which is what a pool does that never idles.

    Args:
        durations_s: of each batch by the backlog's cost model.
        lanes: one at least.
    """
    return schedule(durations_s, lanes)[0]


def schedule(durations_s: Sequence[float], lanes: Sequence[Lane]) -> tuple[list[float], tuple[Lane, ...]]:
    """:func:`finishes`, and the lanes as they are after the last of the batches."""
    if len(lanes) == 1:
        lane = lanes[0]
        if lane.slowdown != 1.0:
            durations_s = [duration_s * lane.slowdown for duration_s in durations_s]
        ends_s = list(accumulate(durations_s, initial=lane.free_s))
        return ends_s[1:], (Lane(ends_s[-1], lane.slowdown),)
    free_s = [lane.free_s for lane in lanes]
    slowdowns = [lane.slowdown for lane in lanes]
    ends_s = []
    for duration_s in durations_s:
        done_s = [free + duration_s * slowdown for free, slowdown in zip(free_s, slowdowns, strict=True)]
        first = min(done_s)
        free_s[done_s.index(first)] = first
        ends_s.append(first)
    return ends_s, tuple(Lane(free, slowdown) for free, slowdown in zip(free_s, slowdowns, strict=True))
