"""Who writes what an operation of a program reads, and who reads what it writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rankine.compilation.fused.program import ABSENT, CONSTANT, Code, Operand, Operation, Program

__all__ = ["Flow", "Region"]

_BEFORE = -1
"""Who fills inputs."""


@dataclass(frozen=True)
class Region:
    """Elements ``[start, stop)`` of each row of a buffer; ``dense`` where all of them are meant."""

    buffer: int
    start: int
    stop: int
    dense: bool = True

    def meets(self, other: Region) -> bool:
        """Buffers never share elements, wherever they lie in an arena."""
        return self.buffer == other.buffer and self.start < other.stop and other.start < self.stop

    def covers(self, other: Region) -> bool:
        return self.dense and self.buffer == other.buffer and self.start <= other.start and other.stop <= self.stop


class Flow:
    """The data flow of a program. Operations are known by their place in it."""

    def __init__(self, program: Program) -> None:
        self.program, self.operations = program, program.operations
        self._regions = [dict(_regions(operation)) for operation in self.operations]
        self._inputs = [Region(slot.buffer, slot.offset, slot.offset + slot.width) for slot in program.inputs]
        self.output = Region(program.output.buffer, program.output.offset, program.output.offset + program.tasks)

    def reads(self, at: int) -> list[Region]:
        return [region for slot, region in self._regions[at].items() if slot > 1]

    def writes(self, at: int) -> list[Region]:
        return [region for slot, region in self._regions[at].items() if slot < 2]

    def region(self, operand: Operand, size: int) -> Region:
        return Region(operand.buffer, operand.offset, operand.offset + size)

    def writer(self, before: int, region: Region) -> int | None:
        """The one operation that wrote all of what is read there; None where that is several, or an input."""
        for at in range(before - 1, _BEFORE, -1):
            for written in self.writes(at):
                if written.meets(region):
                    return at if written.covers(region) else None
        return None

    def sources(self, before: int, region: Region) -> set[int]:
        """All operations of which something may be read there."""
        found: set[int] = set()
        for at in range(before - 1, _BEFORE, -1):
            for written in self.writes(at):
                if written.meets(region):
                    found.add(at)
                    if written.covers(region):
                        return found
        return found

    def readers(self, at: int) -> set[int]:
        """All operations that may read something of what one has written; one behind the last for the logits."""
        found: set[int] = set()
        for written in self.writes(at):
            for later in range(at + 1, len(self.operations)):
                if any(region.meets(written) for region in self.reads(later)):
                    found.add(later)
                if any(region.covers(written) for region in self.writes(later)):
                    break
            else:
                if written.meets(self.output):
                    found.add(len(self.operations))
        return found

    def readers_of(self, region: Region, but: Iterable[int]) -> set[int] | None:
        """All operations that read what an input holds, where ``but`` do not run; None where others write there."""
        run = [at for at in range(len(self.operations)) if at not in set(but)]
        if any(written.meets(region) for at in run for written in self.writes(at)):
            return None
        found = {at for at in run if any(read.meets(region) for read in self.reads(at))}
        return found | ({len(self.operations)} if region.meets(self.output) else set())

    def is_unchanged(self, region: Region, since: int, until: int, but: Iterable[int]) -> bool:
        """Whether what ``since`` reads is still there when ``until`` has written, where ``but`` do not run."""
        skipped = set(but)
        return not any(
            written.meets(region)
            for at in range(since + 1, until + 1)
            if at not in skipped
            for written in self.writes(at)
        )

    def numbers(self, operand: Operand, size: int) -> np.ndarray:
        """Constants that an operand refers to."""
        return np.frombuffer(self.program.constants, np.float32, size, operand.offset * 4)

    def array(self, operation: Operation, at: int, size: int, kind: type[np.generic] = np.float32) -> np.ndarray | None:
        """The first numbers of an operation's array; None where it has none."""
        reference = operation.constants[at]
        return None if reference == ABSENT else np.frombuffer(self.program.constants, kind, size, reference * 64)

    def lives(self, moved: Mapping[int, int], touched: Iterable[tuple[int, int]]) -> dict[int, tuple[int, int]]:
        """When each buffer is first and last touched.

        Args:
            moved: operations that do not run, by the one that does what they do.
            touched: buffers that are read then, each with that operation.
        """
        found: dict[int, tuple[int, int]] = {}
        events = [(slot.buffer, _BEFORE) for slot in self._inputs] + [(self.output.buffer, len(self.operations))]
        for at in range(len(self.operations)):
            if at not in moved:
                events += [(region.buffer, at) for region in self._regions[at].values()]
        for buffer, at in [*events, *touched]:
            first, last = found.get(buffer, (at, at))
            found[buffer] = min(first, at), max(last, at)
        return found


def _regions(operation: Operation) -> Iterator[tuple[int, Region]]:
    for slot, dims, strides in _views(operation):
        operand = operation.operands[slot]
        if operand.buffer in (ABSENT, CONSTANT):
            continue
        pairs = [(size, stride) for size, stride in zip(dims, strides, strict=False) if size > 1]
        extent = 1 + sum((size - 1) * stride for size, stride in pairs)
        dense = extent == math.prod(size for size, _ in pairs)
        yield slot, Region(operand.buffer, operand.offset, operand.offset + extent, dense)


def _views(operation: Operation) -> list[tuple[int, Sequence[int], Sequence[int]]]:
    """Sizes and strides of each operand."""
    dims, strides = operation.dims, operation.strides
    sizes = [size for size in dims if size]
    match operation.code:
        case Code.LINEAR_F32 | Code.LINEAR_I8:
            inner, width = dims[0] * operation.groups, dims[1] * operation.groups
            return [(slot, [inner if slot == 2 else width], [1]) for slot in range(6)]
        case Code.UNARY | Code.BINARY | Code.COPY_U8:
            slots = {Code.UNARY: (0, 2), Code.BINARY: (0, 2, 3), Code.COPY_U8: (1, 2)}[operation.code]
            return [(slot, sizes, own) for slot, own in zip(slots, strides, strict=False)]
        case Code.WHERE | Code.QUANTIZE | Code.DEQUANTIZE:
            return [(slot, [dims[0]], [1]) for slot in range(5)]
        case Code.TAKE:
            before, count, after, length = dims
            return [(0, [before * count * after], [1]), (2, [before * length * after], [1])]
        case Code.REDUCE:
            return [(0, (dims[0], dims[2]), strides[0]), (2, dims[:3], strides[1])]
        case Code.SOFTMAX:
            return [(0, dims[:3], strides[0]), (2, dims[:3], strides[1])]
        case Code.MATMUL:
            batch, height, inner, width = dims
            shapes = (batch, height, width), (batch, height, inner), (batch, inner, width)
            return [(slot, shape, own) for slot, shape, own in zip((0, 2, 3), shapes, strides, strict=True)]
        case Code.DOT:
            return [(0, dims[:1], strides[0]), (2, dims[:2], strides[1]), (3, dims[:2], strides[2])]
    raise NotImplementedError(operation.code)
