"""Linear layers: a product in FP32, BF16, FP8 or INT8, and all that follows it, in one kernel.

The order of what follows is that of :mod:`rankine.compilation.fused.fuse_linear`: correction and scale, bias, addend,
activation, factor, added, rounding. With a ``factor`` and an ``added`` it is a cross layer (DCN-v2, arXiv 2008.13535);
with a ``shared`` that rows find by ``request_index`` it is the candidate's part of a layer that was split into what a
request and what a candidate gives, so that the request's part is never spread over the rows in memory (the broadcast in
the epilogue of FBGEMM's IKBO).

What is multiplied in FP8 is scaled row by row to what FP8 holds, when it is read: nothing has to be calibrated.

Integer products need one type on both sides: codes u8 become s8 by flipping their highest bit, and what that changes in
the sums, 128 times a column's weights, is in the correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import interpreted, linear_blocks

__all__ = [
    "Form",
    "Weights",
    "activated",
    "finished",
    "fp8_step",
    "linear",
    "multiplied",
    "narrowed",
    "product",
    "rounded",
    "weights",
]

Form = Literal["fp32", "bf16", "fp8", "int8"]
_SHIFT = 128
_FP8_LARGEST = 448.0
"""Of E4M3."""
_BYTES = {"fp32": 4, "bf16": 2, "fp8": 1, "int8": 1}
_RELU, _PRELU = tl.constexpr(1), tl.constexpr(2)


@dataclass(frozen=True)
class Weights:
    """A layer's weights as the kernel reads them.

    Attributes:
        form: of the product's two sides.
        matrix: ``(N, K)``: integer tensor cores read both sides along ``K``.
        scale: ``(N,)`` float32 of a column's sums; None for ``fp32`` and ``bf16``.
        correction: ``(N,)`` int32, of ``int8``.
    """

    form: Form
    matrix: torch.Tensor
    scale: torch.Tensor | None = None
    correction: torch.Tensor | None = None

    @property
    def inner(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def width(self) -> int:
        return int(self.matrix.shape[0])


def weights(
    matrix: np.ndarray,
    form: Form,
    device: str | torch.device = "cpu",
    *,
    scale: np.ndarray | None = None,
    correction: np.ndarray | None = None,
) -> Weights:
    """The weights ``(K, N)`` of a layer: float32, or for ``int8`` codes s8.

    Args:
        scale: ``(N,)`` float32, for ``int8``: what a unit of a column's sums is worth.
        correction: ``(N,)`` int32, for ``int8``: what is added to sums of u8 times s8, for the zero point of the codes.
    """
    turned = np.ascontiguousarray(matrix.T)
    if form == "int8":
        sums = turned.astype(np.int64).sum(axis=1)
        zero = np.zeros(len(turned), np.int32) if correction is None else correction
        moved = (zero.astype(np.int64) + _SHIFT * sums).astype(np.int32)
        ones = np.ones(len(turned), np.float32) if scale is None else np.asarray(scale, np.float32)
        return Weights(form, _on(turned, device), _on(ones, device), _on(moved, device))
    if form == "fp8":
        steps = np.maximum(np.abs(turned).max(axis=1), np.finfo(np.float32).tiny) / _FP8_LARGEST
        codes = torch.from_numpy((turned / steps[:, None]).astype(np.float32)).to(torch.float8_e4m3fn)
        return Weights(form, codes.to(device), _on(steps.astype(np.float32), device))
    numbers = torch.from_numpy(turned.astype(np.float32))
    return Weights(form, (numbers.to(torch.bfloat16) if form == "bf16" else numbers).to(device))


def linear(
    source: torch.Tensor,
    layer: Weights,
    *,
    target: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    addend: torch.Tensor | None = None,
    shared: torch.Tensor | None = None,
    request_index: torch.Tensor | None = None,
    kind: int = 0,
    slope: torch.Tensor | None = None,
    factor: torch.Tensor | None = None,
    added: torch.Tensor | None = None,
    quant: torch.Tensor | None = None,
    zero: float = 0.0,
) -> None:
    """Write ``activation(source @ W + bias + addend + shared) * factor + added`` to ``target``, rounded to ``codes``.

    Args:
        source: ``(rows, K)``; uint8 codes for ``int8``, else float32. Columns lie side by side, here and
            in all that has rows.
        target: float32 ``(rows, N)``.
        codes: uint8 ``(rows, N)``: ``round(value * quant) + zero``, half to even, saturated.
        addend: float32 ``(rows, N)``.
        shared: float32 ``(requests, N)``; a row is given that of its request, by int32 ``request_index (rows,)``, which
            is in range: the caller has checked it.
        kind: 0 for no activation, 1 for ReLU, 2 for one with a ``slope (N,)`` for negative numbers.
        factor, added: float32 ``(rows, N)``.
    """
    rows = source.shape[0]
    if rows == 0:
        return
    blocks = linear_blocks(rows, layer.width, layer.inner, _BYTES[layer.form])
    grid = (triton.cdiv(rows, blocks.rows) * triton.cdiv(layer.width, blocks.columns),)
    _linear[grid](
        source,
        layer.matrix,
        layer.scale,
        layer.correction,
        bias,
        slope,
        quant,
        target,
        codes,
        addend,
        shared,
        request_index,
        factor,
        added,
        rows,
        layer.inner,
        layer.width,
        source.stride(0),
        *(0 if one is None else one.stride(0) for one in (target, codes, addend, shared, factor, added)),
        zero,
        FORM=layer.form,
        KIND=kind,
        WIDEN=interpreted(),
        BLOCK_M=blocks.rows,
        BLOCK_N=blocks.columns,
        BLOCK_K=blocks.depth,
        num_warps=blocks.warps,
        num_stages=3,
    )


def _on(array: np.ndarray, device: str | torch.device) -> torch.Tensor:
    return torch.tensor(array, device=device)


@triton.jit
def rounded(value, inverse_step, zero):
    """Codes u8: half to even (what is added and taken away again leaves no bits behind the point), then saturated."""
    scaled = tl.minimum(tl.maximum(value * inverse_step, -65536.0), 65536.0)
    whole = (scaled + 12582912.0) - 12582912.0 + zero
    return tl.minimum(tl.maximum(whole, 0.0), 255.0).to(tl.int32).to(tl.uint8)


@triton.jit
def _kept(value, BITS: tl.constexpr):
    """Float32 without its last bits, to the nearest, half to even."""
    whole = value.to(tl.int32, bitcast=True)
    whole += (1 << (BITS - 1)) - 1 + ((whole >> BITS) & 1)
    return (whole & -(1 << BITS)).to(tl.float32, bitcast=True)


@triton.jit
def narrowed(value, like, WIDEN: tl.constexpr):
    """Float32 in the type of ``like``; ``WIDEN``: rounded to it, and still float32.

    The interpreter's own cast cuts BF16 off instead of rounding it, and loses the carry into an exponent of FP8.
    """
    if not WIDEN:
        return value.to(like.dtype)
    elif like.dtype == tl.bfloat16:
        return _kept(value, 16)
    elif like.dtype == tl.float8e4nv:
        return tl.where(tl.abs(value) < 0.015625, (value + 24576.0) - 24576.0, _kept(value, 20))
    else:
        return value


@triton.jit
def product(left, right, sums, WIDEN: tl.constexpr):
    """``sums + left @ right`` of one type, summed in float32.

    ``WIDEN``: the interpreter multiplies the bits of BF16 and FP8, so there it is given the numbers in float32, of
    which every product of two is the same.
    """
    if WIDEN:
        return tl.dot(left.to(tl.float32), right.to(tl.float32), sums, input_precision="ieee")
    else:
        return tl.dot(left, right, sums, input_precision="ieee")


@triton.jit
def fp8_step(largest):
    """What a unit of FP8 is worth in rows of these largest magnitudes."""
    return tl.maximum(largest, 1e-30) / 448.0


@triton.jit
def multiplied(left, right, sums, step, FORM: tl.constexpr, WIDEN: tl.constexpr):
    """``sums + left @ right`` of a block of what a layer reads, as it was read, and one of its weights.

    ``step``: of each row, for FP8.
    """
    if FORM == "int8":
        return tl.dot((left ^ 0x80).to(tl.int8, bitcast=True), right, sums, out_dtype=tl.int32)
    elif FORM == "fp8":
        bounded = tl.minimum(tl.maximum(left / step[:, None], -448.0), 448.0)
        return product(narrowed(bounded, right, WIDEN), right, sums, WIDEN)
    else:
        return product(narrowed(left, right, WIDEN), right, sums, WIDEN)


@triton.jit
def finished(sums, step, scale, correction, bias, column, is_column, FORM: tl.constexpr):
    """What sums of products are worth, with a layer's bias."""
    if correction is not None:
        sums += tl.load(correction + column, mask=is_column, other=0)[None, :]
    value = sums.to(tl.float32)
    if FORM == "fp8":
        value *= step[:, None]
    if scale is not None:
        value *= tl.load(scale + column, mask=is_column, other=0.0)[None, :]
    if bias is not None:
        value += tl.load(bias + column, mask=is_column, other=0.0)[None, :]
    return value


@triton.jit
def activated(value, slope, column, is_column, KIND: tl.constexpr):
    """ReLU, or a slope of each column for negative numbers."""
    if KIND == _RELU:
        return tl.maximum(value, 0.0)
    elif KIND == _PRELU:
        negative = value * tl.load(slope + column, mask=is_column, other=0.0)[None, :]
        return tl.where(value < 0, negative, value)
    else:
        return value


@triton.jit
def _linear(
    source,
    matrix,
    scale,
    correction,
    bias,
    slope,
    quant,
    target,
    codes,
    addend,
    shared,
    request_index,
    factor,
    added,
    rows,
    inner,
    width,
    source_stride,
    target_stride,
    codes_stride,
    addend_stride,
    shared_stride,
    factor_stride,
    added_stride,
    zero,
    FORM: tl.constexpr,
    KIND: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    panels = tl.cdiv(width, BLOCK_N)
    row = (tl.program_id(0) // panels) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = (tl.program_id(0) % panels) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_row, is_column = row < rows, column < width
    row = row.to(tl.int64)
    step = tl.zeros((BLOCK_M,), tl.float32)
    if FORM == "fp8":
        for start in range(0, inner, BLOCK_K):
            depth = start + tl.arange(0, BLOCK_K)
            left_at = source + row[:, None] * source_stride + depth[None, :]
            left = tl.load(left_at, mask=is_row[:, None] & (depth < inner)[None, :], other=0)
            step = tl.maximum(step, tl.max(tl.abs(left), axis=1))
        step = fp8_step(step)
    sums = tl.zeros((BLOCK_M, BLOCK_N), tl.int32 if FORM == "int8" else tl.float32)
    for start in range(0, inner, BLOCK_K):
        depth = start + tl.arange(0, BLOCK_K)
        is_depth = depth < inner
        left_at = source + row[:, None] * source_stride + depth[None, :]
        left = tl.load(left_at, mask=is_row[:, None] & is_depth[None, :], other=0)
        right_at = matrix + column[None, :] * inner + depth[:, None]
        right = tl.load(right_at, mask=is_column[None, :] & is_depth[:, None], other=0 if FORM == "int8" else 0.0)
        sums = multiplied(left, right, sums, step, FORM, WIDEN)
    value = finished(sums, step, scale, correction, bias, column, is_column, FORM)
    inside = is_row[:, None] & is_column[None, :]
    if addend is not None:
        value += tl.load(addend + row[:, None] * addend_stride + column[None, :], mask=inside, other=0.0)
    if shared is not None:
        request = tl.load(request_index + row, mask=is_row, other=0).to(tl.int64)
        value += tl.load(shared + request[:, None] * shared_stride + column[None, :], mask=inside, other=0.0)
    value = activated(value, slope, column, is_column, KIND)
    if factor is not None:
        value *= tl.load(factor + row[:, None] * factor_stride + column[None, :], mask=inside, other=0.0)
    if added is not None:
        value += tl.load(added + row[:, None] * added_stride + column[None, :], mask=inside, other=0.0)
    if target is not None:
        tl.store(target + row[:, None] * target_stride + column[None, :], value, mask=inside)
    if codes is not None:
        steps = tl.load(quant + column, mask=is_column, other=0.0)[None, :]
        tl.store(codes + row[:, None] * codes_stride + column[None, :], rounded(value, steps, zero), mask=inside)
