"""Attention over a short history in a program: DIN's activation unit, and scaled dot products with a softmax."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rankine.compilation.engines.triton_lang.kernels.attention import fits
from rankine.compilation.engines.triton_lang.patterns.flow import Flow
from rankine.compilation.engines.triton_lang.patterns.matches import SoftmaxAttention, UnitAttention
from rankine.compilation.engines.triton_lang.patterns.unit import blocks_of, layer_of
from rankine.compilation.fused.program import ABSENT, CONSTANT, Binary, Code, Operand, Operation

__all__ = ["softmax_attention", "unit_attention"]

_LITTLE = -1e4
"""A score so low that its share is nothing."""


def unit_attention(flow: Flow, at: int) -> UnitAttention | None:
    """Where the weighted sum of a history is, whose weights a unit's layers give."""
    end = flow.operations[at]
    if (sizes := _weighted_sum(end)) is None:
        return None
    length, width = sizes
    weigher = flow.writer(at, flow.region(end.operands[2], length))
    if weigher is None:
        return None
    last = flow.operations[weigher]
    if last.code is not Code.LINEAR_F32 or (last.groups, last.dims[1], last.kind) != (length, 1, 0):
        return None
    if last.operands[0] != end.operands[2] or any(last.operands[slot].buffer != ABSENT for slot in (1, 3, 5)):
        return None
    does, lengths = {weigher}, None
    if last.operands[4].buffer != ABSENT:
        mask = _mask(flow, weigher, last.operands[4], length)
        if mask is None:
            return None
        does.add(mask.at)
        lengths = mask.lengths
    first = layer_of(flow, weigher, last.operands[2], length, last.dims[0])
    second, blocks = None, None
    if first is not None:
        blocks = blocks_of(flow, first, end.operands[3], length, width)
        if blocks is None and first.is_plain:
            second = first
            inner = flow.operations[second.at].dims[0]
            first = layer_of(flow, second.at, flow.operations[second.at].operands[2], length, inner)
            blocks = None if first is None else blocks_of(flow, first, end.operands[3], length, width)
    if first is None or blocks is None or not fits(length, width, flow.operations[first.at].dims[1]):
        return None
    if second is not None and flow.operations[second.at].code is not flow.operations[first.at].code:
        return None
    hidden = flow.operations[first.at].dims[1]
    does |= first.does | blocks.does | (set() if second is None else second.does)
    reads = [(blocks.query, width, blocks.since), (end.operands[3], length * width, blocks.since)]
    reads += [] if lengths is None else [(lengths, 1, min(does))]
    reads += [] if first.of_query is None else [(first.of_query, hidden, first.added_at)]
    reads += [] if first.of_history is None else [(first.of_history, length * hidden, first.added_at)]
    return UnitAttention(
        at,
        frozenset(does),
        frozenset((weigher, first.at)),
        tuple(reads),
        length=length,
        width=width,
        query=blocks.query,
        keys=end.operands[3],
        lengths=lengths,
        target=end.operands[0],
        blocks=blocks.places,
        quant=blocks.quant,
        first=first.layer,
        second=None if second is None else second.layer,
        last=weigher,
        of_query=first.of_query,
        of_history=first.of_history,
    )


def softmax_attention(flow: Flow, at: int) -> SoftmaxAttention | None:
    """Where the weighted sum of a history is, whose weights are a softmax of its products with a query."""
    end = flow.operations[at]
    if (sizes := _weighted_sum(end)) is None:
        return None
    length, width = sizes
    found = _Scores(flow, at, end.operands[2], length)
    if not found.take_softmax():
        return None
    found.take_mask()
    found.take_scale()
    query = found.take_products(end.operands[3], width)
    if query is None or not fits(length, width, 1):
        return None
    since = min(found.does)
    reads = [(query, width, since), (end.operands[3], length * width, since)]
    reads += [] if found.lengths is None else [(found.lengths, 1, since)]
    return SoftmaxAttention(
        at,
        frozenset(found.does),
        frozenset(found.needs),
        tuple(reads),
        length=length,
        width=width,
        query=query,
        keys=end.operands[3],
        lengths=found.lengths,
        target=end.operands[0],
        scale=found.scale,
        fill=found.fill,
    )


def _weighted_sum(end: Operation) -> tuple[int, int] | None:
    """Length and width of a history ``(L, D)`` that weights ``(L,)`` of a row are multiplied with."""
    if end.code is not Code.MATMUL or end.dims[:2] != (1, 1):
        return None
    _, _, length, width = end.dims
    is_flat = end.strides[0][2] == 1 and end.strides[1][2] == 1 and end.strides[2][1:3] == (width, 1)
    is_given = CONSTANT not in (end.operands[2].buffer, end.operands[3].buffer)
    return (length, width) if is_flat and is_given and length > 1 else None


@dataclass(frozen=True)
class _Mask:
    at: int
    lengths: Operand


def _mask(flow: Flow, before: int, operand: Operand, length: int) -> _Mask | None:
    """Which steps are there: their numbers, compared with how many there are."""
    at = flow.writer(before, flow.region(operand, length))
    if at is None:
        return None
    less = flow.operations[at]
    if less.code is not Code.BINARY or less.kind != Binary.LESS or less.dims[:2] != (length, 0):
        return None
    numbers, lengths = less.operands[2:4]
    if less.operands[0] != operand or numbers.buffer != CONSTANT or lengths.buffer == CONSTANT:
        return None
    if [own[0] for own in less.strides] != [1, 1, 0] or (flow.numbers(numbers, length) != np.arange(length)).any():
        return None
    return _Mask(at, lengths)


@dataclass
class _Scores:
    """The way back from shares ``(L,)`` to the products that they are of."""

    flow: Flow
    before: int
    operand: Operand
    length: int
    does: set[int] = field(default_factory=set)
    needs: set[int] = field(default_factory=set)
    scale: float = 1.0
    fill: float | None = None
    lengths: Operand | None = None

    def take_softmax(self) -> bool:
        found = self._writer()
        if found is None or found.code is not Code.SOFTMAX or found.kind or found.dims[:3] != (1, self.length, 1):
            return False
        if found.strides[0][1] != 1 or found.strides[1][1] != 1:
            return False
        self._step(found.operands[2], needed=True)
        return True

    def take_mask(self) -> None:
        """``Where(mask, scores, -1e9)``."""
        found = self._writer()
        if found is None or found.code is not Code.WHERE or found.operands[4].buffer != CONSTANT:
            return
        filled = self.flow.numbers(found.operands[4], self.length)
        mask = _mask(self.flow, self._at, found.operands[2], self.length)
        if mask is None or filled[0] > _LITTLE or (filled != filled[0]).any():
            return
        self.fill, self.lengths = float(filled[0]), mask.lengths
        self.does.add(mask.at)
        self._step(found.operands[3], needed=True)

    def take_scale(self) -> None:
        found = self._writer()
        if found is None:
            return
        if found.code is Code.UNARY and found.kind == 14 and found.numbers[1] == 0.0:  # an affine function
            self.scale = found.numbers[0]
            self._step(found.operands[2], needed=True)
            return
        if found.code is not Code.BINARY or found.kind not in (Binary.MUL, Binary.DIV):
            return
        left, right = found.operands[2:4]
        if right.buffer != CONSTANT or left.buffer == CONSTANT or found.dims[:2] != (self.length, 0):
            return
        numbers = self.flow.numbers(right, self.length if found.strides[2][0] else 1)
        if (numbers != numbers[0]).any() or not numbers[0] or found.strides[1][0] != 1:
            return
        self.scale = float(numbers[0] if found.kind == Binary.MUL else 1 / numbers[0])
        self._step(left, needed=True)

    def take_products(self, keys: Operand, width: int) -> Operand | None:
        """The query, where the scores are its products with the history's steps."""
        found = self._writer()
        if found is None:
            return None
        one, other = found.operands[2:4]
        if found.code is Code.DOT:
            ways = {(width, 1), (0, 1)}
            strides = {one: found.strides[1][:2], other: found.strides[2][:2]}
            is_products = found.dims[:2] == (self.length, width) and found.strides[0][0] == 1
        elif found.code is Code.MATMUL and found.dims == (1, 1, width, self.length):
            ways = {(0, 1), (width, 1)}
            strides = {one: (0, found.strides[1][2]), other: (found.strides[2][2], found.strides[2][1])}
            is_products = found.strides[0][2] == 1
        elif found.code is Code.MATMUL and found.dims == (1, self.length, width, 1):
            ways = {(0, 1), (width, 1)}
            strides = {one: tuple(found.strides[1][1:3]), other: (0, found.strides[2][1])}
            is_products = found.strides[0][1] == 1
        else:
            return None
        query = other if one == keys else one
        if not is_products or keys not in strides or query == keys or query.buffer == CONSTANT:
            return None
        if set(strides.values()) != ways or strides[keys] != (width, 1):
            return None
        self._step(query, needed=True)
        return query

    @property
    def _at(self) -> int:
        found = self.flow.writer(self.before, self.flow.region(self.operand, self.length))
        return -1 if found is None else found

    def _writer(self) -> Operation | None:
        """What wrote the numbers that are looked at."""
        at = self._at
        if at < 0:
            return None
        found = self.flow.operations[at]
        return found if found.operands[0] == self.operand else None

    def _step(self, operand: Operand, *, needed: bool) -> None:
        at = self._at
        self.does.add(at)
        if needed:
            self.needs.add(at)
        self.before, self.operand = at, operand
