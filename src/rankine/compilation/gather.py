"""What was computed ahead of time, gathered into an engine's input: slices of an item's row, of a request's, or of both
added up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from rankine import _native
from rankine.errors import BadRequest, EngineError
from rankine.models.columns import Batch, Columns
from rankine.models.graph_inputs import REQUEST_COLUMN, Piece, Rounding, stored_column

__all__ = ["Fill", "bad_index", "gather", "stored_array"]


Write = Callable[..., int]
"""A native gather: returns the first bad row, else -1."""


class Fill(Protocol):
    """Writes what one piece of a graph's input holds."""

    def __call__(self, batch: Batch, out: np.ndarray, column: int) -> None:
        """Write the piece of every row of ``batch`` to ``out``, from ``column`` on.

        Raises:
            BadRequest: an index is out of range; names which, and the row.
            EngineError: an array is missing, or has a wrong type, shape or order.
        """


def gather(piece: Piece, rounding: Rounding | None = None) -> Fill:
    """Of a piece that is no feature; into uint8 where it is rounded."""
    write: Write = _native.gather_slice
    if rounding is not None:
        floor = 0.0 if rounding.relu else -np.inf
        write = partial(_native.gather_rounded, floor=floor, step=rounding.step, zero=rounding.zero)
    if piece.item is None:
        return _OfRequest(write, piece.request or 0, piece.width)
    name = stored_column(piece.item)
    return _OfItem(write, name, f"{name}.scale", f"{name}.bias", piece.item_start, piece.request, piece.width)


@dataclass(frozen=True, slots=True)
class _OfRequest:
    write: Write
    start: int
    width: int

    def __call__(self, batch: Batch, out: np.ndarray, column: int) -> None:
        rows, index = stored_array(batch.request, REQUEST_COLUMN), batch.request_index
        try:
            bad = self.write(rows, None, None, self.start, self.width, index, out, column, None, None, 0)
        except (TypeError, ValueError) as error:
            raise _wrong_arrays(REQUEST_COLUMN, error) from None
        if bad >= 0:
            raise bad_index(bad, batch, None, len(rows))


@dataclass(frozen=True, slots=True)
class _OfItem:
    """Attributes:
    request: first column of what is added; None where nothing is.
    """

    write: Write
    name: str
    scale: str
    bias: str
    start: int
    request: int | None
    width: int

    def __call__(self, batch: Batch, out: np.ndarray, column: int) -> None:
        rows = stored_array(batch.item, self.name)
        scale = bias = added = added_index = None
        if rows.dtype == np.uint8:
            scale, bias = stored_array(batch.item, self.scale), stored_array(batch.item, self.bias)
        if self.request is not None:
            added, added_index = stored_array(batch.request, REQUEST_COLUMN), batch.request_index
        index, start = batch.item_index, self.request or 0
        try:
            bad = self.write(rows, scale, bias, self.start, self.width, index, out, column, added, added_index, start)
        except (TypeError, ValueError) as error:
            raise _wrong_arrays(self.name, error) from None
        if bad >= 0:
            raise bad_index(bad, batch, len(rows), 0 if added is None else len(added))


def stored_array(columns: Columns, name: str) -> np.ndarray:
    """What was computed ahead of time, by its column.

    Raises:
        EngineError: the columns lack it.
    """
    found = columns.get(name)
    if not isinstance(found, np.ndarray):
        raise EngineError("the batch lacks what was computed ahead of time", where=name, got=", ".join(columns))
    return found


def _wrong_arrays(name: str, error: Exception) -> EngineError:
    allowed = "rows of float32, float16, or uint8 with scale and bias; int32 indices; contiguous"
    message = "the batch does not have the arrays that are gathered"
    return EngineError(message, where=name, got=str(error), allowed=allowed)


def bad_index(row: int, batch: Batch, items: int | None, requests: int) -> BadRequest:
    """The error for row ``row``, one of whose indices is out of the range of what was gathered from.

    Args:
        items, requests: how many there are; None where no item was gathered.
    """
    item, request = int(batch.item_index[row]), int(batch.request_index[row])
    if items is not None and not 0 <= item < items:
        side, got, count = "item", item, items
    else:
        side, got, count = "request", request, requests
    allowed = f"0..{count - 1}" if count else "nothing: there is none"
    where = f"{side}_index (row {row} of the batch)"
    return BadRequest(f"the row's {side} index is out of range", where=where, got=got, allowed=allowed)
