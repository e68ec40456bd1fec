"""Where each feature's values come from, and the errors of a bad id: shared by the native and the NumPy lookup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rankine.errors import BadRequest, EngineError, did_you_mean
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.schema import DenseFeature, Feature, MultiHotFeature, Schema, SequenceFeature
from rankine.models.tables import AnyTable
from rankine.models.transforms import table_of

__all__ = ["Source", "bad_row", "input_width", "plan_sources", "wrong_lists"]


@dataclass(frozen=True, slots=True)
class Source:
    """One feature as the lookup reads it.

    Attributes:
        name: of the feature.
        side: which columns of the batch hold it: ``pair`` also for live item features.
        table: its embedding table; None for a dense feature.
        pooling: of a multi-hot feature, else None.
        length: most values of a sequence, whose width is ``length * dim + 1`` (its embeddings, zero after the last
            value, then the number of values); else None.
        column, width: its slice of the concatenation of all features.
    """

    name: str
    side: Literal["request", "item", "pair"]
    table: AnyTable | None
    pooling: Literal["mean", "sum", "max"] | None
    length: int | None
    column: int
    width: int

    def index(self, batch: Batch) -> np.ndarray:
        """``(rows,)``: which row of its column each row of the batch reads."""
        if self.side == "request":
            return batch.request_index
        if self.side == "item":
            return batch.item_index
        return np.arange(batch.rows, dtype=np.int32)

    def values(self, batch: Batch) -> Column:
        """The feature's column.

        Raises:
            BadRequest: the batch does not have it.
        """
        columns = batch.request if self.side == "request" else batch.item if self.side == "item" else batch.pair
        try:
            return columns[self.name]
        except KeyError:
            raise BadRequest(
                f"the {self.side} columns lack this feature", where=self.name, hint=did_you_mean(self.name, columns)
            ) from None


def plan_sources(schema: Schema, tables: Mapping[str, AnyTable]) -> tuple[Source, ...]:
    """The features of a schema in its order.

    Raises:
        EngineError: a feature has no table, or a table has a wrong type or shape.
    """
    sources = []
    column = 0
    for feature in schema.features:
        table = None if isinstance(feature, DenseFeature) else _checked_table(feature, tables)
        length = feature.max_length if isinstance(feature, SequenceFeature) else None
        sources.append(
            Source(
                name=feature.name,
                side="pair" if feature.per_row else feature.side,
                table=table,
                pooling=feature.pooling if isinstance(feature, MultiHotFeature) else None,
                length=length,
                column=column,
                width=input_width(feature, 0 if table is None else table.dim),
            )
        )
        column += sources[-1].width
    return tuple(sources)


def input_width(feature: Feature, dim: int) -> int:
    """Columns of the dense graph's input for a feature whose table has ``dim`` columns."""
    match feature:
        case DenseFeature(width=width):
            return width
        case SequenceFeature(max_length=length):
            return length * dim + 1
        case _:
            return dim


def wrong_lists(source: Source, column: Ragged, index: np.ndarray) -> np.ndarray:
    """Rows whose list has offsets out of order or range, or is longer than its sequence; bool ``(rows,)``.

    Args:
        index: ``(rows,)`` within the column.
    """
    starts, ends = column.offsets[index], column.offsets[index + 1]
    wrong: np.ndarray = (starts < 0) | (ends < starts) | (ends > len(column.values))
    return wrong if source.length is None else wrong | (ends.astype(np.int64) - starts > source.length)


def bad_row(source: Source, values: Column, index: np.ndarray, row: int) -> BadRequest:
    """The error for row ``row``, whose index or ids are out of range."""
    position = int(index[row])
    where = f"{source.name} (row {row} of the batch)"
    if not 0 <= position < len(values):
        allowed = f"0..{len(values) - 1}" if len(values) else "nothing: the column is empty"
        return BadRequest(f"the row's {source.side} index is out of range", where=where, got=position, allowed=allowed)
    if source.table is None:
        return BadRequest("the row's values are not readable", where=where)
    allowed = f"0..{source.table.count - 1}"
    if isinstance(values, Ragged):
        first, last = (int(offset) for offset in values.offsets[position : position + 2])
        if not 0 <= first <= last <= len(values.values):
            limit = f"non-decreasing, within 0..{len(values.values)}"
            return BadRequest("offsets are out of order or range", where=where, got=f"{first}, {last}", allowed=limit)
        if source.length is not None and last - first > source.length:
            return BadRequest("a sequence is too long", where=where, got=last - first, allowed=f"<= {source.length}")
        ids = values.values[first:last]
    else:
        ids = values[position : position + 1]
    wrong = ids[(ids < 0) | (ids >= source.table.count)]
    return BadRequest("id out of range", where=where, got=int(wrong[0]) if len(wrong) else None, allowed=allowed)


def _checked_table(feature: Feature, tables: Mapping[str, AnyTable]) -> AnyTable:
    if isinstance(feature, DenseFeature):
        raise TypeError("a dense feature has no table")
    name = table_of(feature)
    if name not in tables:
        raise EngineError("has no table", where=feature.name, got=name, hint=did_you_mean(name, tables))
    table = tables[name]
    table.check(name)
    return table
