"""When batches will be done on several workers: each goes to the one that finishes it first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct

__all__ = ["Lane", "finishes", "lanes_after", "speed_of", "start_of"]


class Lane(Struct, frozen=True):
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
    if len(lanes) == 1:
        lane = lanes[0]
        if lane.slowdown != 1.0:
            durations_s = [duration_s * lane.slowdown for duration_s in durations_s]
        return list(accumulate(durations_s, initial=lane.free_s))[1:]
    return _listed(durations_s, lanes)[0]


def lanes_after(durations_s: Sequence[float], lanes: Sequence[Lane]) -> Sequence[Lane]:
    """The lanes when all of these batches are done."""
    if len(lanes) == 1:
        return (Lane(lanes[0].free_s + sum(durations_s) * lanes[0].slowdown, lanes[0].slowdown),)
    free_s = _listed(durations_s, lanes)[1]
    return tuple(Lane(free, lane.slowdown) for free, lane in zip(free_s, lanes, strict=True))


def speed_of(lanes: Sequence[Lane]) -> float:
    """How many workers of usual speed do as much."""
    return sum((1.0 / lane.slowdown for lane in lanes), 0.0)


def start_of(duration_s: float, lanes: Sequence[Lane]) -> float:
    """When a batch would have to start, were all lanes of usual speed, to be done as soon as it will be.

    A slow lane that is free is no reason to think that a batch starts now: a fast one may be done with it sooner.
    """
    if len(lanes) == 1:
        return lanes[0].free_s + (lanes[0].slowdown - 1.0) * duration_s
    return min(lane.free_s + (lane.slowdown - 1.0) * duration_s for lane in lanes)


def _listed(durations_s: Sequence[float], lanes: Sequence[Lane]) -> tuple[list[float], list[float]]:
    free_s = [lane.free_s for lane in lanes]
    slowdowns = [lane.slowdown for lane in lanes]
    ends_s = []
    for duration_s in durations_s:
        done_s = [free + duration_s * slowdown for free, slowdown in zip(free_s, slowdowns, strict=True)]
        first = min(done_s)
        free_s[done_s.index(first)] = first
        ends_s.append(first)
    return ends_s, free_s
