"""A batch in shared memory: its arrays one after the other, the room for its logits, and behind them a description."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import msgspec
import numpy as np

from rankine.errors import BadRequest
from rankine.models.columns import Batch, Column, Columns, Ragged, row_count, take
from rankine.serving.isolation.region import Place, Region, aligned, array_at, place_arrays

__all__ = [
    "NO_TABLE",
    "ColumnPlace",
    "Frame",
    "arrays_of",
    "column_from",
    "compacted",
    "pack",
    "place_columns",
    "unpack",
]

NO_TABLE = 0
"""The items of a frame travel with it."""


class ColumnPlace(msgspec.Struct, array_like=True, frozen=True):
    """A column and its one array; of a ragged one values, offsets and, where there are any, weights."""

    name: str
    parts: tuple[Place, ...]


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """Description of a batch.

    Attributes:
        rung: number of the variant that is to run it.
        table: number of the item table that was sent before; ``item`` is empty then.
        request_index, item_index: of the batch. ``out``: where its logits are wanted.
    """

    rung: int
    table: int
    request: tuple[ColumnPlace, ...]
    item: tuple[ColumnPlace, ...]
    pair: tuple[ColumnPlace, ...]
    request_index: Place
    item_index: Place
    out: Place


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Frame)


def pack(
    region: Region, batch: Batch, *, rung: int, table: int = NO_TABLE, out: np.ndarray
) -> tuple[np.ndarray, int, int]:
    """Write a batch, whose items travel with it unless they lie in a ``table`` that the other side has.

    Args:
        out: ``(rows, tasks)``, whose shape alone counts.

    Returns:
        ``logits, start, length``: where the logits will lie, in shared memory; and the bytes of the description.
    """
    item: Columns = {} if table else batch.item
    arrays = [*arrays_of(batch.request), *arrays_of(item), *arrays_of(batch.pair)]
    arrays += [batch.request_index, batch.item_index, out]
    places, end = place_arrays(arrays, 0)
    left = iter(places)
    frame = Frame(
        rung, table, place_columns(batch.request, left), place_columns(item, left), place_columns(batch.pair, left),
        next(left), next(left), next(left),
    )  # fmt: skip
    described = _ENCODER.encode(frame)
    start = aligned(end)
    region.ensure(start + len(described))
    for array, place in zip(arrays[:-1], places, strict=False):
        array_at(region.memory, place)[...] = array
    region.memory[start : start + len(described)] = described
    return array_at(region.memory, frame.out), start, len(described)


def unpack(region: Region, start: int, length: int) -> tuple[Frame, Batch, np.ndarray]:
    """The description, the batch (without items that lie in a table), and the array for its logits."""
    memory = region.memory
    frame = _DECODER.decode(memory[start : start + length])
    request, item, pair = (
        {one.name: column_from([array_at(memory, place) for place in one.parts]) for one in columns}
        for columns in (frame.request, frame.item, frame.pair)
    )
    index = array_at(memory, frame.request_index), array_at(memory, frame.item_index)
    return frame, Batch(request, item, pair, *index), array_at(memory, frame.out)


def compacted(batch: Batch) -> Batch:
    """The batch over a table of the items that it uses, where it refers to a larger one.

    Raises:
        BadRequest: an index is out of range.
    """
    count = row_count(batch.item)
    if count <= batch.rows:
        return batch
    used, index = np.unique(batch.item_index, return_inverse=True)
    if len(used) and not 0 <= used[0] <= used[-1] < count:
        wrong = int(used[0] if used[0] < 0 else used[-1])
        message = "the row's item index is out of range"
        raise BadRequest(message, where="item_index", got=wrong, allowed=f"0..{count - 1}")
    return replace(batch, item=take(batch.item, used), item_index=index.astype(np.int32))


def arrays_of(columns: Columns) -> list[np.ndarray]:
    """The arrays of all columns, in their order."""
    found: list[np.ndarray] = []
    for column in columns.values():
        if not isinstance(column, Ragged):
            found.append(column)
            continue
        found += (column.values, column.offsets)
        if column.weights is not None:
            found.append(column.weights)
    return found


def place_columns(columns: Columns, places: Iterator[Place]) -> tuple[ColumnPlace, ...]:
    """Columns with the places of their arrays, which come in the order of :func:`arrays_of`."""
    found: list[ColumnPlace] = []
    for name, column in columns.items():
        count = 1 if not isinstance(column, Ragged) else 2 if column.weights is None else 3
        found.append(ColumnPlace(name, tuple(islice(places, count))))
    return tuple(found)


def column_from(parts: Sequence[np.ndarray]) -> Column:
    """The column of these arrays."""
    return parts[0] if len(parts) == 1 else Ragged(*parts)
