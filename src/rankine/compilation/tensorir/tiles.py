"""Integer layers of many rows on AMX: tiles of 16 rows and 64 codes times tiles of 64 by 16 weights.

The weights lie as for ``vpdpbusd``: a tile of them is 16 columns of a panel. Two by two sums take four of the eight
tile registers; each tile that is read serves two products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankine.compilation.tensorir.library import tirx
from rankine.compilation.tensorir.nodes import Expr, Function, i64

if TYPE_CHECKING:
    from rankine.compilation.tensorir.linear import Linear

__all__ = ["CONFIGURATION", "DEPTH", "FEWEST_ROWS", "ROWS", "SCRATCH_BYTES", "tiled"]

ROWS = 16
"""Of a tile."""
DEPTH = 64
"""Codes of a row in a tile."""
FEWEST_ROWS = 4
"""From here on tiles are faster, although the rows that are missing are computed too."""
_LANES = 16
_SOURCE, _WEIGHT = 4, 6
"""First tile registers of what is multiplied; sums begin at 0."""
SCRATCH_BYTES = 2 * 2 * ROWS * _LANES * 4


def _configuration() -> np.ndarray:
    """What ``ldtilecfg`` reads: eight registers of 16 rows and 64 bytes a row."""
    found = np.zeros(64, np.uint8)
    found[0] = 1
    found[16:32].view(np.uint16)[:] = 64
    found[48:56] = ROWS
    return found


CONFIGURATION = _configuration()


def tiled(function: Function, layer: Linear, columns: int, height: int) -> None:
    """All rows of a layer, rounded up to whole tiles.

    Args:
        columns, height: of a panel.
    """
    wide = min(2, columns // _LANES)
    chunk = wide * _LANES
    whole, rest = divmod(layer.width, chunk)
    tiles = function.bind(tirx.floordiv(function.rows + i64(ROWS - 1), i64(ROWS)), "tiles")
    pairs = function.bind(tirx.floordiv(tiles, i64(2)), "pairs")
    for first, count, valid in ((0, whole, chunk), (whole, int(rest > 0), rest)):
        if not count:
            continue
        with function.loop(count, name="chunk") as number:
            column = (number + i64(first)) * i64(chunk)
            block = _Block(function, layer, columns, height, column, valid)
            with function.loop(pairs, name="pair") as pair:
                block.emit(pair * i64(2 * ROWS), 2)
            with function.when(tiles > pairs * i64(2)):
                block.emit(pairs * i64(2 * ROWS), 1)


class _Block:
    """The sums of one or two tiles of rows, and of one or two tiles of columns from ``column`` on."""

    def __init__(self, function: Function, layer: Linear, columns: int, height: int, column: Expr, valid: int) -> None:
        self._function, self._layer, self._column, self._valid = function, layer, column, valid
        self._wide = -(-valid // _LANES)
        self._across = columns * 4
        panel = tirx.floordiv(column, i64(columns))
        self._weight = panel * i64(columns * height) + (column - panel * i64(columns)) * i64(4)

    def emit(self, row: Expr, high: int) -> None:
        function, layer = self._function, self._layer
        sums = [(down, right) for down in range(high) for right in range(self._wide)]
        for down, right in sums:
            function.instruction("llvm.x86.tilezero", _tile(2 * down + right))
        with function.loop(-(-layer.inner // DEPTH), name="step") as step:
            for down in range(high):
                place = (row + i64(down * ROWS)) * i64(layer.stride) + step * i64(DEPTH)
                self._load(_SOURCE + down, "source", place, layer.stride)
            for right in range(self._wide):
                place = self._weight + step * i64(DEPTH // 4 * self._across) + i64(right * _LANES * 4)
                self._load(_WEIGHT + right, "weight", place, self._across)
            for down, right in sums:
                numbers = _tile(2 * down + right), _tile(_SOURCE + down), _tile(_WEIGHT + right)
                function.instruction("llvm.x86.tdpbusd", *numbers)
        across = 2 * _LANES
        for down, right in sums:
            place = function["scratch"].address("int32", i64(down * ROWS * across + right * _LANES))
            function.instruction("llvm.x86.tilestored64", _tile(2 * down + right), place, i64(4 * across))
        self._finish(row, high * ROWS, across)

    def _load(self, tile: int, pointer: str, place: Expr, stride: int) -> None:
        address = self._function[pointer].address("uint8", place)
        self._function.instruction("llvm.x86.tileloadd64", _tile(tile), address, i64(stride))

    def _finish(self, row: Expr, rows: int, across: int) -> None:
        function, epilogue = self._function, self._layer.epilogue
        columns = [self._column + i64(right * _LANES) for right in range(self._wide)]
        given = [epilogue.columns(function, column, _LANES) for column in columns]
        with function.loop(rows, name="row") as at:
            for right, column in enumerate(columns):
                sums = function["scratch"].load("int32", at * i64(across) + i64(right * _LANES), _LANES)
                left = self._valid - right * _LANES
                epilogue.finish(function, function.bind(sums), given[right], row + at, column, _LANES, left)


def _tile(number: int) -> Expr:
    return tirx.const(number, "int8")
