"""Sizes of the blocks that one program of a kernel works on."""

from __future__ import annotations

import os
from dataclasses import dataclass

import triton

__all__ = ["Blocks", "elements_of", "interpreted", "linear_blocks", "power"]

# Releases of Triton-lang differ in whether a product and a sum become one instruction: here they do.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

_LARGEST = 1 << 18
"""Elements of a block in the interpreter, where a program costs the same whatever its block's size is."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Rows, columns and depth of a product's block, and the warps that share it."""

    rows: int
    columns: int
    depth: int
    warps: int


def interpreted() -> bool:
    """Whether kernels are run by the interpreter: decided by the environment when they were imported."""
    return bool(triton.knobs.runtime.interpret)


def power(size: int, least: int = 1) -> int:
    """The next power of two, at least ``least``."""
    return max(least, 1 << max(size - 1, 0).bit_length())


def elements_of(total: int) -> int:
    """Elements of a block, where each is computed by itself."""
    return min(power(total, 16), _LARGEST) if interpreted() else 512


def linear_blocks(rows: int, width: int, inner: int, bytes_each: int) -> Blocks:
    """Of a layer ``inner`` to ``width``: fewer rows to a block where there would else be too few programs to fill a
    GPU, and a depth of at most 128 bytes of a row, which is what shared memory holds a few stages of."""
    if interpreted():
        columns, depth = power(width, 16), power(inner, 16)
        return Blocks(min(power(rows, 16), max(16, _LARGEST // max(columns, depth))), columns, depth, 4)
    block_rows = 16 if rows <= 64 else 64 if rows <= 2048 else 128
    columns = min(power(width, 16), 64 if rows <= 2048 else 128)
    depth = max(32, min(128 // bytes_each, power(inner, 16)))
    return Blocks(block_rows, columns, depth, 8 if block_rows * columns >= 128 * 128 else 4)
