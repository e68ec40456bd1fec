"""The host's table lookup: a batch's ids and numbers become the float rows that the dense graph reads.

The loops are native (:mod:`rankine._native`): they check every id before it is used, read mapped tables in place and
release the GIL. What is left here is the order of the features and the errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from rankine import _native
from rankine.compilation.gather import Fill, gather
from rankine.errors import EngineError
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.graph_inputs import GraphInput, Piece
from rankine.models.lookup_plan import Source, bad_row, plan_sources
from rankine.models.schema import Schema
from rankine.models.tables import AnyTable, MixedTable, QuotientRemainderTable, Table
from rankine.models.variant import Model

__all__ = ["HostLookup", "inputs_of", "native_table", "open_lookup"]

Write = Callable[..., int]
"""``write(values, index, out, first_column)`` returns the first bad row, else -1."""
DType = type[np.float32] | type[np.uint8]
"""Of an input."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One piece: of which input, and from which column on, there and in all inputs side by side."""

    fill: Fill
    number: int
    column: int
    packed: int


class HostLookup:
    """Writes what a graph reads of a batch; thread-safe, since it keeps nothing of a batch.

    Args:
        schema: gives the features and their order.
        tables: by table name; mapped arrays are read in place.
        inputs: of the graph; by default one a feature.

    Attributes:
        names, widths, dtypes: of the inputs.
        width: of all of them side by side.

    Raises:
        EngineError: a feature has no table, or a table has a wrong type or shape.
    """

    def __init__(
        self, schema: Schema, tables: Mapping[str, AnyTable], inputs: Sequence[GraphInput] | None = None
    ) -> None:
        self._row_numbers = np.arange(1024, dtype=np.int32)
        sources = {source.name: source for source in plan_sources(schema, tables)}
        fills = {name: partial(self._look_up, source, _writer(source)) for name, source in sources.items()}
        given = inputs_of(sources.values(), inputs)
        self.names = tuple(one.name for one in given)
        self.widths = tuple(one.width for one in given)
        self.dtypes = tuple(one.dtype for one in given)
        self.width = sum(self.widths)
        starts = np.cumsum([0, *self.widths])
        self._steps = tuple(
            _Step(
                gather(piece, one.rounding) if piece.feature is None else fills[piece.feature],
                number,
                piece.column,
                int(start),
            )
            for number, one in enumerate(given)
            for piece, start in ((piece, starts[number] + piece.column) for piece in one.pieces)
        )

    def run(self, batch: Batch, out: np.ndarray) -> None:
        """Write all inputs, side by side in their order, to ``out``: float32 ``(rows, width)``, contiguous.

        Raises:
            BadRequest: an index or id is out of range, or a column is missing; names the feature.
            EngineError: an array has a wrong type, shape or order.
        """
        for step in self._steps:
            step.fill(batch, out, step.packed)

    def run_each(self, batch: Batch, outs: Sequence[np.ndarray]) -> None:
        """As :meth:`run`, with one array ``(rows, width of the input)`` per input."""
        for step in self._steps:
            step.fill(batch, outs[step.number], step.column)

    def arrays_of(self, names: tuple[str, ...]) -> Sequence[tuple[int, DType]]:
        """Width and type of each input of a graph as an engine has opened it: these, or one of all of them.

        Raises:
            EngineError: it has others.
        """
        if len(names) == 1:
            return ((self.width, self.dtypes[0]),)
        if names != self.names:
            got, allowed = ", ".join(names), ", ".join(self.names)
            raise EngineError("the graph's inputs are not what the model gives", got=got, allowed=allowed)
        return tuple(zip(self.widths, self.dtypes, strict=True))

    def _look_up(self, source: Source, write: Write, batch: Batch, out: np.ndarray, column: int) -> None:
        index = self._rows(batch.rows) if source.side == "pair" else source.index(batch)
        values = source.values(batch)
        try:
            bad = write(values, index, out, column)
        except (TypeError, ValueError, AttributeError) as error:
            raise EngineError(
                "the batch does not have the arrays that the lookup reads",
                where=source.name,
                got=str(error),
                allowed="int32 ids, offsets and indices, float32 values, all contiguous",
            ) from None
        if bad >= 0:
            raise bad_row(source, values, index, bad)

    def _rows(self, rows: int) -> np.ndarray:
        """Row numbers ``(rows,)``: a slice of one array that only ever grows (replaced whole, so threads are safe)."""
        numbers = self._row_numbers
        if rows > len(numbers):
            numbers = self._row_numbers = np.arange(2 * rows, dtype=np.int32)
        return numbers[:rows]


def open_lookup(model: Model) -> HostLookup:
    """The lookup of what a model's graph reads."""
    return HostLookup(model.schema, model.tables, model.inputs or None)


def inputs_of(sources: Iterable[Source], given: Sequence[GraphInput] | None) -> tuple[GraphInput, ...]:
    """What a graph reads: what is given, else one input a feature."""
    if given is not None:
        return tuple(given)
    return tuple(
        GraphInput(name=source.name, pieces=(Piece(column=0, width=source.width, feature=source.name),))
        for source in sources
    )


def _writer(source: Source) -> Write:
    if source.table is None:
        return _native.gather_dense
    table = native_table(source.name, source.table)
    if source.length is not None:
        return partial(_write_lists, _native.lookup_sequence, table, source.length)
    if source.pooling is not None:
        return partial(_write_lists, _native.lookup_bag, table, source.pooling)
    return partial(_native.lookup_one, table)


def native_table(name: str, table: AnyTable) -> _native.Table:
    """The table of feature ``name`` for the kernels, which read its arrays in place.

    Raises:
        EngineError: its arrays have a wrong type or shape.
    """
    try:
        return _native_table(table)
    except (TypeError, ValueError) as error:
        allowed = "contiguous arrays that fit each other"
        raise EngineError("a table cannot be read", where=name, got=str(error), allowed=allowed) from None


def _native_table(table: AnyTable) -> _native.Table:
    match table:
        case Table():
            return _native.plain_table(table.rows, table.scale, table.bias, table.columns)
        case MixedTable():
            hot, cold = _native_table(table.hot), _native_table(table.cold)
            return _native.mixed_table(hot, cold, table.bitmap, table.ranks, table.count)
        case QuotientRemainderTable():
            quotient, remainder = _native_table(table.quotient), _native_table(table.remainder)
            return _native.quotient_remainder_table(quotient, remainder, table.count, table.combine)


def _write_lists(
    kernel: Write, table: _native.Table, how: str | int, ragged: Column, index: np.ndarray, out: np.ndarray, column: int
) -> int:
    """``how``: the pooling of a bag, the length of a sequence; the last argument of either kernel."""
    if not isinstance(ragged, Ragged):
        raise TypeError("values: must be ragged, one list a row")
    return kernel(table, ragged.values, ragged.offsets, ragged.weights, index, out, column, how)
