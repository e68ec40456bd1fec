"""The last layer, its sigmoid, and the best candidates of every request, in one kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import power

__all__ = ["MOST_CANDIDATES", "top_scores"]

MOST_CANDIDATES = 4096
"""Of one request: a program holds their scores in registers."""


def top_scores(
    source: torch.Tensor,
    weight: torch.Tensor,
    bias: float,
    offsets: torch.Tensor,
    most: int,
    scores: torch.Tensor,
    best: torch.Tensor,
) -> None:
    """Write the best ``scores`` of every request, best first, and which of its candidates have them.

    Args:
        source: float32 ``(rows, K)``: what the last layer reads.
        weight: float32 ``(K,)``; a score is ``sigmoid(source @ weight + bias)``.
        offsets: int32 ``(requests + 1,)``: a request's rows are ``offsets[i]`` to ``offsets[i + 1]``.
        most: candidates of the largest request.
        scores: float32 ``(requests, k)``; NaN behind a request's last candidate.
        best: int32 ``(requests, k)``: candidates by their place in the request, of equal scores the first; -1 behind
            the last.

    Raises:
        ValueError: a request has more than 4,096 candidates.
    """
    if most > MOST_CANDIDATES:
        raise ValueError(f"a request of {most} candidates: the kernel takes {MOST_CANDIDATES}")
    requests, count = scores.shape
    if requests == 0 or count == 0:
        return
    _top[(requests,)](
        source,
        weight,
        bias,
        offsets,
        scores,
        best,
        source.shape[1],
        source.stride(0),
        count,
        BLOCK=power(most, 16),
        DEPTH=min(power(source.shape[1], 16), 32),
        num_warps=8,
    )


@triton.jit
def _top(
    source,
    weight,
    bias,
    offsets,
    scores,
    best,
    inner,
    source_stride,
    count,
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
):
    request = tl.program_id(0)
    first = tl.load(offsets + request)
    total = tl.load(offsets + request + 1) - first
    place = tl.arange(0, BLOCK)
    here = place < total
    logits = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, inner, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        at = source + (first + place).to(tl.int64)[:, None] * source_stride + depth[None, :]
        values = tl.load(at, mask=here[:, None] & (depth < inner)[None, :], other=0.0)
        logits += tl.sum(values * tl.load(weight + depth, mask=depth < inner, other=0.0)[None, :], axis=1)
    logits += bias
    # One number orders candidates: the logit's bits, turned so that they order as the logit does, then the place.
    bits = logits.to(tl.int32, bitcast=True)
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)
    keys = tl.where(here, (ordered << 32) | (BLOCK - 1 - place).to(tl.int64), -0x7FFFFFFFFFFFFFFF)
    for rank in range(count):
        largest = tl.max(keys, axis=0)
        is_there = rank < total
        chosen = (BLOCK - 1) - (largest & 0xFFFFFFFF).to(tl.int32)
        logit = tl.sum(tl.where(place == chosen, logits, 0.0), axis=0)
        score = 1.0 / (1.0 + tl.exp(-logit))
        tl.store(scores + request * count + rank, tl.where(is_there, score, float("nan")))
        tl.store(best + request * count + rank, tl.where(is_there, chosen, -1))
        keys = tl.where(place == chosen, -0x7FFFFFFFFFFFFFFF, keys)
