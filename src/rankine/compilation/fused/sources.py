"""What fills a program's inputs: each piece as the native engine takes it, and the arrays of a batch that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rankine import _native
from rankine.compilation.gather import bad_index, stored_array
from rankine.compilation.lookup import inputs_of, native_table
from rankine.errors import BadRequest
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.graph_inputs import REQUEST_COLUMN, GraphInput, Piece, side_by_side, stored_column
from rankine.models.lookup_plan import Source, bad_row, plan_sources
from rankine.models.variant import Model

__all__ = ["Sources", "bind_sources"]

NativeSource = tuple[str, str, int, "_native.Table | None", "str | None", int, int, int, int, int, "int | None", object]
"""Origin, side, number of the array, table, pooling, length, input, column, width, first stored column, first column
of the request's that is added, rounding; see ``native/fused/sources.h``."""


_SIDES = {"request": 0, "item": 1, "pair": 2}
_STORED = _SIDES["item"]


class Sources:
    """The sources of one program.

    Args:
        native: for the engine, in its order.
        features: of each, the feature that it looks up; None where it gathers what was computed before.
        arrays: what a call gives, by number: a feature, or the name of a value stored of an item.
    """

    def __init__(
        self, native: list[NativeSource], features: tuple[Source | None, ...], arrays: tuple[Source | str, ...]
    ) -> None:
        self.native, self.features, self.arrays = native, features, arrays
        self._keys = tuple((_STORED, one) if isinstance(one, str) else (_SIDES[one.side], one.name) for one in arrays)
        self._stored = tuple(number for number, one in enumerate(arrays) if isinstance(one, str))

    def arrays_of(self, batch: Batch) -> list[object]:
        """The arrays that a call on ``batch`` gives.

        Raises:
            BadRequest: the batch lacks a feature.
            EngineError: it lacks what is stored of an item.
        """
        sides = (batch.request, batch.item, batch.pair)
        try:
            found: list[object] = [sides[side][name] for side, name in self._keys]
        except KeyError:
            return [_stored(batch, one) if isinstance(one, str) else _column(one.values(batch)) for one in self.arrays]
        for number in self._stored:
            found[number] = _stored(batch, self._keys[number][1])
        return [_column(one) if isinstance(one, Ragged) else one for one in found]

    def rows(self, batch: Batch) -> int:
        """Rows of the first column that is read.

        Raises:
            BadRequest: the batch lacks it.
        """
        for one in self.arrays:
            if not isinstance(one, str):
                return len(one.values(batch))
        return 0

    def error(self, number: int, row: int, batch: Batch, requests: int) -> BadRequest:
        """The error for a row of which the source ``number`` found an index or an id out of range.

        Args:
            requests: how many there are.
        """
        feature = self.features[number]
        if feature is not None:
            return bad_row(feature, feature.values(batch), feature.index(batch), row)
        stored = self.native[number][1] == "item"
        name = self.arrays[self.native[number][2]] if stored else REQUEST_COLUMN
        items = len(stored_array(batch.item, str(name))) if stored else None
        return bad_index(row, batch, items, requests)


def bind_sources(model: Model, inputs_count: int) -> Sources:
    """What fills the inputs of a model's program, of which there are as many as the model has, or one of all of them
    side by side.

    Raises:
        EngineError: a feature has no table, or a table has a wrong type or shape.
    """
    features = {source.name: source for source in plan_sources(model.schema, model.tables)}
    inputs = inputs_of(features.values(), model.inputs or None)
    if inputs_count == 1 < len(inputs):
        inputs = (side_by_side(inputs),)
    numbers: dict[str, int] = {}
    arrays: list[Source | str] = []
    native: list[NativeSource] = []
    found: list[Source | None] = []
    for number, given, piece in _pieces(inputs):
        feature = None if piece.feature is None else features[piece.feature]
        array: Source | str = feature if feature is not None else stored_column(piece.item or "")
        key = f"feature {feature.name}" if feature is not None else str(array)
        if piece.side != "request" and key not in numbers:
            numbers[key] = len(arrays)
            arrays.append(array)
        position = numbers.get(key, 0)
        native.append(
            _gathered(given, piece, number, position)
            if feature is None
            else _looked_up(feature, piece, number, position)
        )
        found.append(feature)
    return Sources(native, tuple(found), tuple(arrays))


def _pieces(inputs: Sequence[GraphInput]) -> Iterator[tuple[int, GraphInput, Piece]]:
    for number, given in enumerate(inputs):
        for piece in given.pieces:
            yield number, given, piece


def _looked_up(source: Source, piece: Piece, number: int, array: int) -> NativeSource:
    origin = "one"
    if source.table is None:
        origin = "dense"
    elif source.length is not None:
        origin = "sequence"
    elif source.pooling is not None:
        origin = "bag"
    table = None if source.table is None else native_table(source.name, source.table)
    place = (number, piece.column, source.width)
    return (origin, source.side, array, table, source.pooling, source.length or 0, *place, 0, None, None)


def _gathered(given: GraphInput, piece: Piece, number: int, array: int) -> NativeSource:
    rounding = given.rounding
    how = None if rounding is None else (rounding.step, float(rounding.zero), rounding.zero if rounding.relu else 0.0)
    place = (number, piece.column, piece.width)
    if piece.item is None:
        return ("stored", "request", 0, None, None, 0, *place, piece.request or 0, None, how)
    return ("stored", "item", array, None, None, 0, *place, piece.item_start, piece.request, how)


def _column(column: Column) -> object:
    return (column.values, column.offsets, column.weights) if isinstance(column, Ragged) else column


def _stored(batch: Batch, name: str) -> object:
    rows = stored_array(batch.item, name)
    if rows.dtype != np.uint8:
        return rows
    return rows, stored_array(batch.item, f"{name}.scale"), stored_array(batch.item, f"{name}.bias")
