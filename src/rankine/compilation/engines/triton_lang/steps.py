"""A program of the native engine's compiler as launches of kernels over one arena in a device's memory.

The program's file is the same as the native engine's (:mod:`rankine.compilation.fused.program`): all rows of a call are
one tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from rankine.compilation.engines.triton_lang.kernels import along, elementwise
from rankine.compilation.engines.triton_lang.kernels.linear import Form, Weights, linear, weights
from rankine.compilation.fused.program import ABSENT, CONSTANT, Code, Element, Operand, Operation, Program

__all__ = ["DeviceProgram", "Launch", "launches", "unpacked_weight"]

Launch = Callable[[int], None]
"""Of so many rows."""
_PANEL, _PADDED, _TOGETHER = 64, 16, 4
_WEIGHT, _BIAS, _CORRECTION, _QUANT, _SLOPE, _SCALE = range(6)
_TYPES = {Element.F32: torch.float32, Element.U8: torch.uint8}


class DeviceProgram:
    """A program, with its constants and weights in a device's memory; shared by all that run it.

    Args:
        form: of the products of layers in floats: ``fp32``, or ``bf16``, with sums and all else in float32.
    """

    def __init__(self, program: Program, device: torch.device, form: Form = "fp32") -> None:
        self.program, self.device, self.form = program, device, form
        whole = np.frombuffer(program.constants, np.uint8)
        self.numbers = torch.from_numpy(whole[: len(whole) // 4 * 4].view(np.float32).copy()).to(device)
        self._arrays: dict[tuple[int, int], torch.Tensor] = {}
        self.layers = {
            at: self._layer(operation)
            for at, operation in enumerate(program.operations)
            if operation.code in (Code.LINEAR_F32, Code.LINEAR_I8)
        }

    def array(
        self, operation: Operation, at: int, size: int, kind: type[np.generic] = np.float32
    ) -> torch.Tensor | None:
        """The first ``size`` numbers of an operation's array; None where it has none."""
        found = self._host(operation, at, size, kind)
        if found is None:
            return None
        key = operation.constants[at], size
        if key not in self._arrays:
            self._arrays[key] = torch.tensor(found, device=self.device)
        return self._arrays[key]

    def _host(self, operation: Operation, at: int, size: int, kind: type[np.generic]) -> np.ndarray | None:
        reference = operation.constants[at]
        return None if reference == ABSENT else np.frombuffer(self.program.constants, kind, size, reference * 64)

    def _layer(self, operation: Operation) -> Weights:
        inner, width = operation.dims[:2]
        integer = operation.code is Code.LINEAR_I8
        height = -(-inner // _TOGETHER) * _TOGETHER if integer else inner
        kind: type[np.generic] = np.int8 if integer else np.float32
        packed = self._host(operation, _WEIGHT, height * (-(-width // _PADDED) * _PADDED), kind)
        if packed is None:
            raise ValueError("a layer without weights")
        matrix = unpacked_weight(packed, inner, width)
        if not integer:
            return weights(matrix, self.form, self.device)
        scale, correction = (
            self._host(operation, slot, width, held) for slot, held in ((_SCALE, np.float32), (_CORRECTION, np.int32))
        )
        return weights(matrix, "int8", self.device, scale=scale, correction=correction)


def unpacked_weight(packed: np.ndarray, inner: int, width: int) -> np.ndarray:
    """``(K, N)`` of what :func:`rankine.compilation.fused.pack.packed_weight` made: panels of 64 columns, of int8 with
    four rows side by side."""
    integer = packed.dtype == np.int8
    height = -(-inner // _TOGETHER) * _TOGETHER if integer else inner
    panels, at = [], 0
    for start in range(0, width, _PANEL):
        columns = min(_PANEL, -(-width // _PADDED) * _PADDED - start)
        held = packed[at : at + height * columns]
        if integer:
            held = held.reshape(height // _TOGETHER, columns, _TOGETHER).transpose(0, 2, 1)
        panels.append(held.reshape(height, columns))
        at += height * columns
    return np.ascontiguousarray(np.concatenate(panels, axis=1)[:inner, :width])


@dataclass(frozen=True)
class _Place:
    """An operand: memory from its first element on, and elements from row to row."""

    memory: torch.Tensor
    stride: int


def launches(
    held: DeviceProgram, arena: torch.Tensor, rows: int
) -> tuple[list[Launch], list[torch.Tensor], torch.Tensor]:
    """A program over an arena, uint8, with room for ``rows`` rows.

    Returns:
        What is launched, one after the other; where the inputs ``(rows, width)`` go; and the logits ``(rows, tasks)``.
    """
    placing = _Placing(held, arena, rows)
    program = held.program
    inputs = [placing.matrix(Operand(slot.buffer, slot.offset), slot.width) for slot in program.inputs]
    return (
        [placing.launch(at, operation) for at, operation in enumerate(program.operations)],
        inputs,
        placing.matrix(program.output, program.tasks),
    )


class _Placing:
    def __init__(self, held: DeviceProgram, arena: torch.Tensor, rows: int) -> None:
        self._held, self._rows = held, rows
        self._buffers = []
        for buffer in held.program.buffers:
            start, size = rows * buffer.place, rows * buffer.stride * buffer.element.size_bytes
            self._buffers.append(arena[start : start + size].view(_TYPES[buffer.element]).view(rows, buffer.stride))

    def matrix(self, operand: Operand, width: int) -> torch.Tensor:
        return self._buffers[operand.buffer][:, operand.offset : operand.offset + width]

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
            if operand.buffer == ABSENT:
                return None
            found = self.matrix(operand, groups * width)
            return found if groups == 1 else found.reshape(self._rows * groups, width)

        def numbers(slot: int) -> torch.Tensor | None:
            return self._held.array(operation, slot, layer.width)

        source = given(2, layer.inner)
        if source is None:
            raise ValueError("a layer that reads nothing")
        run = partial(
            linear,
            layer=layer,
            target=given(0, layer.width),
            codes=given(1, layer.width),
            addend=given(3, layer.width),
            factor=given(4, layer.width),
            added=given(5, layer.width),
            bias=numbers(_BIAS),
            quant=numbers(_QUANT),
            slope=numbers(_SLOPE),
            kind=operation.kind,
            zero=operation.numbers[0],
        )
        return lambda rows: run(source[: rows * groups])

    def _place(self, operand: Operand) -> _Place:
        if operand.buffer == CONSTANT:
            return _Place(self._held.numbers[operand.offset :], 0)
        buffer = self._buffers[operand.buffer]
        return _Place(buffer.reshape(-1)[operand.offset :], buffer.shape[1])

    def _strided(self, operation: Operation, slot: int, which: int, axes: int) -> tuple[torch.Tensor, tuple[int, ...]]:
        place = self._place(operation.operands[slot])
        return place.memory, (place.stride, *operation.strides[which][:axes])

    def _elements(self, code: int, operation: Operation, slots: Sequence[int], numbers: Sequence[float] = ()) -> Launch:
        dims = tuple(dim for dim in operation.dims if dim)
        operands = []
        for slot, strides in zip(slots, operation.strides, strict=False):
            place = self._place(operation.operands[slot])
            operands.append((place.memory, place.stride, strides[: len(dims)]))
        return lambda rows: elementwise.elements(code, rows, dims, operands, numbers)

    def _flat(self, code: int, operation: Operation, slots: Sequence[int], numbers: Sequence[float] = ()) -> Launch:
        places = [self._place(operation.operands[slot]) for slot in slots]
        operands = [(place.memory, place.stride, (1,)) for place in places]
        size = operation.dims[0]
        return lambda rows: elementwise.elements(code, rows, (size,), operands, numbers)

    def _quantize(self, operation: Operation) -> Launch:
        size = operation.dims[0]
        quant = self._held.array(operation, _QUANT, size)
        if quant is None:
            raise ValueError("a rounding without steps")
        to, of = self._place(operation.operands[1]), self._place(operation.operands[2])
        operands = [(to.memory, to.stride, (1,)), (of.memory, of.stride, (1,)), (quant, 0, (1,))]
        return lambda rows: elementwise.elements(elementwise.QUANTIZE, rows, (size,), operands, operation.numbers[:1])

    def _take(self, operation: Operation) -> Launch:
        before, count, after, length = operation.dims
        places = self._held.array(operation, 0, count, np.int32)
        if places is None:
            raise ValueError("a choice of nothing")
        to, of = self._place(operation.operands[0]), self._place(operation.operands[2])
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
