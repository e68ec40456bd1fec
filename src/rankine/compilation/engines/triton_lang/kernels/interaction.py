"""The dot interaction of DLRM (arXiv 1906.00091): the products of every pair of a row's vectors."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import interpreted, power
from rankine.compilation.engines.triton_lang.kernels.linear import product

__all__ = ["dot_interaction"]


def dot_interaction(vectors: torch.Tensor, target: torch.Tensor) -> None:
    """Write the products of pairs ``(i, j < i)`` to column ``i (i - 1) / 2 + j`` of ``target``.

    Args:
        vectors: ``(rows, F, D)`` float32 or bfloat16, contiguous; products are in that form, sums in float32.
        target: float32 ``(rows, F (F - 1) / 2)`` or more columns.
    """
    rows, count, width = vectors.shape
    if rows == 0:
        return
    _interaction[(rows,)](
        vectors,
        target,
        count,
        width,
        target.stride(0),
        COUNT=power(count, 16),
        WIDTH=power(width, 16),
        WIDEN=interpreted(),
    )


@triton.jit
def _interaction(
    vectors, target, count, width, target_stride, COUNT: tl.constexpr, WIDTH: tl.constexpr, WIDEN: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    which, along = tl.arange(0, COUNT), tl.arange(0, WIDTH)
    start = vectors + row * count * width
    inside = (which < count)[:, None] & (along < width)[None, :]
    held = tl.load(start + which[:, None] * width + along[None, :], mask=inside, other=0.0)
    products = product(held, tl.trans(held), tl.zeros((COUNT, COUNT), tl.float32), WIDEN)
    place = (which * (which - 1) // 2)[:, None] + which[None, :]
    below = (which[None, :] < which[:, None]) & (which < count)[:, None]
    tl.store(target + row * target_stride + place, products, mask=below)
