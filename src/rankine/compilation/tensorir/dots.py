"""How integer products are added on each instruction set: the form of the weights, and one step of the sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rankine.compilation.tensorir.instruction_sets import Dot
from rankine.compilation.tensorir.library import tirx
from rankine.compilation.tensorir.nodes import Expr, Memory, cast, i32, spread

__all__ = ["DOTS", "Scheme"]


@dataclass(frozen=True)
class Scheme:
    """One way to add products of codes.

    Attributes:
        together: products of a column that one step adds.
        element: type of the packed weights.
        shifted: what is taken off each code before it is multiplied.
        read: ``(memory, index, lanes)`` to ``together`` codes of a row in each lane.
        add: ``(sums, codes, weights, lanes)`` to the sums with the step's products.
    """

    together: int
    element: str
    shifted: int
    read: Callable[[Memory, Expr, int], Expr]
    add: Callable[[Expr, Expr, Expr, int], Expr]

    def packed(self, codes: np.ndarray, columns: int, height: int) -> np.ndarray:
        """Weights s8 ``(K, N)`` as kernels read them: panels of ``columns`` columns, each of ``height`` rows, of which
        ``together`` lie side by side for each column. What is added to fill them is zero."""
        inner, width = codes.shape
        padded = np.zeros((height, -(-width // columns) * columns), np.dtype(self.element))
        padded[:inner, :width] = codes
        panels = padded.reshape(height // self.together, self.together, -1, columns).transpose(2, 0, 3, 1)
        return np.ascontiguousarray(panels).reshape(-1)


def _four(memory: Memory, index: Expr, lanes: int) -> Expr:
    word = tirx.reinterpret("int32", memory.load("uint8", index, 4))
    return spread(word, lanes)


def _four_signed(memory: Memory, index: Expr, lanes: int) -> Expr:
    word = tirx.reinterpret("int32", memory.load("uint8", index, 4))
    return spread(tirx.bitwise_xor(word, i32(-0x7F7F7F80)), lanes)  # 0x80 in each byte: 128 less, in two's complement


def _two(memory: Memory, index: Expr, lanes: int) -> Expr:
    low, high = (cast("int32", memory.load("uint8", index + at), 1) for at in range(2))
    return spread(tirx.bitwise_or(low, tirx.shift_left(high, i32(16))), lanes)


def _one(memory: Memory, index: Expr, lanes: int) -> Expr:
    return spread(cast("int32", memory.load("uint8", index), 1), lanes)


def _vpdpbusd(sums: Expr, codes: Expr, weights: Expr, lanes: int) -> Expr:
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    return tirx.call_llvm_pure_intrin(f"int32x{lanes}", name, sums, _bytes(codes, lanes), weights)


def _sdot(sums: Expr, codes: Expr, weights: Expr, lanes: int) -> Expr:
    name = "llvm.aarch64.neon.sdot"
    return tirx.call_llvm_pure_intrin(f"int32x{lanes}", name, sums, _bytes(codes, lanes), weights)


def _usdot(sums: Expr, codes: Expr, weights: Expr, lanes: int) -> Expr:
    name = "llvm.aarch64.neon.usdot"
    return tirx.call_llvm_pure_intrin(f"int32x{lanes}", name, sums, _bytes(codes, lanes), weights)


def _pmaddwd(sums: Expr, codes: Expr, weights: Expr, lanes: int) -> Expr:
    name = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd"}[lanes]
    pairs = tirx.reinterpret(f"int16x{2 * lanes}", codes)
    return sums + tirx.call_llvm_pure_intrin(f"int32x{lanes}", name, pairs, weights)


def _multiply(sums: Expr, codes: Expr, weights: Expr, lanes: int) -> Expr:
    return sums + codes * cast("int32", weights, lanes)


def _bytes(words: Expr, lanes: int) -> Expr:
    return tirx.reinterpret(f"int8x{4 * lanes}", words)


DOTS: Mapping[Dot, Scheme] = {
    "vpdpbusd": Scheme(4, "int8", 0, _four, _vpdpbusd),
    "pmaddwd": Scheme(2, "int16", 0, _two, _pmaddwd),
    "multiply": Scheme(1, "int8", 0, _one, _multiply),
    "sdot": Scheme(4, "int8", 128, _four_signed, _sdot),
    "usdot": Scheme(4, "int8", 0, _four, _usdot),
}
"""``vpmaddubsw`` is in none of them: it saturates in 16 bits."""
