"""The layers of an activation unit in a program, and what its first layer reads."""

from __future__ import annotations

from dataclasses import dataclass

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
    size = length * width
    does: set[int] = set()
    quant, zero, kind, slope = None, 0.0, 0, None
    of_query: Operand | None = None
    of_history: Operand | None = None
    added_at = before

    def written() -> tuple[int, Operation] | None:
        at = flow.writer(before, flow.region(operand, size))
        if at is None:
            return None
        does.add(at)
        return at, flow.operations[at]

    found = written()
    if found and found[1].code is Code.QUANTIZE and found[1].operands[1] == operand:
        quant, zero = _same(flow.array(found[1], _QUANT, size), width), found[1].numbers[0]
        if quant is None:
            return None
        before, operand = found[0], found[1].operands[2]
        found = written()
    if found and (activation := _activation(flow, found[1], size, width)) is not None:
        kind, slope = activation
        before, operand = found[0], found[1].operands[2]
        found = written()
    if found and (sides := _sides(found[1], length, width)) is not None:
        of_query, added_at = sides[0], found[0]
        before, operand = found[0], sides[1]
        found = written()
    if found is None or found[1].code not in _LAYERS or (found[1].groups, found[1].dims[1]) != (length, width):
        return None
    at, layer = found
    if any(layer.operands[slot].buffer != ABSENT for slot in (4, 5)) or (kind and layer.kind):
        return None
    if layer.operands[1] == operand and quant is None:
        quant, zero = flow.array(layer, _QUANT, width), layer.numbers[0]
    elif layer.operands[0] != operand:
        return None
    if layer.kind:
        if of_query is not None:
            return None
        kind, slope = layer.kind, flow.array(layer, _SLOPE, width) if layer.kind == _PRELU else None
    if layer.operands[3].buffer != ABSENT:
        if of_query is not None:
            return None
        of_history, added_at = layer.operands[3], at
        adder = flow.writer(at, flow.region(of_history, size))
        split = None if adder is None else _sides(flow.operations[adder], length, width)
        if adder is not None and split is not None and flow.operations[adder].operands[0] == of_history:
            of_query, of_history, added_at = *split, adder
            does.add(adder)
    return Found(at, frozenset(does), UnitLayer(at, kind, slope, quant, zero), of_query, of_history, added_at)


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
