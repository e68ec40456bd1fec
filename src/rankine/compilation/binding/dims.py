"""Sizes of values, of which one may be the number of rows, and what broadcasting makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

__all__ = ["Dim", "Rows", "Shape", "Unprovable", "broadcast", "row_axis", "size_of_row", "whole"]


class Unprovable(Exception):
    """It cannot be proved that a row of a node's output depends on the same row of the inputs only; says why."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A size of ``factor`` times the number of rows: row ``r`` lies at ``r * factor`` to ``(r + 1) * factor - 1``."""

    factor: int = 1


Dim = int | Rows
Shape = tuple[Dim, ...]


def row_axis(shape: Shape) -> int | None:
    """The axis along which the rows lie; None where there is none.

    Raises:
        Unprovable: there are several.
    """
    found = [axis for axis, dim in enumerate(shape) if isinstance(dim, Rows)]
    if len(found) > 1:
        raise Unprovable("every row meets every other row")
    return found[0] if found else None


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape of an elementwise result.

    Raises:
        Unprovable: rows lie along different axes, or meet a fixed size.
    """
    return tuple(_common(dims) for dims in zip_longest(*map(reversed, shapes), fillvalue=1))[::-1]


def whole(dims: Sequence[Dim]) -> tuple[int, ...]:
    """The same sizes, where all of them are fixed.

    Raises:
        Unprovable: one is the number of rows.
    """
    fixed = tuple(dim for dim in dims if isinstance(dim, int))
    if len(fixed) < len(dims):
        raise Unprovable("an axis that is worked along is that of the rows")
    return fixed


def size_of_row(shape: Shape) -> int:
    """Elements that a row has."""
    return math.prod(dim.factor if isinstance(dim, Rows) else dim for dim in shape)


def _common(dims: Sequence[Dim]) -> Dim:
    found = {dim for dim in dims if dim != 1}
    if len(found) > 1:
        raise Unprovable("rows do not lie along the same axis of all inputs")
    return found.pop() if found else 1
