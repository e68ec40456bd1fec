"""What the rows of a request share, spread over them: for steps that do not find it by a row's request themselves."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import elements_of

__all__ = ["spread"]


def spread(shared: torch.Tensor, request_index: torch.Tensor, target: torch.Tensor, *, added: bool = False) -> None:
    """Write to every row what its request has, or add it to what is there.

    Args:
        shared: float32 ``(requests, N)``.
        request_index: int32 ``(rows,)``, in range.
        target: float32 ``(rows, N)``.
    """
    rows, width = target.shape
    total = rows * width
    if total:
        block = elements_of(total)
        _spread[(triton.cdiv(total, block),)](
            shared,
            request_index,
            target,
            total,
            width,
            shared.stride(0),
            target.stride(0),
            ADDED=added,
            BLOCK=block,
        )


@triton.jit
def _spread(
    shared,
    request_index,
    target,
    total,
    width,
    shared_stride,
    target_stride,
    ADDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    row, column = at // width, at % width
    request = tl.load(request_index + row, mask=inside, other=0).to(tl.int64)
    value = tl.load(shared + request * shared_stride + column, mask=inside, other=0.0)
    place = target + row * target_stride + column
    if ADDED:
        value += tl.load(place, mask=inside, other=0.0)
    tl.store(place, value, mask=inside)
