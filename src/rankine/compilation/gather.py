"""What was computed ahead of time, gathered into an engine's input: slices of an item's row, of a request's, or of both
added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rankine import _native
from rankine.errors import BadRequest, EngineError
from rankine.models.columns import Batch, Columns
from rankine.models.graph_inputs import REQUEST_COLUMN, Piece, stored_column

__all__ = ["Fill", "gather"]


class Fill(Protocol):
    """Writes what one piece of a graph's input holds."""

    def __call__(self, batch: Batch, out: np.ndarray, column: int) -> None: ...


def gather(piece: Piece) -> Fill:
    """Of a piece that is no feature."""
    if piece.item is None:
        return _OfRequest(piece.request or 0, piece.width)
    name = stored_column(piece.item)
    return _OfItem(name, f"{name}.scale", f"{name}.bias", piece.item_start, piece.request, piece.width)


@dataclass(frozen=True, slots=True)
class _OfRequest:
    start: int
    width: int

    def __call__(self, batch: Batch, out: np.ndarray, column: int) -> None:
        rows, index = _array(batch.request, REQUEST_COLUMN), batch.request_index
        bad = _native.gather_slice(rows, None, None, self.start, self.width, index, out, column, None, None, 0)
        if bad >= 0:
            raise _bad_row(bad, batch)


@dataclass(frozen=True, slots=True)
class _OfItem:
    """Attributes:
    request: first column of what is added; None where nothing is.
    """

    name: str
    scale: str
    bias: str
    start: int
    request: int | None
    width: int

    def __call__(self, batch: Batch, out: np.ndarray, column: int) -> None:
        rows = _array(batch.item, self.name)
        scale = bias = added = added_index = None
        if rows.dtype == np.uint8:
            scale, bias = _array(batch.item, self.scale), _array(batch.item, self.bias)
        if self.request is not None:
            added, added_index = _array(batch.request, REQUEST_COLUMN), batch.request_index
        index, start = batch.item_index, self.request or 0
        bad = _native.gather_slice(
            rows, scale, bias, self.start, self.width, index, out, column, added, added_index, start
        )
        if bad >= 0:
            raise _bad_row(bad, batch)


def _array(columns: Columns, name: str) -> np.ndarray:
    found = columns.get(name)
    if not isinstance(found, np.ndarray):
        raise EngineError("the batch lacks what was computed ahead of time", where=name, got=", ".join(columns))
    return found


def _bad_row(row: int, batch: Batch) -> BadRequest:
    got = f"item {int(batch.item_index[row])}, request {int(batch.request_index[row])}"
    return BadRequest("the row's item or request index is out of range", where=f"row {row} of the batch", got=got)
