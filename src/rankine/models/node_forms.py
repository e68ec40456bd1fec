"""What nodes of an ONNX graph say, whichever library computes them: sizes, parts and axes, as opset 21 defines them.

``data`` may be an array of any library: nothing but its shape is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Protocol

__all__ = [
    "REDUCTIONS",
    "SIZES",
    "Attributes",
    "Operator",
    "binary",
    "fold",
    "ints",
    "reduced_axes",
    "reshaped",
    "slices",
    "split_sizes",
    "unary",
    "unknown_form",
]

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]
"""Takes a node's attributes and its inputs, None where an optional one is left out; returns its output, or a tuple."""

REDUCTIONS = ("L2", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
SIZES: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Pad": (1, 2, 3),
    "Pow": (1,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    **{f"Reduce{name}": (1,) for name in REDUCTIONS},
}
"""Inputs, by position, whose values decide on shapes or on what is called."""
_KNOWN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Conv": ("auto_pad", ("NOTSET", "VALID")),
    "Pad": ("mode", ("constant",)),
}
"""Attributes that choose between forms of an operator, and those that are computed; the first is the default."""


class Numbers(Protocol):
    """An array of integers, of any library."""

    def reshape(self, shape: int, /) -> Any: ...


def ints(values: Numbers) -> list[int]:
    """The values of an input of :data:`SIZES`."""
    return [int(value) for value in values.reshape(-1).tolist()]


def reshaped(attributes: Attributes, given: Sequence[Any], shape: Numbers) -> list[Any]:
    """Sizes that ``Reshape`` gives: a zero stands for the size that is there."""
    wanted: list[Any] = ints(shape)
    if attributes.get("allowzero"):
        return wanted
    return [given[axis] if size == 0 else size for axis, size in enumerate(wanted)]


def slices(starts: Numbers, ends: Numbers, axes: Numbers | None, steps: Numbers | None) -> Iterator[tuple[int, slice]]:
    """Axes of ``Slice``, and what is taken along each."""
    begin, stop = ints(starts), ints(ends)
    along = range(len(begin)) if axes is None else ints(axes)
    stride = [1] * len(begin) if steps is None else ints(steps)
    for axis, first, last, by in zip(along, begin, stop, stride, strict=True):
        yield axis, slice(first, last, by)


def split_sizes(attributes: Attributes, total: int, sizes: Numbers | None) -> list[int]:
    """Sizes of the parts of ``Split``; where they are not equal, the last one is smaller."""
    if sizes is not None:
        return ints(sizes)
    count = attributes["num_outputs"]
    each = -(-total // count)
    return [max(0, min(each, total - each * part)) for part in range(count)]


def reduced_axes(attributes: Attributes, rank: int, axes: Numbers | None) -> tuple[int, ...]:
    """Axes that a reduction is over; none where it gives back what it reads."""
    wanted = tuple(ints(axes) if axes is not None else ()) or tuple(attributes.get("axes", ()))
    return wanted or (() if attributes.get("noop_with_empty_axes") else tuple(range(rank)))


def unknown_form(operator: str, attributes: Attributes, types: Container[int]) -> str | None:
    """The operator and the attribute by which a node is of a form that is not computed; None where it is computed.

    Args:
        types: ONNX's numbers of those that values are cast to.
    """
    if operator == "Cast":
        return None if attributes["to"] in types else f"Cast (to {attributes['to']})"
    name, known = _KNOWN.get(operator, ("", ("",)))
    value = attributes.get(name, known[0])
    return None if value in known else f"{operator} ({name} {value})"


def unary(operation: Callable[[Any], Any]) -> Operator:
    """Of one input, without attributes."""
    return lambda attributes, data: operation(data)


def binary(operation: Callable[[Any, Any], Any]) -> Operator:
    """Of two inputs, without attributes."""
    return lambda attributes, a, b: operation(a, b)


def fold(operation: Callable[[Any, Any], Any]) -> Operator:
    """Of any number of inputs, from the first to the last."""
    return lambda attributes, *parts: reduce(operation, parts)
