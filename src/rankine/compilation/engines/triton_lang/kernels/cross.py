"""The low-rank cross layer in one kernel: what lies between its two products never leaves the chip.

``x0 * (U (V x) + b) + x`` with ``V (D, r)`` and ``U (r, D)`` (DCN-v2, arXiv 2008.13535, section 3.3).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import interpreted, linear_blocks, power
from rankine.compilation.engines.triton_lang.kernels.linear import (
    Weights,
    finished,
    fp8_step,
    multiplied,
    rounded,
)

__all__ = ["WIDEST_RANK", "low_rank_cross"]

WIDEST_RANK = 256
"""Beyond, the block of what lies between no longer fits the registers."""
_UP_BYTES = 1 << 15
"""Of the second product's block of weights, of which shared memory holds two."""
_LEAST = {"fp32": 16, "bf16": 16, "fp8": 32, "int8": 32}
"""Depth of a product that tensor cores take."""


def low_rank_cross(
    source: torch.Tensor,
    down: Weights,
    up: Weights,
    first: torch.Tensor,
    added: torch.Tensor,
    target: torch.Tensor | None = None,
    *,
    bias: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    quant: torch.Tensor | None = None,
    zero: float = 0.0,
    between_bias: torch.Tensor | None = None,
    between_quant: torch.Tensor | None = None,
    between_zero: float = 0.0,
) -> None:
    """Write ``first * (source @ down @ up + bias) + added`` to ``target``, rounded to ``codes``.

    Args:
        source: ``(rows, D)``: uint8 codes for ``int8``, else float32, and then it is ``added``.
        down, up: ``(D, r)`` and ``(r, D)`` in one form; ``r`` is at most 256.
        first, added, target: float32 ``(rows, D)``; ``target`` is neither of the others.
        bias: float32 ``(D,)``.
        codes: uint8 ``(rows, D)``, as in :func:`rankine.compilation.engines.triton_lang.kernels.linear.linear`, with
            ``quant (D,)`` and ``zero``.
        between_bias: float32 ``(r,)``.
        between_quant: float32 ``(r,)``, for ``int8``: how what lies between is rounded, with ``between_zero``.

    Raises:
        ValueError: the rank is larger.
    """
    rows, width, rank = len(source), down.inner, down.width
    if rank > WIDEST_RANK:
        raise ValueError(f"a rank of {rank} does not fit one kernel, which takes {WIDEST_RANK}: run two layers")
    if rows == 0:
        return
    bytes_each = down.matrix.element_size()
    blocks = linear_blocks(rows, width, width, bytes_each)
    block_rows, columns, between = blocks.rows, blocks.columns, power(rank, _LEAST[down.form])
    if not interpreted():
        block_rows, columns = min(block_rows, 64), max(16, min(columns, _UP_BYTES // (between * bytes_each)))
    _cross[(triton.cdiv(rows, block_rows),)](
        source,
        down.matrix,
        down.scale,
        down.correction,
        between_bias,
        between_quant,
        up.matrix,
        up.scale,
        up.correction,
        bias,
        quant,
        first,
        added,
        target,
        codes,
        rows,
        width,
        rank,
        *(0 if one is None else one.stride(0) for one in (source, first, added, target, codes)),
        between_zero,
        zero,
        FORM=down.form,
        BLOCK_M=block_rows,
        BLOCK_N=columns,
        BLOCK_K=max(blocks.depth, _LEAST[down.form]),
        RANK=between,
        WIDEN=interpreted(),
        num_warps=8 if between > 128 else 4,
        num_stages=2,
    )


@triton.jit
def _cross(
    source,
    down,
    down_scale,
    down_correction,
    between_bias,
    between_quant,
    up,
    up_scale,
    up_correction,
    bias,
    quant,
    first,
    added,
    target,
    codes,
    rows,
    width,
    rank,
    source_stride,
    first_stride,
    added_stride,
    target_stride,
    codes_stride,
    between_zero,
    zero,
    FORM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    RANK: tl.constexpr,
    WIDEN: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    is_row = row < rows
    row = row.to(tl.int64)
    between = tl.arange(0, RANK)
    is_between = between < rank
    step = tl.zeros((BLOCK_M,), tl.float32)
    if FORM == "fp8":
        for start in range(0, width, BLOCK_K):
            depth = start + tl.arange(0, BLOCK_K)
            left_at = source + row[:, None] * source_stride + depth[None, :]
            left = tl.load(left_at, mask=is_row[:, None] & (depth < width)[None, :], other=0)
            step = tl.maximum(step, tl.max(tl.abs(left), axis=1))
        step = fp8_step(step)
    sums = tl.zeros((BLOCK_M, RANK), tl.int32 if FORM == "int8" else tl.float32)
    for start in range(0, width, BLOCK_K):
        depth = start + tl.arange(0, BLOCK_K)
        is_depth = depth < width
        left_at = source + row[:, None] * source_stride + depth[None, :]
        left = tl.load(left_at, mask=is_row[:, None] & is_depth[None, :], other=0)
        right_at = down + between[None, :] * width + depth[:, None]
        right = tl.load(right_at, mask=is_depth[:, None] & is_between[None, :], other=0 if FORM == "int8" else 0.0)
        sums = multiplied(left, right, sums, step, FORM, WIDEN)
    held = finished(sums, step, down_scale, down_correction, between_bias, between, is_between, FORM)
    if FORM == "fp8":
        step = fp8_step(tl.max(tl.abs(held), axis=1))
    if FORM == "int8":
        steps = tl.load(between_quant + between, mask=is_between, other=0.0)[None, :]
        held = rounded(held, steps, between_zero)
    for begin in range(0, width, BLOCK_N):
        column = begin + tl.arange(0, BLOCK_N)
        is_column = column < width
        weight_at = up + column[None, :] * rank + between[:, None]
        is_weight = is_between[:, None] & is_column[None, :]
        weight = tl.load(weight_at, mask=is_weight, other=0 if FORM == "int8" else 0.0)
        wide = tl.zeros((BLOCK_M, BLOCK_N), tl.int32 if FORM == "int8" else tl.float32)
        wide = multiplied(held, weight, wide, step, FORM, WIDEN)
        value = finished(wide, step, up_scale, up_correction, bias, column, is_column, FORM)
        inside = is_row[:, None] & is_column[None, :]
        value *= tl.load(first + row[:, None] * first_stride + column[None, :], mask=inside, other=0.0)
        value += tl.load(added + row[:, None] * added_stride + column[None, :], mask=inside, other=0.0)
        if target is not None:
            tl.store(target + row[:, None] * target_stride + column[None, :], value, mask=inside)
        if codes is not None:
            quants = tl.load(quant + column, mask=is_column, other=0.0)[None, :]
            tl.store(codes + row[:, None] * codes_stride + column[None, :], rounded(value, quants, zero), mask=inside)
