"""Sizes as values: what exporters compute the target of a reshape from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from onnx.numpy_helper import to_array

from rankine.compilation.binding.dims import Dim, Rows, Unprovable, size_of_row
from rankine.compilation.binding.facts import Out, Reading
from rankine.compilation.binding.rules.elementwise import elementwise

__all__ = ["rules"]


def _shape(read: Reading) -> list[Out]:
    shape = read.shape()
    content = shape[read.attribute("start", 0) : read.attribute("end", len(shape))]
    return [Out((len(content),), np.dtype(np.int64), content)]


def _size(read: Reading) -> list[Out]:
    shape = read.shape()
    has_rows = any(isinstance(dim, Rows) for dim in shape)
    size: Dim = Rows(size_of_row(shape)) if has_rows else size_of_row(shape)
    return [Out((), np.dtype(np.int64), (size,))]


def _computed(read: Reading) -> list[Out]:
    """Arithmetic of sizes; of anything else an elementwise operator."""
    (out,) = elementwise(read)
    contents = [fact.content for fact in read.facts if fact is not None]
    if None in contents or len(contents) != 2:
        return [out]
    left, right = (content or () for content in contents)
    count = max(len(left), len(right))
    if {len(left), len(right)} - {1, count} or math.prod(size_of_row((dim,)) for dim in out.shape) != count:
        return [out]
    pairs = zip(left * (count // len(left)), right * (count // len(right)), strict=True)
    found = [_result(read.node.op_type, one, other) for one, other in pairs]
    known = [dim for dim in found if dim is not None]
    return [Out(out.shape, content=tuple(known) if len(known) == count else None)]


def _result(operator: str, left: Dim, right: Dim) -> Dim | None:
    if isinstance(left, int) and isinstance(right, int):
        function: Callable[[int, int], int] | None = _ARITHMETIC.get(operator)
        return None if function is None or (operator == "Div" and (right <= 0 or left < 0)) else function(left, right)
    if operator in ("Add", "Sub") and right == 0:
        return left
    if operator == "Add" and left == 0:
        return right
    if operator == "Mul" and not (isinstance(left, Rows) and isinstance(right, Rows)):
        factor = size_of_row((left, right))
        return Rows(factor) if factor > 0 else None
    if operator == "Div" and isinstance(left, Rows) and isinstance(right, int) and right > 0:
        return None if left.factor % right else Rows(left.factor // right)
    return None


def _filled(read: Reading) -> list[Out]:
    """The same number everywhere, in every row."""
    value = read.attribute("value")
    return [Out(tuple(read.content(0)), np.dtype(np.float32) if value is None else to_array(value).dtype)]


def _refused(read: Reading) -> list[Out]:
    raise Unprovable("it makes values out of the number of rows")


_ARITHMETIC: Mapping[str, Callable[[int, int], int]] = {
    "Add": lambda left, right: left + right,
    "Sub": lambda left, right: left - right,
    "Mul": lambda left, right: left * right,
    "Div": lambda left, right: left // right,
}

rules: Mapping[str, object] = {
    **dict.fromkeys(_ARITHMETIC, _computed),
    **dict.fromkeys(("Range", "EyeLike", "NonZero"), _refused),
    "ConstantOfShape": _filled,
    "Shape": _shape,
    "Size": _size,
}
