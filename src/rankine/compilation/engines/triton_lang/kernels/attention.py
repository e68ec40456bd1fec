"""Attention of a candidate over its request's short history, all of it in one program a row.

A history is a request's: rows find it by ``request_index``, and it is never spread over them in memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import power

__all__ = ["din_attention", "softmax_attention"]


def softmax_attention(
    query: torch.Tensor,
    history: torch.Tensor,
    lengths: torch.Tensor,
    request_index: torch.Tensor,
    target: torch.Tensor,
    *,
    scale: float,
) -> None:
    """Write ``softmax(scale * history @ query) @ history`` of every row to ``target``; zeros for an empty history.

    Args:
        query, target: float32 ``(rows, D)``.
        history: float32 ``(requests, L, D)``, contiguous; what lies behind a history's length is not read.
        lengths: int32 ``(requests,)``.
        request_index: int32 ``(rows,)``.
    """
    rows, width = query.shape
    if rows == 0:
        return
    most = history.shape[1]
    _softmax[(rows,)](
        query,
        history,
        lengths,
        request_index,
        target,
        most,
        width,
        query.stride(0),
        target.stride(0),
        scale,
        LENGTH=power(most, 16),
        WIDTH=power(width, 16),
    )


def din_attention(
    query: torch.Tensor,
    history: torch.Tensor,
    lengths: torch.Tensor,
    request_index: torch.Tensor,
    of_query: torch.Tensor,
    of_history: torch.Tensor,
    of_product: torch.Tensor,
    last: torch.Tensor,
    last_bias: float,
    target: torch.Tensor,
) -> None:
    """Write the history's rows of every row, summed with the weights that DIN's activation unit gives them (arXiv
    1706.06978), to ``target``.

    The unit's first layer reads ``[q, k, q - k, q * k]`` and is linear before its ReLU: what it takes of ``q`` alone is
    computed once a row, what it takes of ``k`` alone once a request, and only the product's part is left for each pair.

    Args:
        query, target: float32 ``(rows, D)``.
        history: float32 ``(requests, L, D)``, contiguous.
        lengths: int32 ``(requests,)``.
        request_index: int32 ``(rows,)``.
        of_query: float32 ``(rows, H)``, contiguous: ``q @ (W_q + W_diff) + b``.
        of_history: float32 ``(requests, L, H)``, contiguous: ``k @ (W_k - W_diff)``.
        of_product: float32 ``(D, H)``, contiguous.
        last: float32 ``(H,)``, of the layer that gives a weight, with ``last_bias``.
    """
    rows, width = query.shape
    if rows == 0:
        return
    most, hidden = history.shape[1], of_query.shape[1]
    _din[(rows,)](
        query,
        history,
        lengths,
        request_index,
        of_query,
        of_history,
        of_product,
        last,
        last_bias,
        target,
        most,
        width,
        hidden,
        query.stride(0),
        target.stride(0),
        LENGTH=power(most, 16),
        WIDTH=power(width, 16),
        HIDDEN=power(hidden, 16),
    )


@triton.jit
def _softmax(
    query,
    history,
    lengths,
    request_index,
    target,
    most,
    width,
    query_stride,
    target_stride,
    scale,
    LENGTH: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    request = tl.load(request_index + row).to(tl.int64)
    length = tl.load(lengths + request)
    step, along = tl.arange(0, LENGTH), tl.arange(0, WIDTH)
    is_along, is_step = along < width, step < length
    held = tl.load(query + row * query_stride + along, mask=is_along, other=0.0)
    keys_at = history + request * most * width + step[:, None] * width + along[None, :]
    keys = tl.load(keys_at, mask=is_step[:, None] & is_along[None, :], other=0.0)
    scores = tl.where(is_step, tl.sum(keys * held[None, :], axis=1) * scale, -1e30)
    powers = tl.where(is_step, tl.exp(scores - tl.max(scores, axis=0)), 0.0)
    total = tl.sum(powers, axis=0)
    shares = powers / tl.where(total > 0, total, 1.0)
    result = tl.sum(keys * shares[:, None], axis=0)
    tl.store(target + row * target_stride + along, result, mask=is_along)


@triton.jit
def _din(
    query,
    history,
    lengths,
    request_index,
    of_query,
    of_history,
    of_product,
    last,
    last_bias,
    target,
    most,
    width,
    hidden,
    query_stride,
    target_stride,
    LENGTH: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    request = tl.load(request_index + row).to(tl.int64)
    length = tl.load(lengths + request)
    step, along, unit = tl.arange(0, LENGTH), tl.arange(0, WIDTH), tl.arange(0, HIDDEN)
    is_step, is_along, is_unit = step < length, along < width, unit < hidden
    held = tl.load(query + row * query_stride + along, mask=is_along, other=0.0)
    keys_at = history + request * most * width + step[:, None] * width + along[None, :]
    keys = tl.load(keys_at, mask=is_step[:, None] & is_along[None, :], other=0.0)
    weight_at = of_product + along[:, None] * hidden + unit[None, :]
    weight = tl.load(weight_at, mask=is_along[:, None] & is_unit[None, :], other=0.0)
    sums = tl.dot(keys * held[None, :], weight, input_precision="ieee")
    shared_at = of_history + request * most * hidden + step[:, None] * hidden + unit[None, :]
    sums += tl.load(shared_at, mask=is_step[:, None] & is_unit[None, :], other=0.0)
    sums += tl.load(of_query + row * hidden + unit, mask=is_unit, other=0.0)[None, :]
    gates = tl.sum(tl.maximum(sums, 0.0) * tl.load(last + unit, mask=is_unit, other=0.0)[None, :], axis=1)
    shares = tl.where(is_step, gates + last_bias, 0.0)
    result = tl.sum(keys * shares[:, None], axis=0)
    tl.store(target + row * target_stride + along, result, mask=is_along)
