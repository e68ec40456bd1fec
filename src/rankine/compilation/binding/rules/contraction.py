"""Products: rows may lie along any axis of them but the one that is summed."""

from __future__ import annotations

from collections.abc import Mapping

from rankine.compilation.binding.dims import Dim, Rows, Shape, Unprovable, broadcast
from rankine.compilation.binding.facts import Out, Reading

__all__ = ["rules"]

_MIXES = "it sums over the rows"


def _matmul(read: Reading) -> list[Out]:
    left, right = read.shape(0), read.shape(1)
    if len(left) < 2 or not right:
        raise Unprovable("its first input is one vector")
    vector = len(right) == 1
    if vector:
        right = (*right, 1)
    _same(left[-1], right[-2])
    shape: Shape = (*broadcast([left[:-2], right[:-2]]), left[-2], right[-1])
    return [Out(shape[:-1] if vector else shape)]


def _gemm(read: Reading) -> list[Out]:
    left, right = read.shape(0), read.shape(1)
    if len(left) != 2 or len(right) != 2:
        raise Unprovable("its inputs are no matrices")
    (rows, inner), (other, columns) = (
        shape[::-1] if read.attribute(name, 0) else shape for shape, name in ((left, "transA"), (right, "transB"))
    )
    _same(inner, other)
    shape: Shape = (rows, columns)
    if len(read.facts) > 2 and read.facts[2] is not None:
        shape = broadcast([shape, read.shape(2)])
    return [Out(shape)]


def _einsum(read: Reading) -> list[Out]:
    """The letter of the rows must be one letter, and in the output."""
    given, _, result = str(read.attribute("equation")).replace(" ", "").partition("->")
    if "." in given or not result:
        raise Unprovable("its equation is not written out")
    sizes: dict[str, Dim] = {}
    for letters, shape in zip(given.split(","), read.shapes(), strict=True):
        for letter, dim in zip(letters, shape, strict=True):
            if sizes.setdefault(letter, dim) != dim:
                raise Unprovable("sizes of one letter differ")
    if any(isinstance(dim, Rows) and letter not in result for letter, dim in sizes.items()):
        raise Unprovable(_MIXES)
    return [Out(tuple(sizes[letter] for letter in result))]


def _same(left: Dim, right: Dim) -> None:
    if isinstance(left, Rows) or isinstance(right, Rows):
        raise Unprovable(_MIXES)
    if left != right:
        raise Unprovable("its inputs do not fit each other")


rules: Mapping[str, object] = {"Einsum": _einsum, "Gemm": _gemm, "MatMul": _matmul}
