"""Steps that work along axes within a row: sums and their kin, softmax, products of two values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import elements_of

__all__ = ["matmul", "reduce", "softmax"]

Strides = Sequence[int]
"""Elements from row to row, then from one place of each axis to the next."""


def reduce(
    kind: int, rows: int, dims: Sequence[int], target: torch.Tensor, to: Strides, source: torch.Tensor, of: Strides
) -> None:
    """``(before, length, after)`` over its middle axis; ``kind`` is one of
    :class:`rankine.compilation.fused.program.Reduction`."""
    _launch(_reduce, rows, dims, target, to, source, of, KIND=kind)


def softmax(
    kind: int, rows: int, dims: Sequence[int], target: torch.Tensor, to: Strides, source: torch.Tensor, of: Strides
) -> None:
    """Of ``(before, length, after)``, over its middle axis; its logarithm where ``kind`` is 1."""
    _launch(_softmax, rows, dims, target, to, source, of, LOG=bool(kind))


def _launch(
    kernel: Any,
    rows: int,
    dims: Sequence[int],
    target: torch.Tensor,
    to: Strides,
    source: torch.Tensor,
    of: Strides,
    **what: int,
) -> None:
    before, length, after = dims
    total = rows * before * after
    if total:
        block = elements_of(total)
        grid = (triton.cdiv(total, block),)
        kernel[grid](target, source, total, before, length, after, *to, *of, BLOCK=block, **what)


def matmul(
    rows: int,
    dims: Sequence[int],
    target: torch.Tensor,
    to: Strides,
    left: torch.Tensor,
    of_left: Strides,
    right: torch.Tensor,
    of_right: Strides,
) -> None:
    """``(batch, M, K)`` times ``(batch, K, N)`` within a row; ``dims`` are ``batch, M, K, N``."""
    batch, height, inner, width = dims
    total = rows * batch * height * width
    if total:
        block = elements_of(total)
        _matmul[(triton.cdiv(total, block),)](
            target, left, right, total, batch, height, inner, width, *to, *of_left, *of_right, BLOCK=block
        )


@triton.jit
def _columns(
    target, source, total, before, after, t_row, t_first, t_after, s_row, s_first, s_after, BLOCK: tl.constexpr
):
    """Of a program's ``(row, before, after)``: where the axis between begins in the target and in the source."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row, place = index // (before * after), index % (before * after)
    i, k = place // after, place % after
    to = target + row * t_row + i * t_first + k * t_after
    return to, source + row * s_row + i * s_first + k * s_after, index < total


@triton.jit
def _reduce(
    target,
    source,
    total,
    before,
    length,
    after,
    t_row,
    t_0,
    t_1,
    s_row,
    s_0,
    s_1,
    s_2,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    to, start, inside = _columns(target, source, total, before, after, t_row, t_0, t_1, s_row, s_0, s_2, BLOCK)
    held = tl.load(start, mask=inside, other=0.0)
    if KIND == 4 or KIND == 5:
        held *= held
    for j in range(1, length):
        value = tl.load(start + j * s_1, mask=inside, other=0.0)
        if KIND == 2:
            held = tl.maximum(held, value)
        elif KIND == 3:
            held = tl.minimum(held, value)
        elif KIND == 6:
            held *= value
        elif KIND == 4 or KIND == 5:
            held += value * value
        else:
            held += value
    if KIND == 1:
        held /= length
    elif KIND == 5:
        held = tl.sqrt(held)
    tl.store(to, held, mask=inside)


@triton.jit
def _softmax(
    target,
    source,
    total,
    before,
    length,
    after,
    t_row,
    t_0,
    t_1,
    t_2,
    s_row,
    s_0,
    s_1,
    s_2,
    LOG: tl.constexpr,
    BLOCK: tl.constexpr,
):
    to, start, inside = _columns(target, source, total, before, after, t_row, t_0, t_2, s_row, s_0, s_2, BLOCK)
    largest = tl.load(start, mask=inside, other=0.0)
    for j in range(1, length):
        largest = tl.maximum(largest, tl.load(start + j * s_1, mask=inside, other=0.0))
    sums = tl.zeros((BLOCK,), tl.float32)
    for j in range(length):
        sums += tl.exp(tl.load(start + j * s_1, mask=inside, other=0.0) - largest)
    for j in range(length):
        shifted = tl.load(start + j * s_1, mask=inside, other=0.0) - largest
        value = shifted - tl.log(sums) if LOG else tl.exp(shifted) / sums
        tl.store(to + j * t_1, value, mask=inside)


@triton.jit
def _matmul(
    target,
    left,
    right,
    total,
    batch,
    height,
    inner,
    width,
    t_row,
    t_0,
    t_1,
    t_2,
    l_row,
    l_0,
    l_1,
    l_2,
    r_row,
    r_0,
    r_1,
    r_2,
    BLOCK: tl.constexpr,
):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < total
    size = batch * height * width
    row, place = index // size, index % size
    n, m, b = place % width, (place // width) % height, place // (width * height)
    from_left = left + row * l_row + b * l_0 + m * l_1
    from_right = right + row * r_row + b * r_0 + n * r_2
    sums = tl.zeros((BLOCK,), tl.float32)
    for k in range(inner):
        one = tl.load(from_left + k * l_2, mask=inside, other=0.0)
        sums += one * tl.load(from_right + k * r_1, mask=inside, other=0.0)
    tl.store(target + row * t_row + b * t_0 + m * t_1 + n * t_2, sums, mask=inside)
