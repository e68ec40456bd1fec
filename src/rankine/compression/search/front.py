"""Which candidates go on: those that no other one beats in both quality and cost, front by front."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["fronts", "promote", "spread"]

Point = tuple[float, float]
"""(loss, cost): less is better in both."""


def fronts(points: Sequence[Point]) -> list[list[int]]:
    """Positions in non-dominated layers: the first has what nothing beats, the second what only the first does, ...
    (Deb et al., NSGA-II, 2002). Each by increasing cost; of equal points all but the first come a layer later."""
    left = sorted(range(len(points)), key=lambda place: (points[place][1], points[place][0], place))
    layers = []
    while left:
        layer, rest, best = [], [], float("inf")
        for place in left:
            if points[place][0] < best:
                best = points[place][0]
                layer.append(place)
            else:
                rest.append(place)
        layers.append(layer)
        left = rest
    return layers


def promote(points: Sequence[Point], count: int) -> list[int]:
    """``count`` positions, ascending: whole fronts, and of the last one those that lie farthest apart."""
    chosen: list[int] = []
    for layer in fronts(points):
        room = count - len(chosen)
        chosen += layer if len(layer) <= room else [layer[place] for place in spread(len(layer), room)]
        if len(chosen) >= count:
            break
    return sorted(chosen)


def spread(length: int, count: int) -> list[int]:
    """``count`` of ``length`` positions, evenly, both ends among them where there is room."""
    count = min(count, length)
    if count < 2:
        return list(range(count))
    return sorted({round(step * (length - 1) / (count - 1)) for step in range(count)})
