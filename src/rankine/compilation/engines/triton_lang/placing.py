"""A program in a device's memory: its weights, and where the operands of a call lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from rankine.compilation.engines.triton_lang.kernels.linear import Form, Weights, weights
from rankine.compilation.engines.triton_lang.patterns import find
from rankine.compilation.fused.program import ABSENT, CONSTANT, Code, Element, Operand, Operation, Program

__all__ = ["DeviceProgram", "Launch", "Place", "Places", "Requests", "unpacked_weight"]

Launch = Callable[[int], None]
"""Of so many rows."""
_PANEL, _PADDED, _TOGETHER = 64, 16, 4
_WEIGHT, _CORRECTION, _SCALE = 0, 2, 5
_TYPES = {Element.F32: torch.float32, Element.U8: torch.uint8}


class DeviceProgram:
    """A program, with its constants and weights in a device's memory; shared by all that run it.

    Args:
        form: of the products of layers in floats: ``fp32``, or ``bf16`` or ``fp8``, with sums and all else in float32.

    Attributes:
        fusion: which of its operations run as one kernel.
        layers: of products, by their operations.
    """

    def __init__(self, program: Program, device: torch.device, form: Form = "fp32") -> None:
        self.fusion = find(program)
        self.program, self.device, self.form = self.fusion.program, device, form
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

    def column(self, operation: Operation) -> torch.Tensor:
        """Weights ``(K,)`` of a layer of floats that has one column."""
        inner, width = operation.dims[:2]
        packed = self._host(operation, _WEIGHT, inner * (-(-width // _PADDED) * _PADDED), np.float32)
        if packed is None:
            raise ValueError("a layer without weights")
        return torch.tensor(unpacked_weight(packed, inner, width)[:, 0].copy(), device=self.device)

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
class Requests:
    """What rows find by their request.

    Attributes:
        values: float32 ``(requests, width)``.
        index: int32 ``(rows,)``, in range.
        starts: of inputs that kernels read there: the column that each begins at.
        added: those of them that lie in the arena too, and are the sum of both.
    """

    values: torch.Tensor
    index: torch.Tensor
    starts: Mapping[Operand, int]
    added: frozenset[Operand] = frozenset()


@dataclass(frozen=True)
class Place:
    """An operand: memory from its first element on, and elements from row to row."""

    memory: torch.Tensor
    stride: int


class Places:
    """Operands of a call of so many rows, in an arena, uint8."""

    def __init__(self, held: DeviceProgram, arena: torch.Tensor, rows: int, requests: Requests | None = None) -> None:
        self.held, self.rows, self.requests = held, rows, requests
        self._buffers = []
        for buffer in held.program.buffers:
            start, size = rows * buffer.place, rows * buffer.stride * buffer.element.size_bytes
            self._buffers.append(arena[start : start + size].view(_TYPES[buffer.element]).view(rows, buffer.stride))

    def matrix(self, operand: Operand, width: int) -> torch.Tensor:
        """``(rows, width)``."""
        return self._buffers[operand.buffer][:, operand.offset : operand.offset + width]

    def place(self, operand: Operand) -> Place:
        if operand.buffer == CONSTANT:
            return Place(self.held.numbers[operand.offset :], 0)
        buffer = self._buffers[operand.buffer]
        return Place(buffer.reshape(-1)[operand.offset :], buffer.shape[1])

    def in_arena(self, operand: Operand) -> tuple[int, int]:
        """The float of the arena that row 0 begins at, and floats from row to row."""
        buffer = self.held.program.buffers[operand.buffer]
        return self.rows * buffer.place // 4 + operand.offset, buffer.stride

    def shared(self, operand: Operand, width: int) -> torch.Tensor | None:
        """``(requests, width)`` of what rows find there by their request; None where they have it themselves."""
        if self.requests is None or operand not in self.requests.starts:
            return None
        start = self.requests.starts[operand]
        return self.requests.values[:, start : start + width]

    def is_in_arena(self, operand: Operand) -> bool:
        return self.requests is None or operand not in self.requests.starts or operand in self.requests.added
