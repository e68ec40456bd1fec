"""The cheapest way to part a network in two: maximum flow by shortest augmenting paths (Edmonds and Karp, 1972)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["SINK", "SOURCE", "Arc", "minimum_cut"]

SOURCE, SINK = "source", "sink"
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Arc:
    """What it costs if ``tail`` is on the source's side and ``head`` on the sink's; ``math.inf`` forbids it."""

    tail: Hashable
    head: Hashable
    cost: float


def minimum_cut(arcs: Iterable[Arc]) -> set[Hashable]:
    """The nodes on the source's side of a cheapest cut, of several the smallest side."""
    left: dict[Hashable, dict[Hashable, float]] = {SOURCE: {}, SINK: {}}
    for arc in arcs:
        if arc.tail != arc.head:
            ahead, back = left.setdefault(arc.tail, {}), left.setdefault(arc.head, {})
            ahead[arc.head] = ahead.get(arc.head, 0.0) + arc.cost
            back.setdefault(arc.tail, 0.0)
    while True:
        path = _shortest_path(left)
        if path is None:
            return set(_reached(left))
        steps = list(pairwise(path))
        amount = min(left[tail][head] for tail, head in steps)
        if math.isinf(amount):
            raise ValueError("every cut is forbidden")
        for tail, head in steps:
            left[tail][head] -= amount
            left[head][tail] += amount


def _reached(left: dict[Hashable, dict[Hashable, float]]) -> dict[Hashable, Hashable]:
    """Nodes that more can flow to, and where from."""
    found: dict[Hashable, Hashable] = {SOURCE: SOURCE}
    waiting: deque[Hashable] = deque([SOURCE])
    while waiting:
        tail = waiting.popleft()
        for head, capacity in left[tail].items():
            if capacity > _NOTHING and head not in found:
                found[head] = tail
                waiting.append(head)
    return found


def _shortest_path(left: dict[Hashable, dict[Hashable, float]]) -> list[Hashable] | None:
    found = _reached(left)
    if SINK not in found:
        return None
    path: list[Hashable] = [SINK]
    while path[-1] != SOURCE:
        path.append(found[path[-1]])
    return path[::-1]
