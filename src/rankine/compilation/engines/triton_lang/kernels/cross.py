"""The low-rank cross layer in one kernel: what lies between its two products never leaves the chip.

``x0 * (U (V x) + b) + x`` with ``V (D, r)`` and ``U (r, D)`` (DCN-v2, arXiv 2008.13535, section 3.3).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import interpreted, linear_blocks, power
from rankine.compilation.engines.triton_lang.kernels.linear import narrowed, product

__all__ = ["low_rank_cross"]

_WIDEST_RANK = 256
"""Beyond, the block of what lies between no longer fits the registers."""


def low_rank_cross(
    first: torch.Tensor,
    source: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    bias: torch.Tensor,
    target: torch.Tensor,
) -> None:
    """Write ``first * (source @ down @ up + bias) + source`` to ``target``.

    Args:
        first, source, target: float32 ``(rows, D)``; ``target`` is neither of the others.
        down, up: ``(D, r)`` and ``(r, D)``, contiguous, both float32 or both bfloat16; products are in that form, sums
            in float32. ``r`` is at most 256.
        bias: float32 ``(D,)``.

    Raises:
        ValueError: the rank is larger.
    """
    rows, width = source.shape
    rank = down.shape[1]
    if rank > _WIDEST_RANK:
        raise ValueError(f"a rank of {rank} does not fit one kernel, which takes {_WIDEST_RANK}: run two layers")
    if rows == 0:
        return
    blocks = linear_blocks(rows, width, width, down.element_size())
    block_rows = min(blocks.rows, 64) if blocks.columns <= 128 else blocks.rows
    _cross[(triton.cdiv(rows, block_rows),)](
        first,
        source,
        down,
        up,
        bias,
        target,
        rows,
        width,
        rank,
        first.stride(0),
        source.stride(0),
        target.stride(0),
        BLOCK_M=block_rows,
        BLOCK_N=blocks.columns,
        BLOCK_K=blocks.depth,
        RANK=power(rank, 16),
        WIDEN=interpreted(),
    )


@triton.jit
def _cross(
    first,
    source,
    down,
    up,
    bias,
    target,
    rows,
    width,
    rank,
    first_stride,
    source_stride,
    target_stride,
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
    held = tl.zeros((BLOCK_M, RANK), tl.float32)
    for start in range(0, width, BLOCK_K):
        depth = start + tl.arange(0, BLOCK_K)
        left_at = source + row[:, None] * source_stride + depth[None, :]
        left = tl.load(left_at, mask=is_row[:, None] & (depth < width)[None, :], other=0.0)
        right_at = down + depth[:, None] * rank + between[None, :]
        right = tl.load(right_at, mask=(depth < width)[:, None] & is_between[None, :], other=0.0)
        held = product(narrowed(left, right, WIDEN), right, held, WIDEN)
    for begin in range(0, width, BLOCK_N):
        column = begin + tl.arange(0, BLOCK_N)
        is_column = column < width
        weight_at = up + between[:, None] * width + column[None, :]
        weight = tl.load(weight_at, mask=is_between[:, None] & is_column[None, :], other=0.0)
        value = product(narrowed(held, weight, WIDEN), weight, tl.zeros((BLOCK_M, BLOCK_N), tl.float32), WIDEN)
        value += tl.load(bias + column, mask=is_column, other=0.0)[None, :]
        inside = is_row[:, None] & is_column[None, :]
        value *= tl.load(first + row[:, None] * first_stride + column[None, :], mask=inside, other=0.0)
        value += tl.load(source + row[:, None] * source_stride + column[None, :], mask=inside, other=0.0)
        tl.store(target + row[:, None] * target_stride + column[None, :], value, mask=inside)
