"""The dot interaction of DLRM (arXiv 1906.00091): the products of every pair of a row's vectors."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import interpreted, power
from rankine.compilation.engines.triton_lang.kernels.linear import Form, narrowed, product

__all__ = ["MOST_VECTORS", "dot_interaction", "pairs_below"]

MOST_VECTORS = 64
"""Of a row: the block of their products is in registers."""
_LIKE = {"fp32": tl.float32, "bf16": tl.bfloat16, "fp8": tl.bfloat16, "int8": tl.float32}
"""What vectors are rounded to: pairs are few, and FP8 would cost more than it saves."""


def pairs_below(count: int) -> torch.Tensor:
    """The columns of DLRM: pair ``(i, j < i)`` goes to ``i (i - 1) / 2 + j``, as :func:`dot_interaction` takes them."""
    columns = torch.full((count, count), -1, dtype=torch.int32)
    row, column = torch.tril_indices(count, count, offset=-1)
    columns[row, column] = torch.arange(len(row), dtype=torch.int32)
    return columns


def dot_interaction(
    vectors: torch.Tensor, columns: torch.Tensor, target: torch.Tensor, *, width: int, form: Form = "fp32"
) -> None:
    """Write the products of pairs of vectors to ``target``.

    Args:
        vectors: float32 ``(rows, F * width)``: F vectors side by side; at most 64.
        columns: int32 ``(F, F)``, contiguous: the column of ``target`` that the product of a pair goes to, each to one
            of its own; -1 for nowhere.
        target: float32 ``(rows, ...)``.
        form: of the products; sums are in float32.

    Raises:
        ValueError: there are more vectors.
    """
    rows, count = len(vectors), len(columns)
    if count > MOST_VECTORS:
        raise ValueError(f"{count} vectors do not fit one kernel, which takes {MOST_VECTORS}")
    if rows == 0:
        return
    _interaction[(rows,)](
        vectors,
        columns,
        target,
        count,
        width,
        vectors.stride(0),
        target.stride(0),
        COUNT=power(count, 16),
        WIDTH=power(width, 16),
        LIKE=_LIKE[form],
        WIDEN=interpreted(),
    )


@triton.jit
def _interaction(
    vectors,
    columns,
    target,
    count,
    width,
    vectors_stride,
    target_stride,
    COUNT: tl.constexpr,
    WIDTH: tl.constexpr,
    LIKE: tl.constexpr,
    WIDEN: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    which, along = tl.arange(0, COUNT), tl.arange(0, WIDTH)
    is_there = which < count
    read_at = vectors + row * vectors_stride + which[:, None] * width + along[None, :]
    read = tl.load(read_at, mask=is_there[:, None] & (along < width)[None, :], other=0.0)
    held = narrowed(read, tl.zeros((1,), LIKE), WIDEN)
    products = product(held, tl.trans(held), tl.zeros((COUNT, COUNT), tl.float32), WIDEN)
    is_pair = is_there[:, None] & is_there[None, :]
    place = tl.load(columns + which[:, None] * count + which[None, :], mask=is_pair, other=-1)
    tl.store(target + row * target_stride + place, products, mask=place >= 0)
