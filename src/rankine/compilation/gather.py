"""What was computed ahead of time, gathered into an engine's input: slices of an item's row, of a request's, or of both
added up."""

from __future__ import annotations

from functools import partial
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
    if piece.side == "request":
        return partial(_of_request, piece)
    return partial(_of_item, piece)


def _of_request(piece: Piece, batch: Batch, out: np.ndarray, column: int) -> None:
    rows, index = _array(batch.request, REQUEST_COLUMN), batch.request_index
    _check(
        _native.gather_slice(rows, None, None, piece.request or 0, piece.width, index, out, column, *_NOTHING), batch
    )


def _of_item(piece: Piece, batch: Batch, out: np.ndarray, column: int) -> None:
    name = stored_column(piece.item or "")
    rows = _array(batch.item, name)
    scale = bias = None
    if rows.dtype == np.uint8:
        scale, bias = (_array(batch.item, name + part) for part in (".scale", ".bias"))
    added = _NOTHING
    if piece.request is not None:
        added = _array(batch.request, REQUEST_COLUMN), batch.request_index, piece.request
    _check(_native.gather_slice(rows, scale, bias, 0, piece.width, batch.item_index, out, column, *added), batch)


_NOTHING: tuple[np.ndarray | None, np.ndarray | None, int] = (None, None, 0)


def _array(columns: Columns, name: str) -> np.ndarray:
    found = columns.get(name)
    if not isinstance(found, np.ndarray):
        raise EngineError("the batch lacks what was computed ahead of time", where=name, got=", ".join(columns))
    return found


def _check(bad: int, batch: Batch) -> None:
    """Refuse a batch whose row ``bad`` has an index out of range; -1 for none."""
    if bad >= 0:
        got = f"item {int(batch.item_index[bad])}, request {int(batch.request_index[bad])}"
        where = f"row {bad} of the batch"
        raise BadRequest("the row's item or request index is out of range", where=where, got=got)
