"""Executes a program in NumPy from the bytes of its file, in one real arena: what is read too late is overwritten."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import erf

import numpy as np

from rankine.compilation.fused.program import (
    ABSENT,
    CONSTANT,
    Binary,
    Code,
    Element,
    Operand,
    Operation,
    Program,
    Reduction,
    Unary,
    read_program,
)

_DTYPES = {Element.F32: np.dtype(np.float32), Element.U8: np.dtype(np.uint8)}
_PANEL = 64


def run_program(contents: bytes, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Logits ``(rows, tasks)`` of inputs ``(rows, width)``, all rows as one tile."""
    return _Tile(read_program(contents), len(inputs[0])).run(inputs)


class _Tile:
    def __init__(self, program: Program, rows: int) -> None:
        self._program, self._rows = program, rows
        size = program.arena_bytes_per_row * rows + 64
        self._arena = np.full(size, 0xFF, np.uint8)  # NaN as float32: nobody may count on zeros
        self._constants = program.constants
        self._seen: list[tuple[Operand, np.ndarray]] = []

    def run(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        assert len(inputs) == len(self._program.inputs)
        for slot, values in zip(self._program.inputs, inputs, strict=True):
            assert values.shape == (self._rows, slot.width)
            assert values.dtype == _DTYPES[slot.element]
            self.view(Operand(slot.buffer, slot.offset), (slot.width,), (1,))[:] = values
        for operation in self._program.operations:
            self._seen = []
            _EXECUTE[operation.code](self, operation)
            self._check_apart(operation)
        return self.flat(self._program.output, self._program.tasks).copy()

    def view(self, operand: Operand, dims: Sequence[int], strides: Sequence[int]) -> np.ndarray:
        """``(rows, *dims)`` of an operand, which has to lie within its row."""
        reach = operand.offset + sum((dim - 1) * stride for dim, stride in zip(dims, strides, strict=True))
        if operand.buffer == CONSTANT:
            numbers = np.frombuffer(self._constants, np.float32)
            assert reach < len(numbers)
            steps = [0, *(4 * stride for stride in strides)]
            return np.lib.stride_tricks.as_strided(numbers[operand.offset :], (self._rows, *dims), steps)
        buffer = self._program.buffers[operand.buffer]
        assert reach < buffer.stride
        dtype = _DTYPES[buffer.element]
        start = self._rows * buffer.place
        length = self._rows * buffer.stride * dtype.itemsize
        own = self._arena[start : start + length].view(dtype)
        steps = [stride * dtype.itemsize for stride in (buffer.stride, *strides)]
        found = np.lib.stride_tricks.as_strided(own[operand.offset :], (self._rows, *dims), steps)
        self._seen.append((operand, found))
        return found

    def _check_apart(self, operation: Operation) -> None:
        """No operation reads what it writes, but element by element where it lies."""
        written = [view for operand, view in self._seen if operand in operation.operands[:2]]
        in_place = operation.code in (Code.UNARY, Code.BINARY)
        for target in written:
            for operand, view in self._seen:
                same = operand in operation.operands[:2] and view.strides == target.strides
                same = same and view.dtype == target.dtype and view.ctypes.data == target.ctypes.data
                if view is target or (same and (in_place or operand not in operation.operands[2:])):
                    continue
                assert not np.shares_memory(target, view, max_work=10**6), operation

    def flat(self, operand: Operand, size: int) -> np.ndarray:
        return self.view(operand, (size,), (1,))

    def rows(self, operand: Operand, groups: int, width: int) -> np.ndarray:
        """``(rows * groups, width)`` of an operand whose sub-rows lie one after the other, as a copy."""
        if groups > 1 and operand.buffer != CONSTANT:
            assert operand.offset == 0
            assert self._program.buffers[operand.buffer].stride == groups * width
        return self.flat(operand, groups * width).reshape(self._rows * groups, width)

    def array(self, operation: Operation, at: int, dtype: type[np.generic], size: int) -> np.ndarray | None:
        reference = operation.constants[at]
        if reference == ABSENT:
            return None
        return np.frombuffer(self._constants, dtype, size, reference * 64)


def _present(operand: Operand) -> bool:
    return operand.buffer != ABSENT


def _linear(tile: _Tile, operation: Operation) -> None:
    inner, width = operation.dims[:2]
    groups, padded = operation.groups, -(-width // 16) * 16
    source = tile.rows(operation.operands[2], groups, inner)
    if operation.code is Code.LINEAR_I8:
        height = -(-inner // 4) * 4
        packed = tile.array(operation, 0, np.int8, height * padded)
        correction, scale = (tile.array(operation, at, dtype, padded) for at, dtype in ((2, np.int32), (5, np.float32)))
        assert packed is not None
        assert correction is not None
        assert scale is not None
        products = source.astype(np.int64) @ _unpacked_i8(packed, height, padded)[:inner] + correction
        assert np.abs(products).max(initial=0) < 2**31
        found = products.astype(np.float32) * scale
    else:
        packed = tile.array(operation, 0, np.float32, inner * padded)
        assert packed is not None
        found = (source.astype(np.float64) @ _unpacked(packed, inner, padded)).astype(np.float32)
    _finish(tile, operation, found, groups)


def _finish(tile: _Tile, operation: Operation, found: np.ndarray, groups: int) -> None:
    width, padded = operation.dims[1], found.shape[1]
    bias, quant, slope = (tile.array(operation, at, np.float32, padded) for at in (1, 3, 4))
    assert not found[:, width:].any(), "what is padded is zero"
    addend, factor, added = (
        tile.rows(operand, groups, width).copy() if _present(operand) else None for operand in operation.operands[3:]
    )
    found = (found if bias is None else found + bias)[:, :width]
    found = found if addend is None else found + addend
    if operation.kind == 1:
        found = np.maximum(found, 0)
    elif operation.kind == 2:
        assert slope is not None
        found = np.where(found < 0, found * slope[:width], found)
    found = found if factor is None else found * factor
    found = found if added is None else found + added
    numbers, codes = operation.operands[:2]
    if _present(numbers):
        tile.flat(numbers, groups * width)[:] = found.reshape(-1, groups * width)
    if _present(codes):
        assert quant is not None
        rounded = _codes(found, quant[:width], operation.numbers[0])
        tile.flat(codes, groups * width)[:] = rounded.reshape(-1, groups * width)


def _codes(values: np.ndarray, quant: np.ndarray, zero: float) -> np.ndarray:
    rounded = np.clip(np.rint(values * quant) + np.float32(zero), 0, 255)
    return np.nan_to_num(rounded, nan=0).astype(np.uint8)


def _unpacked(packed: np.ndarray, inner: int, padded: int) -> np.ndarray:
    """``(K, Npad)`` out of panels of 64 columns."""
    panels, at = [], 0
    for start in range(0, padded, _PANEL):
        width = min(_PANEL, padded - start)
        panels.append(packed[at : at + inner * width].reshape(inner, width))
        at += inner * width
    return np.concatenate(panels, axis=1).astype(np.float64)


def _unpacked_i8(packed: np.ndarray, height: int, padded: int) -> np.ndarray:
    panels, at = [], 0
    for start in range(0, padded, _PANEL):
        width = min(_PANEL, padded - start)
        groups = packed[at : at + height * width].reshape(height // 4, width, 4)
        panels.append(groups.transpose(0, 2, 1).reshape(height, width))
        at += height * width
    return np.concatenate(panels, axis=1).astype(np.int64)


def _aligned(tile: _Tile, operation: Operation, operands: Sequence[Operand]) -> list[np.ndarray]:
    dims = [dim for dim in operation.dims if dim]
    return [
        tile.view(operand, dims, strides[: len(dims)])
        for operand, strides in zip(operands, operation.strides, strict=False)
    ]


def _unary(tile: _Tile, operation: Operation) -> None:
    target, source = _aligned(tile, operation, [operation.operands[0], operation.operands[2]])
    target[:] = _UNARY[Unary(operation.kind)](source.copy(), *operation.numbers[:2])


def _binary(tile: _Tile, operation: Operation) -> None:
    target, left, right = _aligned(tile, operation, [operation.operands[at] for at in (0, 2, 3)])
    with np.errstate(all="ignore"):
        target[:] = _BINARY[Binary(operation.kind)](left.copy(), right.copy())


def _where(tile: _Tile, operation: Operation) -> None:
    size = operation.dims[0]
    condition, then, other = (tile.flat(operation.operands[at], size) for at in (2, 3, 4))
    tile.flat(operation.operands[0], size)[:] = np.where(condition != 0, then, other)


def _take(tile: _Tile, operation: Operation) -> None:
    before, count, after, length = operation.dims
    places = tile.array(operation, 0, np.int32, count)
    assert places is not None
    source = tile.flat(operation.operands[2], before * length * after).reshape(-1, before, length, after)
    taken = source[:, :, places]
    tile.flat(operation.operands[0], before * count * after)[:] = taken.reshape(len(taken), -1)


def _reduce(tile: _Tile, operation: Operation) -> None:
    before, length, after = operation.dims[:3]
    source = tile.view(operation.operands[2], (before, length, after), operation.strides[1][:3])
    target = tile.view(operation.operands[0], (before, after), operation.strides[0][:2])
    target[:] = _REDUCTIONS[Reduction(operation.kind)](source.astype(np.float64))


def _softmax(tile: _Tile, operation: Operation) -> None:
    dims = operation.dims[:3]
    source = tile.view(operation.operands[2], dims, operation.strides[1][:3]).astype(np.float64)
    shifted = source - source.max(axis=2, keepdims=True)
    total = np.exp(shifted).sum(axis=2, keepdims=True)
    target = tile.view(operation.operands[0], dims, operation.strides[0][:3])
    target[:] = shifted - np.log(total) if operation.kind else np.exp(shifted) / total


def _matmul(tile: _Tile, operation: Operation) -> None:
    batch, height, inner, width = operation.dims
    left = tile.view(operation.operands[2], (batch, height, inner), operation.strides[1][:3]).astype(np.float64)
    right = tile.view(operation.operands[3], (batch, inner, width), operation.strides[2][:3]).astype(np.float64)
    tile.view(operation.operands[0], (batch, height, width), operation.strides[0][:3])[:] = left @ right


def _quantize(tile: _Tile, operation: Operation) -> None:
    size = operation.dims[0]
    quant = tile.array(operation, 3, np.float32, size)
    assert quant is not None
    found = _codes(tile.flat(operation.operands[2], size), quant, operation.numbers[0])
    tile.flat(operation.operands[1], size)[:] = found


def _dequantize(tile: _Tile, operation: Operation) -> None:
    size, (zero, step) = operation.dims[0], operation.numbers[:2]
    codes = tile.flat(operation.operands[2], size).astype(np.float32)
    tile.flat(operation.operands[0], size)[:] = (codes - np.float32(zero)) * np.float32(step)


def _copy_u8(tile: _Tile, operation: Operation) -> None:
    target, source = _aligned(tile, operation, operation.operands[1:3])
    assert target.dtype == source.dtype == np.uint8
    target[:] = source.copy()


def _dot(tile: _Tile, operation: Operation) -> None:
    dims = operation.dims[:2]
    left, right = (tile.view(operation.operands[at], dims, operation.strides[at - 1][:2]) for at in (2, 3))
    products = (left.astype(np.float64) * right).sum(axis=2)
    tile.view(operation.operands[0], dims[:1], operation.strides[0][:1])[:] = products


def _sigmoid(x: np.ndarray, *_: float) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


_erf = np.vectorize(erf, otypes=[np.float64])

_UNARY: Mapping[Unary, Callable[..., np.ndarray]] = {
    Unary.RELU: lambda x, *_: np.maximum(x, 0),
    Unary.SIGMOID: _sigmoid,
    Unary.TANH: lambda x, *_: np.tanh(x),
    Unary.EXP: lambda x, *_: np.exp(x),
    Unary.LOG: lambda x, *_: np.log(x),
    Unary.SQRT: lambda x, *_: np.sqrt(x),
    Unary.NEG: lambda x, *_: -x,
    Unary.ABS: lambda x, *_: np.abs(x),
    Unary.ERF: lambda x, *_: _erf(x),
    Unary.RECIPROCAL: lambda x, *_: 1 / x,
    Unary.NOT: lambda x, *_: 1 - x,
    Unary.CLIP: np.clip,
    Unary.LEAKY_RELU: lambda x, slope, _: np.where(x < 0, x * np.float32(slope), x),
    Unary.GELU: lambda x, *_: 0.5 * x * (1 + _erf(x / np.sqrt(2))),
    Unary.AFFINE: lambda x, factor, summand: x * np.float32(factor) + np.float32(summand),
    Unary.SQUARE: lambda x, *_: x * x,
    Unary.IDENTITY: lambda x, *_: x,
    Unary.SOFTPLUS: lambda x, *_: np.logaddexp(x, 0),
    Unary.ELU: lambda x, alpha, _: np.where(x < 0, np.float32(alpha) * np.expm1(x), x),
}
_BINARY: Mapping[Binary, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    Binary.ADD: np.add,
    Binary.SUB: np.subtract,
    Binary.MUL: np.multiply,
    Binary.DIV: np.divide,
    Binary.MAX: np.maximum,
    Binary.MIN: np.minimum,
    Binary.POW: np.power,
    Binary.LESS: np.less,
    Binary.LESS_EQUAL: np.less_equal,
    Binary.GREATER: np.greater,
    Binary.GREATER_EQUAL: np.greater_equal,
    Binary.EQUAL: np.equal,
    Binary.AND: np.logical_and,
    Binary.OR: np.logical_or,
    Binary.PRELU: lambda a, b: np.where(a < 0, a * b, a),
}
_REDUCTIONS: Mapping[Reduction, Callable[[np.ndarray], np.ndarray]] = {
    Reduction.SUM: lambda x: x.sum(axis=2),
    Reduction.MEAN: lambda x: x.mean(axis=2),
    Reduction.MAX: lambda x: x.max(axis=2),
    Reduction.MIN: lambda x: x.min(axis=2),
    Reduction.SUM_SQUARE: lambda x: (x * x).sum(axis=2),
    Reduction.L2: lambda x: np.sqrt((x * x).sum(axis=2)),
    Reduction.PROD: lambda x: x.prod(axis=2),
}
_EXECUTE: Mapping[Code, Callable[[_Tile, Operation], None]] = {
    Code.LINEAR_F32: _linear,
    Code.LINEAR_I8: _linear,
    Code.UNARY: _unary,
    Code.BINARY: _binary,
    Code.WHERE: _where,
    Code.TAKE: _take,
    Code.REDUCE: _reduce,
    Code.SOFTMAX: _softmax,
    Code.MATMUL: _matmul,
    Code.QUANTIZE: _quantize,
    Code.DEQUANTIZE: _dequantize,
    Code.COPY_U8: _copy_u8,
    Code.DOT: _dot,
}
