"""Linear layers: blocks of rows and columns whose sums stay in registers, over weights packed in panels.

A panel is a few vectors of columns wide and all of the layer high, so that it is read once from memory in order, and
again from a cache for each block of rows. The last rows run as a whole block too, where they are two or more: buffers
have room for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rankine.compilation.tensorir import tiles
from rankine.compilation.tensorir.dots import DOTS, Scheme
from rankine.compilation.tensorir.epilogue import POINTERS, Epilogue
from rankine.compilation.tensorir.instruction_sets import InstructionSet
from rankine.compilation.tensorir.library import tirx
from rankine.compilation.tensorir.nodes import Expr, Function, Variable, f32, i32, i64, spread

__all__ = ["Linear", "linear_function"]

_UNROLLED = 2
"""Steps of a sum that one iteration adds."""


@dataclass(frozen=True)
class Linear:
    """A layer of one shape: ``inner`` numbers of a row to ``width``; its source has ``stride`` elements a row."""

    inner: int
    width: int
    stride: int
    epilogue: Epilogue

    def panel_vectors(self, machine: InstructionSet) -> int:
        """Vectors of columns in a panel: no more than the layer has."""
        vectors = machine.vectors
        while vectors > 1 and self.width <= vectors // 2 * machine.lanes:
            vectors //= 2
        return vectors

    def panel_columns(self, machine: InstructionSet) -> int:
        return self.panel_vectors(machine) * machine.lanes

    def panel_height(self, machine: InstructionSet) -> int:
        """Rows of a packed panel: whole iterations of the kernels."""
        if not self.epilogue.integer:
            return self.inner
        unit = tiles.DEPTH if machine.tiles else DOTS[machine.dot].together
        return -(-self.inner // unit) * unit

    def packed_weight(self, weight: np.ndarray, machine: InstructionSet) -> np.ndarray:
        """Weights ``(K, N)`` as the kernels read them."""
        columns, height = self.panel_columns(machine), self.panel_height(machine)
        if self.epilogue.integer:
            return DOTS[machine.dot].packed(weight, columns, height)
        padded = np.zeros((height, -(-self.width // columns) * columns), np.float32)
        padded[: self.inner, : self.width] = weight
        return np.ascontiguousarray(padded.reshape(height, -1, columns).transpose(1, 0, 2)).reshape(-1)

    def packed_columns(self, numbers: np.ndarray, machine: InstructionSet) -> np.ndarray:
        """One number a column, padded as the weights are."""
        columns = self.panel_columns(machine)
        return np.pad(numbers, (0, -self.width % columns))

    def shift(self, weight: np.ndarray, machine: InstructionSet) -> np.ndarray:
        """What has to be added to the integer sums ``(N,)``, since codes are shifted before they are multiplied."""
        sums: np.ndarray = weight.astype(np.int64).sum(axis=0)
        return DOTS[machine.dot].shifted * sums


def linear_function(name: str, layer: Linear, machine: InstructionSet) -> Any:
    """``name(source, weight, scale, ..., scratch, rows)``: all rows of a layer."""
    function = Function(name, ("source", "weight", *POINTERS, "scratch"))
    if layer.epilogue.integer and machine.tiles:
        with function.when(function.rows > tiles.FEWEST_ROWS - 1):
            tiles.tiled(function, layer, layer.panel_columns(machine), layer.panel_height(machine))
        with function.when(function.rows < tiles.FEWEST_ROWS):
            _blocks(function, layer, machine, rows=1)
    else:
        _blocks(function, layer, machine, rows=machine.rows)
    return function.finished()


def _blocks(function: Function, layer: Linear, machine: InstructionSet, *, rows: int) -> None:
    """Panel by panel, block by block of ``rows`` rows; a single row that is left by itself."""
    columns = layer.panel_columns(machine)
    whole, rest = divmod(layer.width, columns)
    kernel = _Kernel(function, layer, machine)
    blocks = function.bind(tirx.floordiv(function.rows + i64(max(rows - 2, 0)), i64(rows)), "blocks")
    for first, count, valid in ((0, whole, columns), (whole, int(rest > 0), rest)):
        if not count:
            continue
        with function.loop(count, name="panel") as number:
            panel = number + i64(first)
            with function.loop(blocks, name="block") as block:
                kernel.emit(panel, block * i64(rows), rows, valid)
            if rows > 1:
                with function.when(function.rows > blocks * i64(rows)):
                    kernel.emit(panel, blocks * i64(rows), 1, valid)


class _Kernel:
    """The block of one layer."""

    def __init__(self, function: Function, layer: Linear, machine: InstructionSet) -> None:
        self._function, self._layer, self._machine = function, layer, machine
        self._scheme: Scheme | None = DOTS[machine.dot] if layer.epilogue.integer else None
        self._columns = layer.panel_columns(machine)
        self._height = layer.panel_height(machine)

    def emit(self, panel: Expr, row: Expr, rows: int, valid: int) -> None:
        """``rows`` rows from ``row`` on, of whose columns in ``panel`` ``valid`` are the layer's."""
        function, lanes = self._function, self._machine.lanes
        vectors = -(-valid // lanes)
        start = spread(i32(0) if self._scheme else f32(0), lanes)
        element = f"int32x{lanes}" if self._scheme else f"float32x{lanes}"
        sums = [[function.variable(element, start) for _ in range(vectors)] for _ in range(rows)]
        together = self._scheme.together if self._scheme else 1
        steps = self._height // together
        whole, rest = divmod(steps, _UNROLLED)
        with function.loop(whole, name="step") as step:
            for at in range(_UNROLLED):
                self._step(sums, panel, row, step * i64(_UNROLLED) + i64(at))
        for at in range(rest):
            self._step(sums, panel, row, i64(whole * _UNROLLED + at))
        for vector in range(vectors):
            column = panel * i64(self._columns) + i64(vector * lanes)
            given = self._layer.epilogue.columns(function, column, lanes)
            for at in range(rows):
                left = valid - vector * lanes
                self._layer.epilogue.finish(function, sums[at][vector].value, given, row + i64(at), column, lanes, left)

    def _step(self, sums: list[list[Variable]], panel: Expr, row: Expr, step: Expr) -> None:
        function, lanes, scheme = self._function, self._machine.lanes, self._scheme
        together = scheme.together if scheme else 1
        start = (panel * i64(self._height // together) + step) * i64(self._columns * together)
        element, each = (scheme.element, lanes * together) if scheme else ("float32", lanes)
        weights = [
            function.bind(function["weight"].load(element, start + i64(vector * each), each), "weights")
            for vector in range(len(sums[0]))
        ]
        for at, held in enumerate(sums):
            place = (row + i64(at)) * i64(self._layer.stride) + step * i64(together)
            if scheme:
                read = function.bind(scheme.read(function["source"], place, lanes), "codes")
            else:
                read = function.bind(spread(function["source"].load("float32", place), lanes), "value")
            for one, weight in zip(held, weights, strict=True):
                one.set(scheme.add(one.value, read, weight, lanes) if scheme else tirx.op.fma(read, weight, one.value))
