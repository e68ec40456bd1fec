"""Compiles every kernel for GPUs that are not here, down to their machine code, and prints how many were.

$ TRITON_INTERPRET=0 python tests/engine/triton_compiles.py 90
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from rankine.compilation.engines.triton_lang import kernels
from rankine.compilation.engines.triton_lang.kernels import along, elementwise
from rankine.compilation.engines.triton_lang.kernels.linear import Form, Weights
from rankine.compilation.engines.triton_lang.kernels.lookup import FORMS, LookupField, fields_of
from rankine.compilation.fused.program import Binary, Reduction, Unary

ROWS = 512
COMPILED: list[Any] = []
SHARED_BYTES = {80: 163 << 10, 90: 227 << 10}
"""Shared memory that a program can have, by compute capability (CUDA C++ Programming Guide)."""


class Absent:
    """The part of a driver that the compiler asks."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def compile_only(capability: int) -> None:
    """Let launches compile, and launch nothing."""
    triton.runtime.driver.set_active(Absent(capability))

    def launched(self: JITFunction, grid: object) -> Any:
        return lambda *given, **named: COMPILED.append(self.warmup(*given, grid=grid, **named))

    JITFunction.__getitem__ = launched


def _layer(form: Form, inner: int, width: int) -> Weights:
    return kernels.weights(np.ones((inner, width), np.int8 if form == "int8" else np.float32), form)


def main() -> None:
    capability = int(sys.argv[1])
    compile_only(capability)
    one = torch.zeros(ROWS, 64)
    index, lengths = torch.zeros(ROWS, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    codes = torch.zeros(ROWS, 64, dtype=torch.uint8)
    column = torch.zeros(64)
    forms: tuple[Form, ...] = ("fp32", "bf16", "fp8", "int8") if capability >= 89 else ("fp32", "bf16", "int8")
    history = kernels.History(torch.zeros(1, 9 * 64), 9, lengths, index)
    own = kernels.History(torch.zeros(ROWS, 9 * 64), 9, column[:1].expand(ROWS))
    for form in forms:
        layer, down, up, wide = (_layer(form, *shape) for shape in ((64, 64), (64, 16), (16, 64), (192, 80)))
        source = codes if form == "int8" else one
        kernels.linear(source, layer, target=one, bias=column, addend=one, shared=one[:1], request_index=index, kind=1)
        kernels.linear(source, layer, codes=codes, quant=column, slope=column, factor=one, added=one, kind=2)
        kernels.low_rank_cross(source, down, up, one, one, one, bias=column, between_quant=column)
        unit = kernels.Unit(layer, (-1, -1, 0), column, column, second_quant=column)
        kernels.unit_attention(one, history, unit, one, of_query=one, of_history=history.keys)
        two = (_layer(form, 80, 40), column, 2, column, column, 3.0)
        unit = kernels.Unit(wide, (0, 1, 2), column, None, column, 2, column, 1.0, 3.0, *two)
        kernels.unit_attention(one, own, unit, one)
    kernels.low_rank_cross(
        codes, _layer("int8", 64, 16), _layer("int8", 16, 64), one, one, codes=codes, quant=column, between_quant=column
    )
    for form in ("fp32", "bf16"):
        kernels.dot_interaction(one, kernels.pairs_below(8), one, width=8, form=form)
    for fill in (None, -1e9):
        kernels.softmax_attention(one, history, one, scale=0.1, fill=fill)
        kernels.softmax_attention(one, own, one, scale=0.1, fill=fill)
    for added in (False, True):
        kernels.spread(one[:1], index, one, added=added)
    kernels.top_scores(one, column, 0.1, index, ROWS, one[:1, :5], index[None, :5])
    packet, fields = torch.zeros(99, dtype=torch.int64), fields_of([LookupField(0, 0, 64, 16)], one.device)
    for rows_of in (*((form,) for form in FORMS), tuple(FORMS)):
        kernels.lookup(codes, packet, fields, one, ROWS, widest=16, forms=rows_of)
    strided = one, 64, (1,)
    for unary in Unary:
        elementwise.elements(unary, ROWS, (64,), [strided, strided], (0.1, 0.2))
    for binary in Binary:
        elementwise.elements(elementwise.BINARY + binary, ROWS, (64,), [strided] * 3)
    elementwise.elements(elementwise.WHERE, ROWS, (64,), [strided] * 4)
    elementwise.elements(elementwise.QUANTIZE, ROWS, (64,), [(codes, 64, (1,)), strided, strided], (3.0,))
    elementwise.elements(elementwise.DEQUANTIZE, ROWS, (64,), [strided, (codes, 64, (1,))], (3.0, 0.1))
    elementwise.elements(elementwise.COPY, ROWS, (64,), [(codes, 64, (1,)), (codes, 64, (1,))])
    elementwise.taken(one, 64, one, 64, lengths, ROWS, (1, 1, 8, 8))
    for reduction in Reduction:
        along.reduce(reduction, ROWS, (2, 4, 8), one, (64, 8, 1), one, (64, 32, 8, 1))
    for log in (0, 1):
        along.softmax(log, ROWS, (2, 4, 8), one, (64, 32, 8, 1), one, (64, 32, 8, 1))
    along.matmul(ROWS, (1, 8, 8, 8), one, (64, 64, 8, 1), one, (64, 64, 8, 1), one, (64, 64, 8, 1))
    widest = torch.zeros(ROWS * 32, 448)
    kernels.low_rank_cross(widest, _layer("fp32", 448, 256), _layer("fp32", 256, 448), widest, widest, widest)
    assert all(one.asm["cubin"] for one in COMPILED)
    assert max(one.metadata.shared for one in COMPILED) <= SHARED_BYTES[capability]
    sys.stdout.write(f"{len(COMPILED)}\n")


if __name__ == "__main__":
    main()
