"""Steps that work element by element, over views of up to four axes within a row, and those that move elements."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import elements_of
from rankine.compilation.engines.triton_lang.kernels.linear import rounded

__all__ = ["BINARY", "COPY", "DEQUANTIZE", "QUANTIZE", "WHERE", "Operand", "elements", "taken"]

BINARY, WHERE, QUANTIZE, DEQUANTIZE, COPY = 32, 64, 65, 66, 67
"""Operations beside those of one number, which are :class:`rankine.compilation.fused.program.Unary`; of two, a kind of
:class:`rankine.compilation.fused.program.Binary` on top of ``BINARY``."""
_WHERE, _QUANTIZE, _DEQUANTIZE, _COPY, _BINARY = (tl.constexpr(at) for at in (64, 65, 66, 67, 32))
_AXES = 4

Operand = tuple[torch.Tensor, int, Sequence[int]]
"""Memory from the first element on, elements from row to row, and from one place of each axis to the next."""


def elements(
    operation: int, rows: int, dims: Sequence[int], operands: Sequence[Operand], numbers: Sequence[float] = ()
) -> None:
    """Compute the first operand, of ``dims`` in each of ``rows`` rows, from the others, of which there are up to three.

    Every element is read before it is written, and by nobody else: the first operand may be one of the others.
    """
    size = 1
    for dim in dims:
        size *= dim
    if rows * size == 0:
        return
    padded = [1] * (_AXES - len(dims)) + list(dims)
    memory: list[torch.Tensor | None] = []
    strides: list[int] = []
    for place in range(4):
        given = operands[place] if place < len(operands) else None
        memory.append(None if given is None else given[0])
        own = (0, ()) if given is None else given[1:]
        strides += [own[0], *[0] * (_AXES - len(own[1])), *own[1]]
    first, second = (*numbers, 0.0, 0.0)[:2]
    block = elements_of(rows * size)
    _elements[(triton.cdiv(rows * size, block),)](
        *memory, rows * size, *padded[1:], size, *strides, first, second, OPERATION=operation, BLOCK=block
    )


def taken(
    source: torch.Tensor,
    source_stride: int,
    target: torch.Tensor,
    target_stride: int,
    places: torch.Tensor,
    rows: int,
    sizes: tuple[int, int, int, int],
) -> None:
    """``(before, length, after)`` at int32 ``places (count,)`` of the middle axis.

    Args:
        sizes: ``before, count, after, length``.
    """
    before, count, after, length = sizes
    total = rows * before * count * after
    if total == 0:
        return
    block = elements_of(total)
    _taken[(triton.cdiv(total, block),)](
        source, target, places, total, source_stride, target_stride, before, count, after, length, BLOCK=block
    )


@triton.jit
def _taken(
    source, target, places, total, source_stride, target_stride, before, count, after, length, BLOCK: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    size = before * count * after
    row, place = at // size, at % size
    middle = tl.load(places + (place // after) % count, mask=inside, other=0)
    read = row * source_stride + (place // (after * count) * length + middle) * after + place % after
    tl.store(target + row * target_stride + place, tl.load(source + read, mask=inside, other=0.0), mask=inside)


@triton.jit
def _tanh(x):
    """Small arguments by the series, as the quotient cancels there."""
    square = x * x
    series = x * (1.0 + square * (-0.33333333 + square * (0.13333333 - square * 0.05396825)))
    quotient = 1.0 - 2.0 / (tl.exp(tl.minimum(x, 20.0) * 2.0) + 1.0)
    return tl.where(square < 0.0225, series, quotient)


@triton.jit
def _softplus(x):
    """``log(1 + t)`` with Kahan's correction of what ``1 + t`` loses."""
    small = tl.exp(-tl.abs(x))
    whole = 1.0 + small
    lost = tl.where(whole == 1.0, small, tl.log(whole) * (small / tl.where(whole == 1.0, 1.0, whole - 1.0)))
    return tl.maximum(x, 0.0) + lost


@triton.jit
def _power(x, y):
    """In float64: an exponent multiplies the error of the logarithm."""
    some = tl.where(x == 0, 1.0, tl.abs(x))
    size = tl.exp2(y.to(tl.float64) * tl.log2(some.to(tl.float64))).to(tl.float32)
    size = tl.where(x == 0, tl.where(y > 0, 0.0, float("inf")), size)
    whole = tl.floor(y) == y
    odd = whole & (tl.floor(y * 0.5) * 2.0 != y)
    signed = tl.where((x < 0) & odd, -size, tl.where((x < 0) & (whole == 0), float("nan"), size))
    return tl.where(y == 0.0, 1.0, signed)


@triton.jit
def _unary(x, first, second, KIND: tl.constexpr):  # noqa: C901
    if KIND == 0:
        return tl.maximum(x, 0.0)
    elif KIND == 1:
        return 1.0 / (1.0 + tl.exp(-x))
    elif KIND == 2:
        return _tanh(x)
    elif KIND == 3:
        return tl.exp(x)
    elif KIND == 4:
        return tl.log(x)
    elif KIND == 5:
        return tl.sqrt(x)
    elif KIND == 6:
        return -x
    elif KIND == 7:
        return tl.abs(x)
    elif KIND == 8:
        return tl.erf(x)
    elif KIND == 9:
        return 1.0 / x
    elif KIND == 10:
        return 1.0 - x
    elif KIND == 11:
        return tl.minimum(tl.maximum(x, first), second)
    elif KIND == 12:
        return tl.where(x < 0, x * first, x)
    elif KIND == 13:
        return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif KIND == 14:
        return x * first + second
    elif KIND == 15:
        return x * x
    elif KIND == 17:
        return _softplus(x)
    elif KIND == 18:
        return tl.where(x < 0, first * (tl.exp(tl.minimum(x, 0.0)) - 1.0), x)
    else:
        tl.static_assert(KIND == 16)
        return x


@triton.jit
def _binary(x, y, KIND: tl.constexpr):  # noqa: C901
    if KIND == 0:
        return x + y
    elif KIND == 1:
        return x - y
    elif KIND == 2:
        return x * y
    elif KIND == 3:
        return x / y
    elif KIND == 4:
        return tl.maximum(x, y)
    elif KIND == 5:
        return tl.minimum(x, y)
    elif KIND == 6:
        return _power(x, y)
    elif KIND == 7:
        return (x < y).to(tl.float32)
    elif KIND == 8:
        return (x <= y).to(tl.float32)
    elif KIND == 9:
        return (x > y).to(tl.float32)
    elif KIND == 10:
        return (x >= y).to(tl.float32)
    elif KIND == 11:
        return (x == y).to(tl.float32)
    elif KIND == 12:
        return ((x != 0) & (y != 0)).to(tl.float32)
    elif KIND == 13:
        return ((x != 0) | (y != 0)).to(tl.float32)
    else:
        tl.static_assert(KIND == 14)
        return tl.where(x < 0, x * y, x)


@triton.jit
def _at(row, i, j, k, m, by_row, by_i, by_j, by_k, by_m):
    return row * by_row + i * by_i + j * by_j + k * by_k + m * by_m


@triton.jit
def _elements(
    target,
    left,
    right,
    other,
    total,
    dim_1,
    dim_2,
    dim_3,
    size,
    t_row,
    t_0,
    t_1,
    t_2,
    t_3,
    l_row,
    l_0,
    l_1,
    l_2,
    l_3,
    r_row,
    r_0,
    r_1,
    r_2,
    r_3,
    o_row,
    o_0,
    o_1,
    o_2,
    o_3,
    first,
    second,
    OPERATION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < total
    row, place = index // size, index % size
    m = place % dim_3
    k = (place // dim_3) % dim_2
    j = (place // (dim_3 * dim_2)) % dim_1
    i = place // (dim_3 * dim_2 * dim_1)
    x = tl.load(left + _at(row, i, j, k, m, l_row, l_0, l_1, l_2, l_3), mask=inside, other=0)
    if right is not None:
        y = tl.load(right + _at(row, i, j, k, m, r_row, r_0, r_1, r_2, r_3), mask=inside, other=0)
    if OPERATION == _WHERE:
        z = tl.load(other + _at(row, i, j, k, m, o_row, o_0, o_1, o_2, o_3), mask=inside, other=0)
        value = tl.where(x != 0, y, z)
    elif OPERATION == _QUANTIZE:
        value = rounded(x, y, first)
    elif OPERATION == _DEQUANTIZE:
        value = (x.to(tl.float32) - first) * second
    elif OPERATION == _COPY:
        value = x
    elif OPERATION >= _BINARY:
        value = _binary(x, y, OPERATION - _BINARY)
    else:
        value = _unary(x, first, second, OPERATION)
    tl.store(target + _at(row, i, j, k, m, t_row, t_0, t_1, t_2, t_3), value, mask=inside)
