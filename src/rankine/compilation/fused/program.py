"""A program: what the native engine executes for one dense graph, and its file.

A program is a list of tile operations over buffers of one arena. A tile of T rows goes through all of them before the
next tile starts; buffer ``b`` lies at ``T * place`` of the arena, its row ``r`` at ``r * stride`` elements from there.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from rankine.errors import EngineError

__all__ = [
    "ABSENT",
    "CONSTANT",
    "NOWHERE",
    "Binary",
    "Buffer",
    "Code",
    "Element",
    "InputSlot",
    "Operand",
    "Operation",
    "Program",
    "Reduction",
    "Unary",
    "read_program",
    "write_program",
]

ABSENT = 0xFFFFFFFF
"""The buffer of an operand that is not there, and a reference to constants that are not there."""
CONSTANT = 0xFFFFFFFE
"""The buffer of an operand that lies among the constants."""
_MAGIC = b"RKNPROG1"
_VERSION = 1
_HEADER = struct.Struct("<8s5I2IIQQQ")
_BUFFER = struct.Struct("<4I")
_INPUT = struct.Struct("<4I")
_OPERATION = struct.Struct("<HHI12I16I6I4f")
_UNIT = 64
"""Bytes that places and constants are multiples of."""


class Element(IntEnum):
    """Type of a buffer's elements."""

    F32 = 0
    U8 = 1

    @property
    def size_bytes(self) -> int:
        return 4 if self is Element.F32 else 1


class Code(IntEnum):
    """What an operation does."""

    LINEAR_F32 = 1
    LINEAR_I8 = 2
    UNARY = 3
    BINARY = 4
    WHERE = 5
    TAKE = 6
    REDUCE = 7
    SOFTMAX = 8
    MATMUL = 9
    QUANTIZE = 10
    DEQUANTIZE = 11
    COPY_U8 = 12
    DOT = 13


class Unary(IntEnum):
    """Kind of ``UNARY``."""

    RELU = 0
    SIGMOID = 1
    TANH = 2
    EXP = 3
    LOG = 4
    SQRT = 5
    NEG = 6
    ABS = 7
    ERF = 8
    RECIPROCAL = 9
    NOT = 10
    CLIP = 11
    LEAKY_RELU = 12
    GELU = 13
    AFFINE = 14
    SQUARE = 15
    IDENTITY = 16
    SOFTPLUS = 17
    ELU = 18


class Binary(IntEnum):
    """Kind of ``BINARY``."""

    ADD = 0
    SUB = 1
    MUL = 2
    DIV = 3
    MAX = 4
    MIN = 5
    POW = 6
    LESS = 7
    LESS_EQUAL = 8
    GREATER = 9
    GREATER_EQUAL = 10
    EQUAL = 11
    AND = 12
    OR = 13
    PRELU = 14


class Reduction(IntEnum):
    """Kind of ``REDUCE``."""

    SUM = 0
    MEAN = 1
    MAX = 2
    MIN = 3
    SUM_SQUARE = 4
    L2 = 5
    PROD = 6


@dataclass(frozen=True)
class Operand:
    """Element ``offset`` in each row of a buffer, or among the constants, counted in elements of four bytes."""

    buffer: int = ABSENT
    offset: int = 0


NOWHERE = Operand()


@dataclass(frozen=True)
class Buffer:
    """``stride`` elements a row, at ``place`` bytes of the arena for each row of a tile."""

    element: Element
    stride: int
    place: int

    @property
    def end(self) -> int:
        """First byte behind it, for each row of a tile."""
        return self.place + _rounded_up(self.stride * self.element.size_bytes)


@dataclass(frozen=True)
class InputSlot:
    """Where the host puts a graph input ``(rows, width)`` before a tile is run."""

    buffer: int
    offset: int
    width: int
    element: Element


@dataclass(frozen=True)
class Operation:
    """One tile operation; what each field means is the code's.

    Attributes:
        operands: six: outputs, then inputs.
        dims: four sizes within a row; ``strides`` three times four, of up to three operands, in elements.
        constants: six references, in units of 64 bytes.
        numbers: four.
    """

    code: Code
    kind: int
    groups: int
    operands: tuple[Operand, ...]
    dims: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    constants: tuple[int, ...]
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class Program:
    """What is executed for one graph.

    Attributes:
        inputs: in the order of the model's.
        output: the logits, ``tasks`` float32 a row.
        constants: weights and all other arrays, each at a multiple of 64 bytes.
    """

    buffers: tuple[Buffer, ...]
    inputs: tuple[InputSlot, ...]
    operations: tuple[Operation, ...]
    output: Operand
    tasks: int
    constants: bytes = field(repr=False)

    @property
    def arena_bytes_per_row(self) -> int:
        """Bytes of the arena for each row of a tile."""
        return max((buffer.end for buffer in self.buffers), default=0)

    def to_bytes(self) -> bytes:
        """The file's contents."""
        counts = (len(self.buffers), len(self.inputs), len(self.operations), self.tasks)
        records = b"".join(
            [
                *(_BUFFER.pack(buffer.element, buffer.stride, buffer.place, 0) for buffer in self.buffers),
                *(_INPUT.pack(slot.buffer, slot.offset, slot.width, slot.element) for slot in self.inputs),
                *(_packed(operation) for operation in self.operations),
            ]
        )
        start = _rounded_up(_HEADER.size + len(records))
        output = (self.output.buffer, self.output.offset)
        header = _HEADER.pack(_MAGIC, _VERSION, *counts, *output, 0, start, len(self.constants), 0)
        return (header + records).ljust(start, b"\0") + self.constants


def write_program(program: Program, path: Path) -> None:
    """Write a program's file."""
    path.write_bytes(program.to_bytes())


def read_program(contents: bytes) -> Program:
    """The program in a file's contents. What its fields point at is not checked: the native module's reader, which
    :class:`rankine._native.Program` is, does that, and whoever runs a program has it read by that too.

    Raises:
        EngineError: it is no program, of another version, or its sizes do not fit each other.
        ValueError: a buffer's element or an operation's code is none.
    """
    if contents[:8] != _MAGIC or len(contents) < _HEADER.size:
        raise EngineError("is no program of the native engine", got=repr(contents[:8]), allowed=repr(_MAGIC))
    _, version, buffers, inputs, operations, tasks, out, offset, _, start, size, _ = _HEADER.unpack_from(contents)
    if version != _VERSION:
        raise EngineError("the program is of another version", got=version, allowed=str(_VERSION))
    needed = _HEADER.size + buffers * _BUFFER.size + inputs * _INPUT.size + operations * _OPERATION.size
    if start < needed or start + size != len(contents):
        raise EngineError("the program is cut off or too long", got=len(contents), allowed=str(start + size))
    at = _HEADER.size
    held = list(_BUFFER.iter_unpack(contents[at : (at := at + buffers * _BUFFER.size)]))
    slots = list(_INPUT.iter_unpack(contents[at : (at := at + inputs * _INPUT.size)]))
    records = _OPERATION.iter_unpack(contents[at : at + operations * _OPERATION.size])
    return Program(
        buffers=tuple(Buffer(Element(kind), stride, place) for kind, stride, place, _ in held),
        inputs=tuple(InputSlot(buffer, first, width, Element(kind)) for buffer, first, width, kind in slots),
        operations=tuple(_unpacked(record) for record in records),
        output=Operand(out, offset),
        tasks=tasks,
        constants=contents[start:],
    )


def _packed(operation: Operation) -> bytes:
    operands = [number for operand in operation.operands for number in (operand.buffer, operand.offset)]
    strides = [number for strides in operation.strides for number in strides]
    head = (operation.code, operation.kind, operation.groups)
    return _OPERATION.pack(*head, *operands, *operation.dims, *strides, *operation.constants, *operation.numbers)


def _unpacked(record: Sequence[int | float]) -> Operation:
    whole = [int(number) for number in record[:37]]
    operands = tuple(Operand(whole[at], whole[at + 1]) for at in range(3, 15, 2))
    strides = tuple(tuple(whole[at : at + 4]) for at in range(19, 31, 4))
    numbers = tuple(float(number) for number in record[37:])
    return Operation(
        Code(whole[0]), whole[1], whole[2], operands, tuple(whole[15:19]), strides, tuple(whole[31:37]), numbers
    )


def _rounded_up(size: int) -> int:
    return math.ceil(size / _UNIT) * _UNIT
