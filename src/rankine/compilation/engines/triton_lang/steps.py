"""A program of the native engine's compiler as launches of kernels over one arena in a device's memory.

The program's file is the same as the native engine's (:mod:`rankine.compilation.fused.program`): all rows of a call are
one tile. Where a kernel does several of its operations at once, it is launched instead of them
(:mod:`rankine.compilation.engines.triton_lang.patterns`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from rankine.compilation.engines.triton_lang.fused_steps import fused_launch
from rankine.compilation.engines.triton_lang.kernels import along, elementwise
from rankine.compilation.engines.triton_lang.kernels.linear import linear
from rankine.compilation.engines.triton_lang.placing import Launch, Places
from rankine.compilation.fused.program import ABSENT, Code, Operation

__all__ = ["launches"]

_BIAS, _QUANT, _SLOPE = 1, 3, 4
_ADDEND = 3


def launches(places: Places, *, but_last: bool = False) -> list[Launch]:
    """What is launched, one after the other, for a program whose operands lie at these places.

    Args:
        but_last: without the last operation, which somebody else does.
    """
    fusion, placing = places.held.fusion, _Placing(places)
    return [
        fused_launch(fusion.matches[at], places) if at in fusion.matches else placing.launch(at, operation)
        for at, operation in enumerate(fusion.program.operations[: -1 if but_last else None])
        if at not in fusion.dropped
    ]


class _Placing:
    def __init__(self, places: Places) -> None:
        self._places, self._held, self._rows = places, places.held, places.rows

    def launch(self, at: int, operation: Operation) -> Launch:
        match operation.code:
            case Code.LINEAR_F32 | Code.LINEAR_I8:
                return self._linear(at, operation)
            case Code.UNARY:
                return self._elements(operation.kind, operation, (0, 2), operation.numbers[:2])
            case Code.BINARY:
                return self._elements(elementwise.BINARY + operation.kind, operation, (0, 2, 3))
            case Code.COPY_U8:
                return self._elements(elementwise.COPY, operation, (1, 2))
            case Code.WHERE:
                return self._flat(elementwise.WHERE, operation, (0, 2, 3, 4))
            case Code.DEQUANTIZE:
                return self._flat(elementwise.DEQUANTIZE, operation, (0, 2), operation.numbers[:2])
            case Code.QUANTIZE:
                return self._quantize(operation)
            case Code.TAKE:
                return self._take(operation)
            case Code.REDUCE | Code.SOFTMAX:
                kernel = along.reduce if operation.code is Code.REDUCE else along.softmax
                axes = 2 if operation.code is Code.REDUCE else 3
                to, of = self._strided(operation, 0, 0, axes), self._strided(operation, 2, 1, 3)
                kind, dims = operation.kind, operation.dims[:3]
                return lambda rows: kernel(kind, rows, dims, *to, *of)
            case Code.MATMUL | Code.DOT:
                return self._products(operation)
        raise NotImplementedError(operation.code)

    def _linear(self, at: int, operation: Operation) -> Launch:
        layer, groups = self._held.layers[at], operation.groups

        def given(slot: int, width: int) -> torch.Tensor | None:
            operand = operation.operands[slot]
            if operand.buffer == ABSENT or (slot == _ADDEND and not self._places.is_in_arena(operand)):
                return None
            found = self._places.matrix(operand, groups * width)
            return found if groups == 1 else found.reshape(self._rows * groups, width)

        def numbers(slot: int) -> torch.Tensor | None:
            return self._held.array(operation, slot, layer.width)

        source = given(2, layer.inner)
        if source is None:
            raise ValueError("a layer that reads nothing")
        shared = self._places.shared(operation.operands[_ADDEND], layer.width)
        requests = self._places.requests
        run = partial(
            linear,
            layer=layer,
            target=given(0, layer.width),
            codes=given(1, layer.width),
            addend=given(_ADDEND, layer.width),
            shared=shared,
            request_index=None if shared is None or requests is None else requests.index,
            factor=given(4, layer.width),
            added=given(5, layer.width),
            bias=numbers(_BIAS),
            quant=numbers(_QUANT),
            slope=numbers(_SLOPE),
            kind=operation.kind,
            zero=operation.numbers[0],
        )
        return lambda rows: run(source[: rows * groups])

    def _strided(self, operation: Operation, slot: int, which: int, axes: int) -> tuple[torch.Tensor, tuple[int, ...]]:
        place = self._places.place(operation.operands[slot])
        return place.memory, (place.stride, *operation.strides[which][:axes])

    def _elements(self, code: int, operation: Operation, slots: Sequence[int], numbers: Sequence[float] = ()) -> Launch:
        dims = tuple(dim for dim in operation.dims if dim)
        operands = []
        for slot, strides in zip(slots, operation.strides, strict=False):
            place = self._places.place(operation.operands[slot])
            operands.append((place.memory, place.stride, strides[: len(dims)]))
        return lambda rows: elementwise.elements(code, rows, dims, operands, numbers)

    def _flat(self, code: int, operation: Operation, slots: Sequence[int], numbers: Sequence[float] = ()) -> Launch:
        places = [self._places.place(operation.operands[slot]) for slot in slots]
        operands = [(place.memory, place.stride, (1,)) for place in places]
        size = operation.dims[0]
        return lambda rows: elementwise.elements(code, rows, (size,), operands, numbers)

    def _quantize(self, operation: Operation) -> Launch:
        size = operation.dims[0]
        quant = self._held.array(operation, _QUANT, size)
        if quant is None:
            raise ValueError("a rounding without steps")
        to, of = self._places.place(operation.operands[1]), self._places.place(operation.operands[2])
        operands = [(to.memory, to.stride, (1,)), (of.memory, of.stride, (1,)), (quant, 0, (1,))]
        return lambda rows: elementwise.elements(elementwise.QUANTIZE, rows, (size,), operands, operation.numbers[:1])

    def _take(self, operation: Operation) -> Launch:
        before, count, after, length = operation.dims
        places = self._held.array(operation, 0, count, np.int32)
        if places is None:
            raise ValueError("a choice of nothing")
        to, of = self._places.place(operation.operands[0]), self._places.place(operation.operands[2])
        sizes = (before, count, after, length)
        return lambda rows: elementwise.taken(of.memory, of.stride, to.memory, to.stride, places, rows, sizes)

    def _products(self, operation: Operation) -> Launch:
        """Sums of products are products of matrices of one row and one column."""
        if operation.code is Code.MATMUL:
            dims = operation.dims
            to, left, right = (self._strided(operation, slot, at, 3) for at, slot in enumerate((0, 2, 3)))
        else:
            before, length = operation.dims[:2]
            dims = (before, 1, length, 1)
            target, (to_row, to_first) = self._strided(operation, 0, 0, 1)
            one, (one_row, one_first, one_along) = self._strided(operation, 2, 1, 2)
            other, (other_row, other_first, other_along) = self._strided(operation, 3, 2, 2)
            to = target, (to_row, to_first, 0, 0)
            left, right = (one, (one_row, one_first, 0, one_along)), (other, (other_row, other_first, other_along, 0))
        return lambda rows: along.matmul(rows, dims, *to, *left, *right)
