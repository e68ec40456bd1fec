"""What was found in a program: operands and operations of one kernel, by their places in the program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankine.compilation.fused.program import Operand

__all__ = ["Cross", "Interaction", "Match", "SoftmaxAttention", "UnitAttention", "UnitLayer"]


@dataclass(frozen=True)
class Match:
    """Operations that one kernel does.

    Attributes:
        at: the last of them, in whose place the kernel runs.
        does: the others that it takes over.
        needs: of these, the ones without which it is not worth it: nobody else may read what they write.
        reads: operands with their sizes, and the operation that reads each in the program: what is there must not have
            been overwritten until ``at``.
    """

    at: int
    does: frozenset[int]
    needs: frozenset[int]
    reads: tuple[tuple[Operand, int, int], ...]


@dataclass(frozen=True)
class Cross(Match):
    """``down`` and ``up``: the two layers."""

    down: int
    up: int


@dataclass(frozen=True)
class Interaction(Match):
    """``columns (F, F)``: where products go; -1 for nowhere."""

    vectors: Operand
    target: Operand
    width: int
    columns: np.ndarray


@dataclass(frozen=True)
class UnitLayer:
    """A layer of an activation unit.

    Attributes:
        at: its product.
        kind: of its activation, with ``slope`` of each column.
        quant: steps of how its result is rounded, with ``zero``; None where it is not.
    """

    at: int
    kind: int
    slope: np.ndarray | None
    quant: np.ndarray | None
    zero: float


@dataclass(frozen=True)
class UnitAttention(Match):
    """DIN's.

    Attributes:
        length, width: of the history.
        lengths: the number of its steps that are there.
        blocks: as in :class:`rankine.compilation.engines.triton_lang.kernels.attention.Unit`.
        quant: how what the first layer reads is rounded, and its zero; None where it is not.
        last: the layer that gives weights.
    """

    length: int
    width: int
    query: Operand
    keys: Operand
    lengths: Operand | None
    target: Operand
    blocks: tuple[int, int, int]
    quant: tuple[float, float] | None
    first: UnitLayer
    second: UnitLayer | None
    last: int
    of_query: Operand | None
    of_history: Operand | None


@dataclass(frozen=True)
class SoftmaxAttention(Match):
    """Scaled dot products, a softmax over them, and the sum of the history with it; ``fill`` where steps are masked."""

    length: int
    width: int
    query: Operand
    keys: Operand
    lengths: Operand | None
    target: Operand
    scale: float
    fill: float | None
