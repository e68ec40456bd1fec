"""Attention of a candidate over its request's short history, all of it in one program a row.

A history is a request's: rows find it by ``request_index``, and it is never spread over them in memory. Where each row
has a history of its own, there is no index.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import interpreted, power
from rankine.compilation.engines.triton_lang.kernels.linear import (
    Weights,
    activated,
    finished,
    fp8_step,
    multiplied,
    rounded,
)

__all__ = ["ABSENT", "History", "Unit", "fits", "softmax_attention", "unit_attention"]

ABSENT = -1
_LARGEST = 1 << 14
"""Elements of a block that eight warps hold in registers."""
_LEAST = {"fp32": 16, "bf16": 16, "fp8": 32, "int8": 32}
"""Depth of a product that tensor cores take."""


@dataclass(frozen=True)
class History:
    """What a row attends to.

    Attributes:
        keys: float32 ``(owners, L * D)``, steps side by side; an owner is a request, or a row.
        length: L.
        lengths: ``(owners,)``, int32 or float32, of any stride: steps that are there; None for all. What lies behind
            is not read.
        request_index: int32 ``(rows,)``: the owner of each row, in range; None where each row is its own.
    """

    keys: torch.Tensor
    length: int
    lengths: torch.Tensor | None = None
    request_index: torch.Tensor | None = None


@dataclass(frozen=True)
class Unit:
    """DIN's activation unit (arXiv 1706.06978): layers that give each step of a history its weight.

    The first reads, side by side, of a query ``q`` and a step ``k`` all or some of ``k``, ``q - k`` and ``q * k``; what
    it takes of ``q`` alone, or of ``k`` alone, may also be added to it.

    Attributes:
        first: ``(blocks * D, H)``.
        blocks: places of ``k``, ``q - k`` and ``q * k`` among what it reads; ``ABSENT`` for what is not among it.
        last: float32 ``(H,)``, or ``(H2,)`` with a second layer.
        kind, slope: activation of the first layer, as in
            :func:`rankine.compilation.engines.triton_lang.kernels.linear.linear`.
        quant, zero: for ``int8``: how what the first layer reads is rounded.
        second: ``(H, H2)``; None where there is none.
        second_quant: float32 ``(H,)``, for ``int8``: how what the second reads is rounded, with ``second_zero``.
    """

    first: Weights
    blocks: tuple[int, int, int]
    last: torch.Tensor
    last_bias: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    kind: int = 1
    slope: torch.Tensor | None = None
    quant: float = 1.0
    zero: float = 0.0
    second: Weights | None = None
    second_bias: torch.Tensor | None = None
    second_kind: int = 0
    second_slope: torch.Tensor | None = None
    second_quant: torch.Tensor | None = None
    second_zero: float = 0.0


def fits(length: int, width: int, hidden: int) -> bool:
    """Whether the kernels take such a history and such a layer over it."""
    return power(length, 16) * max(power(width, 32), power(hidden, 32)) <= _LARGEST


def softmax_attention(
    query: torch.Tensor, history: History, target: torch.Tensor, *, scale: float, fill: float | None = None
) -> None:
    """Write ``softmax(scale * history @ query) @ history`` of every row to ``target``; zeros for an empty history.

    Args:
        query, target: float32 ``(rows, D)``.
        fill: the score of steps that are not there, which are read then, as a graph does that fills scores behind a
            mask; None where they have no share at all.
    """
    rows, width = query.shape
    if rows == 0:
        return
    _softmax[(rows,)](
        query,
        history.keys,
        history.lengths,
        history.request_index,
        target,
        history.length,
        width,
        *_strides(query, history, target),
        scale,
        0.0 if fill is None else fill,
        FILLED=fill is not None,
        LENGTH=power(history.length, 16),
        WIDTH=power(width, 16),
    )


def unit_attention(
    query: torch.Tensor,
    history: History,
    unit: Unit,
    target: torch.Tensor,
    *,
    of_query: torch.Tensor | None = None,
    of_history: torch.Tensor | None = None,
) -> None:
    """Write the history's steps of every row, summed with the weights that the unit gives them, to ``target``.

    Args:
        query, target: float32 ``(rows, D)``.
        of_query: float32 ``(rows, H)``, added to the first layer of every step: ``q @ W_q + b``.
        of_history: float32 ``(owners, L * H)``, added to it: ``k @ W_k`` of every step.
    """
    rows, width = query.shape
    if rows == 0:
        return
    first, second = unit.first, unit.second
    least = _LEAST[first.form]
    hidden, length = power(first.width, least), power(history.length, 16)
    _unit[(rows,)](
        query,
        history.keys,
        history.lengths,
        history.request_index,
        target,
        of_query,
        of_history,
        first.matrix,
        first.scale,
        first.correction,
        unit.bias,
        unit.slope,
        *((None,) * 3 if second is None else (second.matrix, second.scale, second.correction)),
        unit.second_bias,
        unit.second_slope,
        unit.second_quant,
        unit.last,
        unit.last_bias,
        history.length,
        width,
        first.inner,
        first.width,
        0 if second is None else second.width,
        *_strides(query, history, target),
        0 if of_query is None else of_query.stride(0),
        0 if of_history is None else of_history.stride(0),
        unit.quant,
        unit.zero,
        unit.second_zero,
        KEYS_AT=unit.blocks[0],
        GAPS_AT=unit.blocks[1],
        PRODUCTS_AT=unit.blocks[2],
        FORM=first.form,
        KIND=unit.kind,
        SECOND_KIND=unit.second_kind,
        WIDEN=interpreted(),
        LENGTH=length,
        WIDTH=power(width, least),
        HIDDEN=hidden,
        SECOND=0 if second is None else power(second.width, 16),
        num_warps=8 if length * hidden > _LARGEST // 2 else 4,
    )


def _strides(query: torch.Tensor, history: History, target: torch.Tensor) -> tuple[int, int, int, int]:
    lengths = 0 if history.lengths is None else history.lengths.stride(0)
    return query.stride(0), history.keys.stride(0), lengths, target.stride(0)


@triton.jit
def _owner(request_index):
    """Whose history a program's row attends to."""
    row = tl.program_id(0).to(tl.int64)
    if request_index is not None:
        return tl.load(request_index + row).to(tl.int64)
    else:
        return row


@triton.jit
def _is_step(lengths, lengths_stride, owner, most, LENGTH: tl.constexpr):
    """Steps of a history that are there, ``(LENGTH,)``."""
    step = tl.arange(0, LENGTH)
    is_step = step < most
    if lengths is not None:
        is_step = is_step & (step < tl.load(lengths + owner * lengths_stride))
    return is_step


@triton.jit
def _steps(keys, keys_stride, owner, is_step, width, LENGTH: tl.constexpr, WIDTH: tl.constexpr):
    """Those steps of a history, ``(LENGTH, WIDTH)``; zeros for the others."""
    step, along = tl.arange(0, LENGTH), tl.arange(0, WIDTH)
    at = keys + owner * keys_stride + step[:, None] * width + along[None, :]
    return tl.load(at, mask=is_step[:, None] & (along < width)[None, :], other=0.0)


@triton.jit
def _softmax(
    query,
    keys,
    lengths,
    request_index,
    target,
    most,
    width,
    query_stride,
    keys_stride,
    lengths_stride,
    target_stride,
    scale,
    fill,
    FILLED: tl.constexpr,
    LENGTH: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row, owner = tl.program_id(0).to(tl.int64), _owner(request_index)
    along = tl.arange(0, WIDTH)
    is_along = along < width
    is_there = _is_step(lengths, lengths_stride, owner, most, LENGTH)
    is_step = tl.arange(0, LENGTH) < most if FILLED else is_there
    asked = tl.load(query + row * query_stride + along, mask=is_along, other=0.0)
    held = _steps(keys, keys_stride, owner, is_step, width, LENGTH, WIDTH)
    scores = tl.sum(held * asked[None, :], axis=1) * scale
    if FILLED:
        scores = tl.where(is_there, scores, fill)
    scores = tl.where(is_step, scores, float("-inf"))
    largest = tl.max(tl.where(is_step, scores, -3.0e38), axis=0)
    powers = tl.where(is_step, tl.exp(scores - largest), 0.0)
    total = tl.sum(powers, axis=0)
    shares = powers / tl.where(total > 0, total, 1.0)
    tl.store(target + row * target_stride + along, tl.sum(held * shares[:, None], axis=0), mask=is_along)


@triton.jit
def _block(
    read,
    matrix,
    sums,
    step,
    width,
    inner,
    hidden,
    quant,
    zero,
    AT: tl.constexpr,
    FORM: tl.constexpr,
    WIDEN: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    """``sums`` and one block's part of the first layer, ``(LENGTH, HIDDEN)``."""
    along, unit = tl.arange(0, WIDTH), tl.arange(0, HIDDEN)
    inside = (along < width)[:, None] & (unit < hidden)[None, :]
    at = matrix + unit[None, :] * inner + AT * width + along[:, None]
    weight = tl.load(at, mask=inside, other=0 if FORM == "int8" else 0.0)
    given = rounded(read, quant, zero) if FORM == "int8" else read
    return multiplied(given, weight, sums, step, FORM, WIDEN)


@triton.jit
def _unit(  # noqa: C901
    query,
    keys,
    lengths,
    request_index,
    target,
    of_query,
    of_history,
    first,
    first_scale,
    first_correction,
    first_bias,
    slope,
    second,
    second_scale,
    second_correction,
    second_bias,
    second_slope,
    second_quant,
    last,
    last_bias,
    most,
    width,
    inner,
    hidden,
    second_width,
    query_stride,
    keys_stride,
    lengths_stride,
    target_stride,
    of_query_stride,
    of_history_stride,
    quant,
    zero,
    second_zero,
    KEYS_AT: tl.constexpr,
    GAPS_AT: tl.constexpr,
    PRODUCTS_AT: tl.constexpr,
    FORM: tl.constexpr,
    KIND: tl.constexpr,
    SECOND_KIND: tl.constexpr,
    WIDEN: tl.constexpr,
    LENGTH: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    SECOND: tl.constexpr,
):
    row, owner = tl.program_id(0).to(tl.int64), _owner(request_index)
    along, unit, steps = tl.arange(0, WIDTH), tl.arange(0, HIDDEN), tl.arange(0, LENGTH)
    is_along, is_unit = along < width, unit < hidden
    is_step = _is_step(lengths, lengths_stride, owner, most, LENGTH)
    asked = tl.load(query + row * query_stride + along, mask=is_along, other=0.0)[None, :]
    held = _steps(keys, keys_stride, owner, is_step, width, LENGTH, WIDTH)
    step = tl.zeros((LENGTH,), tl.float32)
    if FORM == "fp8":
        if KEYS_AT >= 0:
            step = tl.maximum(step, tl.max(tl.abs(held), axis=1))
        if GAPS_AT >= 0:
            step = tl.maximum(step, tl.max(tl.abs(asked - held), axis=1))
        if PRODUCTS_AT >= 0:
            step = tl.maximum(step, tl.max(tl.abs(asked * held), axis=1))
        step = fp8_step(step)
    sums = tl.zeros((LENGTH, HIDDEN), tl.int32 if FORM == "int8" else tl.float32)
    if KEYS_AT >= 0:
        sums = _block(held, first, sums, step, width, inner, hidden, quant, zero, KEYS_AT, FORM, WIDEN, WIDTH, HIDDEN)
    if GAPS_AT >= 0:
        sums = _block(
            asked - held, first, sums, step, width, inner, hidden, quant, zero, GAPS_AT, FORM, WIDEN, WIDTH, HIDDEN
        )
    if PRODUCTS_AT >= 0:
        sums = _block(
            asked * held, first, sums, step, width, inner, hidden, quant, zero, PRODUCTS_AT, FORM, WIDEN, WIDTH, HIDDEN
        )
    value = finished(sums, step, first_scale, first_correction, first_bias, unit, is_unit, FORM)
    if of_query is not None:
        value += tl.load(of_query + row * of_query_stride + unit, mask=is_unit, other=0.0)[None, :]
    if of_history is not None:
        at = of_history + owner * of_history_stride + steps[:, None] * hidden + unit[None, :]
        value += tl.load(at, mask=is_step[:, None] & is_unit[None, :], other=0.0)
    value = activated(value, slope, unit, is_unit, KIND)
    if SECOND == 0:
        gates = tl.sum(value * tl.load(last + unit, mask=is_unit, other=0.0)[None, :], axis=1)
    else:
        column = tl.arange(0, SECOND)
        is_column = column < second_width
        at = second + column[None, :] * hidden + unit[:, None]
        weight = tl.load(at, mask=is_unit[:, None] & is_column[None, :], other=0 if FORM == "int8" else 0.0)
        value = tl.where(is_unit[None, :], value, 0.0)
        if FORM == "fp8":
            step = fp8_step(tl.max(tl.abs(value), axis=1))
        if FORM == "int8":
            value = rounded(value, tl.load(second_quant + unit, mask=is_unit, other=0.0)[None, :], second_zero)
        sums = tl.zeros((LENGTH, SECOND), tl.int32 if FORM == "int8" else tl.float32)
        sums = multiplied(value, weight, sums, step, FORM, WIDEN)
        later = finished(sums, step, second_scale, second_correction, second_bias, column, is_column, FORM)
        later = activated(later, second_slope, column, is_column, SECOND_KIND)
        gates = tl.sum(later * tl.load(last + column, mask=is_column, other=0.0)[None, :], axis=1)
    if last_bias is not None:
        gates += tl.load(last_bias)
    shares = tl.where(is_step, gates, 0.0)
    tl.store(target + row * target_stride + along, tl.sum(held * shares[:, None], axis=0), mask=is_along)
