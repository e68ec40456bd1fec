"""From the steps of a graph to one function of C that runs tiles of rows through all of them.

A tile is so many rows that what lies between its layers stays in the second cache. Linear layers of one shape share a
function; all other steps are written out where they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankine.compilation.fused.pack import Blob
from rankine.compilation.fused.places import placed
from rankine.compilation.fused.program import Buffer, Code, Element, Unary
from rankine.compilation.fused.steps import LINEARS, Draft, Step
from rankine.compilation.fused.views import Constants, Storage, View
from rankine.compilation.tensorir import tiles
from rankine.compilation.tensorir.along import emit_dot, emit_matmul, emit_reduce, emit_softmax
from rankine.compilation.tensorir.elementwise import (
    emit_dequantize,
    emit_elements,
    emit_quantize,
    emit_take,
    emit_where,
)
from rankine.compilation.tensorir.epilogue import POINTERS, Epilogue
from rankine.compilation.tensorir.instruction_sets import InstructionSet
from rankine.compilation.tensorir.library import tirx
from rankine.compilation.tensorir.linear import Linear, linear_function
from rankine.compilation.tensorir.nodes import Expr, Function, i64
from rankine.compilation.tensorir.places import Place
from rankine.compilation.tensorir.runner import ENTRY

__all__ = ["Program", "programmed"]

_TILE_BYTES = 1 << 20
"""Of the arena: what stays in the second cache beside the weights that pass through it."""
_ROW_UNIT, _MOST_ROWS = 48, 480
"""A tile is whole blocks of every kernel: six rows, or sixteen."""
_SLACK = 4096
"""Bytes behind the arena that kernels may read."""
_TARGET, _CODES, _SOURCE, _ADDEND, _FACTOR, _ADDED = range(6)
_WEIGHT, _BIAS, _CORRECTION, _QUANT, _SLOPE, _SCALE = range(6)
_NAMES = {_TARGET: "target", _CODES: "codes", _ADDEND: "addend", _FACTOR: "factor", _ADDED: "added"}
_COLUMNS = {_BIAS: "bias", _CORRECTION: "correction", _QUANT: "quant", _SLOPE: "slope", _SCALE: "scale"}


@dataclass(frozen=True)
class Program:
    """What is compiled, and what goes with it.

    Attributes:
        functions: of TensorIR, by name; ``ENTRY`` is one.
        constants: weights and all other numbers.
        names: of the inputs, in their order.
        arena_bytes: of memory that a call works in, aligned to 64 bytes.
        tasks: columns of the logits.
    """

    functions: Mapping[str, Any]
    constants: bytes
    names: tuple[str, ...]
    arena_bytes: int
    tasks: int


def programmed(draft: Draft, machine: InstructionSet) -> Program:
    """The program of a draft for an instruction set."""
    return _Programming(draft, machine).program()


class _Programming:
    def __init__(self, draft: Draft, machine: InstructionSet) -> None:
        self._draft, self._machine = draft, machine
        self._blob = Blob()
        self._functions: dict[str, Any] = {}
        self._kernels: dict[Linear, str] = {}
        written = {view.base for step in draft.steps for view in step.writes}
        # Inputs are read where the caller has them, but for codes, of which kernels read more than there are.
        self._given: dict[Storage, str] = {}
        for number, view in enumerate(draft.inputs.values()):
            if view.is_whole and view.base not in written and view.element is Element.F32:
                self._given[view.base] = f"input{number}"  # type: ignore[index]
        self._buffers: dict[Storage, Buffer] = {
            base: buffer for base, buffer in placed(draft).items() if base not in self._given
        }
        row_bytes = max((buffer.end for buffer in self._buffers.values()), default=64)
        fitting = _TILE_BYTES // max(row_bytes, 1) // _ROW_UNIT * _ROW_UNIT
        self._tile_rows = min(max(fitting, _ROW_UNIT), _MOST_ROWS)
        self._scratch = row_bytes * self._tile_rows + _SLACK
        pointers = [f"input{number}" for number in range(len(draft.inputs))]
        self._main = Function(ENTRY, (*pointers, "constants", "arena", "out"))
        self._start: Expr = i64(0)

    def program(self) -> Program:
        main = self._main
        if self._machine.tiles:
            main.instruction(
                "llvm.x86.ldtilecfg", main["constants"].address("uint8", self._constant(tiles.CONFIGURATION))
            )
        count = tirx.floordiv(main.rows + i64(self._tile_rows - 1), i64(self._tile_rows))
        even = tirx.floordiv(main.rows + count - i64(1), count)
        each = main.bind(tirx.floordiv(even + i64(tiles.ROWS - 1), i64(tiles.ROWS)) * i64(tiles.ROWS), "each")
        with main.loop(tirx.floordiv(main.rows + each - i64(1), each), name="tile") as tile:
            self._start = main.bind(tile * each, "start")
            rows = main.bind(tirx.min(each, main.rows - self._start), "rows_here")
            self._fill(rows)
            for step in self._draft.steps:
                self._emit(step, rows)
            self._give(rows)
        if self._machine.tiles:
            main.instruction("llvm.x86.tilerelease")
        self._functions[ENTRY] = main.finished()
        return Program(
            functions=self._functions,
            constants=self._blob.contents(),
            names=tuple(self._draft.inputs),
            arena_bytes=self._scratch + tiles.SCRATCH_BYTES + _SLACK,
            tasks=self._draft.output.dims[-1],
        )

    def _fill(self, rows: Expr) -> None:
        """Copy the inputs that have to lie in the arena."""
        for number, view in enumerate(self._draft.inputs.values()):
            if view.base in self._given:
                continue
            source = Storage(view.element, view.size)
            self._given[source] = f"input{number}"
            moved = View(source, 0, (view.size,), (1,))
            code = Code.COPY_U8 if view.element is Element.U8 else Code.UNARY
            target = View(view.base, view.offset, (view.size,), (1,))
            slot = 1 if code is Code.COPY_U8 else 0
            self._emit(Step(code, {slot: target, 2: moved}, Unary.IDENTITY), rows)

    def _give(self, rows: Expr) -> None:
        """Copy the logits to where the caller wants them."""
        view, main = self._draft.output, self._main
        place = self._place(view)
        with main.loop(rows, name="row") as row, main.loop(view.size, name="task") as task:
            target = (self._start + row) * i64(view.size) + task
            main.store(main["out"], "float32", place.load(row, task), target)

    def _emit(self, step: Step, rows: Expr) -> None:
        main, lanes = self._main, self._machine.lanes
        if step.code in LINEARS:
            self._linear(step, rows)
            return
        places = {slot: self._place(view) for slot, view in step.views.items()}
        match step.code:
            case Code.UNARY | Code.BINARY | Code.COPY_U8:
                emit_elements(main, step, places, rows, lanes)
            case Code.WHERE:
                emit_where(main, step, places, rows, lanes)
            case Code.TAKE:
                emit_take(main, step, places, self._numbers(step.arrays[0], "int32"), rows, lanes)
            case Code.QUANTIZE:
                emit_quantize(main, step, places, self._numbers(step.arrays[_QUANT], "float32"), rows, lanes)
            case Code.DEQUANTIZE:
                emit_dequantize(main, step, places, rows, lanes)
            case Code.REDUCE:
                emit_reduce(main, step, places, rows, lanes)
            case Code.SOFTMAX:
                emit_softmax(main, step, places, rows, lanes)
            case Code.MATMUL:
                emit_matmul(main, step, places, rows, lanes)
            case Code.DOT:
                emit_dot(main, step, places, rows, lanes)
            case _:
                raise NotImplementedError(step.code)

    def _linear(self, step: Step, rows: Expr) -> None:
        """A call of the function for layers of this shape."""
        places = {slot: self._place(view) for slot, view in step.views.items()}
        weight, grouped = step.arrays[_WEIGHT], step.groups > 1
        inner, width = weight.shape

        def stride(slot: int, columns: int) -> int:
            return columns if grouped else places[slot].stride

        epilogue = Epilogue(
            integer=step.code is Code.LINEAR_I8,
            kind=int(step.kind),
            bias=_BIAS in step.arrays,
            strides=tuple((name, stride(slot, width)) for slot, name in _NAMES.items() if slot in places),
            zero=step.numbers[0] if step.numbers else 0.0,
        )
        layer = Linear(inner, width, stride(_SOURCE, inner), epilogue)
        if layer not in self._kernels:
            name = f"rankine_linear_{len(self._kernels)}"
            self._kernels[layer] = name
            self._functions[name] = linear_function(name, layer, self._machine)
        constants = self._main["constants"]
        nothing = constants.address("uint8", i64(0))
        columns = dict(step.arrays)
        if epilogue.integer:
            columns[_CORRECTION] = (columns[_CORRECTION] + layer.shift(weight, self._machine)).astype(np.int32)
        given = {
            name: constants.address("uint8", self._constant(layer.packed_columns(columns[slot], self._machine)))
            for slot, name in _COLUMNS.items()
            if slot in columns
        }
        given |= {name: places[slot].address() for slot, name in _NAMES.items() if slot in places}
        given["source"] = places[_SOURCE].address()
        packed = layer.packed_weight(weight, self._machine)
        given["weight"] = constants.address("uint8", self._constant(packed))
        given["scratch"] = self._main["arena"].address("uint8", i64(self._scratch))
        names = ("source", "weight", *POINTERS, "scratch")
        self._main.call(self._kernels[layer], *(given.get(name, nothing) for name in names), rows * i64(step.groups))

    def _place(self, view: View) -> Place:
        base = view.base
        if isinstance(base, Constants):
            return Place(self._main["constants"], "float32", i64(self._blob.element(base.numbers) + view.offset), 0)
        element = "float32" if base.element is Element.F32 else "uint8"
        if base in self._given:
            start = self._start * i64(base.width) + i64(view.offset)
            return Place(self._main[self._given[base]], element, start, base.width)
        buffer = self._buffers[base]
        start = i64(buffer.place * self._tile_rows // base.element.size_bytes + view.offset)
        return Place(self._main["arena"], element, start, buffer.stride)

    def _numbers(self, array: np.ndarray, element: str) -> Place:
        return Place(self._main["constants"], element, i64(self._byte(array) // array.itemsize), 0)

    def _constant(self, array: np.ndarray) -> Expr:
        return i64(self._byte(array))

    def _byte(self, array: np.ndarray) -> int:
        """The first byte of an array among the constants."""
        return self._blob.reference(array) * 64
