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
from rankine.compilation.engines.triton_lang.kernels.lookup import Bag
from rankine.compilation.fused.program import Binary, Reduction, Unary
from rankine.models.tables import Table, pack_int4

ROWS = 512
COMPILED: list[Any] = []


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


def main() -> None:
    capability = int(sys.argv[1])
    compile_only(capability)
    one = torch.zeros(ROWS, 64)
    index, lengths = torch.zeros(ROWS, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    codes = torch.zeros(ROWS, 64, dtype=torch.uint8)
    matrix = np.ones((64, 64), np.float32)
    column = torch.zeros(64)
    for form in ("fp32", "bf16", "fp8", "int8") if capability >= 89 else ("fp32", "bf16", "int8"):
        layer = kernels.weights(matrix.astype(np.int8) if form == "int8" else matrix, form)
        source = codes if form == "int8" else one
        kernels.linear(source, layer, target=one, bias=column, addend=one, addend_index=index, kind=1)
        kernels.linear(source, layer, codes=codes, quant=column, slope=column, factor=one, added=one, kind=2)
    for kind in (torch.float32, torch.bfloat16):
        low = torch.zeros(64, 16, dtype=kind)
        kernels.low_rank_cross(one, one, low, low.T.contiguous(), column, one)
        kernels.dot_interaction(torch.zeros(ROWS, 5, 20, dtype=kind), one)
    history = torch.zeros(1, 9, 64)
    kernels.softmax_attention(one, history, lengths, index, one, scale=0.1)
    kernels.din_attention(one, history, lengths, index, one, history, torch.zeros(64, 64), column, 0.1, one)
    kernels.top_scores(one, column, 0.1, index, ROWS, one[:1, :5], index[None, :5])
    floats, bytes_, scale = np.ones((9, 8), np.float32), np.ones((9, 8), np.uint8), np.ones(9, np.float32)
    forms = {
        "a": Table(floats),
        "b": Table(bytes_, scale, scale),
        "c": Table(pack_int4(bytes_), scale, scale, columns=8),
    }
    ids = np.zeros(ROWS, np.int32)
    bags = [Bag(name, ids, np.arange(ROWS + 1, dtype=np.int32), ids, 0, weights=ids + 0.5) for name in forms]
    kernels.pooled_lookup(kernels.DeviceTables(forms), bags, one)
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
    assert all(one.asm["cubin"] for one in COMPILED)
    sys.stdout.write(f"{len(COMPILED)}\n")


if __name__ == "__main__":
    main()
