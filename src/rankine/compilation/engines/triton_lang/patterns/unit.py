"""The layers of an activation unit in a program, and what its first layer reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rankine.compilation.engines.triton_lang.patterns.flow import Flow
from rankine.compilation.engines.triton_lang.patterns.matches import UnitLayer
from rankine.compilation.fused.program import ABSENT, CONSTANT, Binary, Code, Operand, Operation, Unary

__all__ = ["Blocks", "Found", "blocks_of", "layer_of"]

_RELU, _PRELU = 1, 2
_QUANT, _SLOPE = 3, 4
_KEYS, _GAPS, _PRODUCTS = range(3)
_LAYERS = (Code.LINEAR_F32, Code.LINEAR_I8)


@dataclass(frozen=True)
class Found:
    """A layer over the steps of a history, and what follows it.

    Attributes:
        at: its product. ``does``: that, and all that follows.
        of_query: what is added to every step; ``of_history``: what is added to each; both by operation ``added_at``.
    """

    at: int
    does: frozenset[int]
    layer: UnitLayer
    of_query: Operand | None
    of_history: Operand | None
    added_at: int

    @property
    def is_plain(self) -> bool:
        return self.of_query is None and self.of_history is None


@dataclass(frozen=True)
class Blocks:
    """What the first layer reads; ``since``: the first operation that reads the query or the history for it."""

    does: frozenset[int]
    since: int
    query: Operand
    places: tuple[int, int, int]
    quant: tuple[float, float] | None


def layer_of(flow: Flow, before: int, operand: Operand, length: int, width: int) -> Found | None:
    """The layer whose result ``(L, H)`` an operand is."""
    back = _Back(flow, before, operand, length * width)
    rounding = back.take_rounding(width)
    activation = back.take_activation(width)
    of_query, added_at = back.take_query(length, width)
    at = back.writer()
    if at is None:
        return None
    layer = flow.operations[at]
    if layer.code not in _LAYERS or (layer.groups, layer.dims[1]) != (length, width):
        return None
    if any(layer.operands[slot].buffer != ABSENT for slot in (4, 5)):
        return None
    if layer.operands[1] == back.operand and rounding is None:
        rounding = flow.array(layer, _QUANT, width), layer.numbers[0]
    elif layer.operands[0] != back.operand:
        return None
    is_summed = of_query is not None
    if layer.kind:
        if activation is not None or is_summed:
            return None
        activation = layer.kind, flow.array(layer, _SLOPE, width) if layer.kind == _PRELU else None
    does, of_history = back.does | {at}, None
    if layer.operands[3].buffer != ABSENT:
        if is_summed:
            return None
        of_query, of_history, added_at = _addends(flow, at, length, width)
        does |= {added_at}
    kind, slope = activation or (0, None)
    quant, zero = rounding or (None, 0.0)
    return Found(at, frozenset(does), UnitLayer(at, kind, slope, quant, zero), of_query, of_history, added_at)


@dataclass
class _Back:
    """The way back from a value of every step to the layer that it is of."""

    flow: Flow
    before: int
    operand: Operand
    size: int
    does: set[int] = field(default_factory=set)

    def writer(self) -> int | None:
        return self.flow.writer(self.before, self.flow.region(self.operand, self.size))

    def take_rounding(self, width: int) -> tuple[np.ndarray | None, float] | None:
        at = self.writer()
        step = None if at is None else self.flow.operations[at]
        if at is None or step is None or step.code is not Code.QUANTIZE or step.operands[1] != self.operand:
            return None
        quant = _same(self.flow.array(step, _QUANT, self.size), width)
        if quant is None:
            return None
        self._go(at, step.operands[2])
        return quant, step.numbers[0]

    def take_activation(self, width: int) -> tuple[int, np.ndarray | None] | None:
        at = self.writer()
        found = None if at is None else _activation(self.flow, self.flow.operations[at], self.size, width)
        if at is not None and found is not None:
            self._go(at, self.flow.operations[at].operands[2])
        return found

    def take_query(self, length: int, width: int) -> tuple[Operand | None, int]:
        """What is added to every step, and by which operation."""
        at = self.writer()
        sides = None if at is None else _sides(self.flow.operations[at], length, width)
        if at is None or sides is None:
            return None, self.before
        self._go(at, sides[1])
        return sides[0], at

    def _go(self, at: int, operand: Operand) -> None:
        self.does.add(at)
        self.before, self.operand = at, operand


def _addends(flow: Flow, at: int, length: int, width: int) -> tuple[Operand | None, Operand, int]:
    """What is added to every step, what to each, and by which operation; of a layer with an addend."""
    addend = flow.operations[at].operands[3]
    adder = flow.writer(at, flow.region(addend, length * width))
    split = None if adder is None else _sides(flow.operations[adder], length, width)
    if adder is None or split is None or flow.operations[adder].operands[0] != addend:
        return None, addend, at
    return *split, adder


def blocks_of(flow: Flow, first: Found, keys: Operand, length: int, width: int) -> Blocks | None:
    """What the first layer reads, where that is steps of a history, and their differences and products with a query."""
    layer = flow.operations[first.at]
    inner, operand, before = layer.dims[0], layer.operands[2], first.at
    count, rest = divmod(inner, width)
    if rest or not 1 <= count <= 3:
        return None
    does: set[int] = set()
    quant = None
    if layer.code is Code.LINEAR_I8:
        at = flow.writer(before, flow.region(operand, length * inner))
        if at is None or flow.operations[at].code is not Code.QUANTIZE:
            return None
        steps = flow.array(flow.operations[at], _QUANT, length * inner)
        if steps is None or (steps != steps[0]).any():
            return None
        quant = float(steps[0]), flow.operations[at].numbers[0]
        does.add(at)
        before, operand = at, flow.operations[at].operands[2]
    places, query, since = [-1, -1, -1], None, before
    found = 0
    region = flow.region(operand, length * inner)
    for at in range(before - 1, -1, -1):
        if found == count:
            break
        if not any(written.meets(region) for written in flow.writes(at)):
            continue
        step = flow.operations[at]
        place, rest = divmod(step.operands[0].offset - operand.offset, width)
        block = _block(flow, at, keys, length, width, inner)
        if block is None or rest or not 0 <= place < count or place in places or places[block.kind] >= 0:
            return None
        if block.query is not None and query not in (None, block.query):
            return None
        query = block.query or query
        places[block.kind] = place
        does |= block.does
        since = min(since, *block.does)
        found += 1
    if found != count or query is None:
        return None
    return Blocks(frozenset(does), since, query, (places[0], places[1], places[2]), quant)


@dataclass(frozen=True)
class _Block:
    kind: int
    query: Operand | None
    does: frozenset[int]


def _block(flow: Flow, at: int, keys: Operand, length: int, width: int, inner: int) -> _Block | None:
    step = flow.operations[at]
    if step.dims[:3] != (length, width, 0) or step.strides[0][:2] != (inner, 1):
        return None
    alone = frozenset((at,))
    if step.code is Code.UNARY and step.kind == Unary.IDENTITY:
        is_keys = step.operands[2] == keys and step.strides[1][:2] == (width, 1)
        return _Block(_KEYS, None, alone) if is_keys else None
    if step.code is not Code.BINARY:
        return None
    sides = {tuple(own[:2]): operand for own, operand in zip(step.strides[1:], step.operands[2:4], strict=True)}
    query, other = sides.get((0, 1)), sides.get((width, 1))
    if query is None or other is None or query.buffer == CONSTANT:
        return None
    if step.kind == Binary.MUL and other == keys:
        return _Block(_PRODUCTS, query, alone)
    if step.kind == Binary.SUB and other == keys and step.operands[2] == query:
        return _Block(_GAPS, query, alone)
    if step.kind == Binary.ADD:
        turned = flow.writer(at, flow.region(other, length * width))
        if turned is not None and _is_negated(flow.operations[turned], keys, other):
            return _Block(_GAPS, query, alone | {turned})
    return None


def _is_negated(step: Operation, keys: Operand, target: Operand) -> bool:
    is_flat = step.dims[1] == 0 and step.strides[0][0] == step.strides[1][0] == 1
    return step.code is Code.UNARY and step.kind == Unary.NEG and step.operands[::2][:2] == (target, keys) and is_flat


def _activation(flow: Flow, step: Operation, size: int, width: int) -> tuple[int, np.ndarray | None] | None:
    """ReLU, or slopes ``(H,)``, over all steps."""
    if step.dims[:2] != (size, 0) or step.strides[0][0] != 1 or step.strides[1][0] != 1:
        return None
    if step.code is Code.UNARY and step.kind == Unary.RELU:
        return _RELU, None
    if step.code is Code.UNARY and step.kind == Unary.LEAKY_RELU:
        return _PRELU, np.full(width, step.numbers[0], np.float32)
    if step.code is not Code.BINARY or step.kind != Binary.PRELU or step.operands[3].buffer != CONSTANT:
        return None
    stride = step.strides[2][0]
    slope = _same(flow.numbers(step.operands[3], size if stride else 1), width if stride else 1)
    return None if slope is None else (_PRELU, np.broadcast_to(slope, (width,)).copy())


def _sides(step: Operation, length: int, width: int) -> tuple[Operand, Operand] | None:
    """Of a sum: what is the same for every step, and what is not."""
    if step.code is not Code.BINARY or step.kind != Binary.ADD or step.dims[:3] != (length, width, 0):
        return None
    if step.strides[0][:2] != (width, 1):
        return None
    sides = {tuple(own[:2]): operand for own, operand in zip(step.strides[1:], step.operands[2:4], strict=True)}
    same, each = sides.get((0, 1)), sides.get((width, 1))
    if same is None or each is None or CONSTANT in (same.buffer, each.buffer):
        return None
    return same, each


def _same(numbers: np.ndarray | None, width: int) -> np.ndarray | None:
    """Numbers ``(width,)`` that are the same for every step; None where they are not."""
    if numbers is None:
        return None
    each = numbers.reshape(-1, width)
    return each[0].copy() if (each == each[0]).all() else None
