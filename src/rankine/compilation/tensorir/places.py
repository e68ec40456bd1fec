"""Where the rows of a step's operands lie, and loops over their elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rankine.compilation.tensorir.nodes import Expr, Function, Memory, i64

__all__ = ["Place", "each_element", "runs"]


@dataclass(frozen=True)
class Place:
    """An operand in memory.

    Attributes:
        start: its first element in the first row of the tile.
        stride: elements from row to row; 0 for constants.
    """

    memory: Memory
    element: str
    start: Expr
    stride: int

    def at(self, row: Expr, index: Expr) -> Expr:
        """The place of element ``index`` of a row."""
        return self.start + row * i64(self.stride) + index

    def load(self, row: Expr, index: Expr, lanes: int = 1) -> Expr:
        return self.memory.load(self.element, self.at(row, index), lanes)

    def address(self) -> Expr:
        return self.memory.address(self.element, self.start)


Element = Callable[[Sequence[Expr], int], None]
"""Given the index in each operand, and the lanes: writes the elements there."""


def each_element(
    function: Function, dims: Sequence[int], strides: Sequence[Sequence[int]], lanes: int, write: Element
) -> None:
    """Loops over ``dims``, the last one in vectors of ``lanes`` where the elements of each operand follow each other
    there, or are one.

    Args:
        strides: of each operand; those of the first are where it is written.
        lanes: 1 where what is done is not done in vectors.
    """
    _nest(function, list(dims), [list(own) for own in strides], lanes, [i64(0)] * len(strides), write)


def _nest(
    function: Function, dims: list[int], strides: list[list[int]], lanes: int, indices: list[Expr], write: Element
) -> None:
    if not dims:
        write(indices, 1)
        return
    if len(dims) > 1:
        with function.loop(dims[0], name="outer") as at:
            inner = [index + at * i64(own[0]) for index, own in zip(indices, strides, strict=True)]
            _nest(function, dims[1:], [own[1:] for own in strides], lanes, inner, write)
        return
    (count,), steps = dims, [own[0] for own in strides]
    follow = steps[0] == 1 and all(step in (0, 1) for step in steps)
    for first, times, each in runs(count, lanes if follow else 1):
        with function.loop(times, name="inner") as at:
            place = at * i64(each) + i64(first)
            write([index + place * i64(step) for index, step in zip(indices, steps, strict=True)], each)


def runs(count: int, lanes: int) -> list[tuple[int, int, int]]:
    """Whole vectors, then the rest one by one: of each, the first element, how often, and the lanes."""
    whole, rest = divmod(count, lanes)
    if lanes == 1:
        return [(0, count, 1)]
    return [run for run in ((0, whole, lanes), (whole * lanes, rest, 1)) if run[1]]
