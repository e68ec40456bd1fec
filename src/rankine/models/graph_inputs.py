"""What a graph reads where that is not one input a feature: slices of rows that were computed ahead of time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rankine.config import Frozen

__all__ = ["REQUEST_COLUMN", "GraphInput", "Piece", "stored_column"]

REQUEST_COLUMN = "rankine.request"
"""Of a batch's requests: what a model computes once a request, float32 ``(requests, width)``."""


class Piece(Frozen):
    """Columns ``[column, column + width)`` of a graph's input, and where they come from.

    Attributes:
        feature: name of a feature, as the lookup gives it; None where the piece is gathered.
        item: which of the values stored of an item, and ``item_start``, its first column; added to the request's where
            both are given.
        request: first column in the row of the request.
    """

    column: int = Field(ge=0)
    width: int = Field(ge=1)
    feature: str | None = None
    item: str | None = None
    item_start: int = 0
    request: int | None = None

    @property
    def side(self) -> Literal["feature", "item", "request", "both"]:
        """Where it is gathered from."""
        if self.feature is not None:
            return "feature"
        if self.item is None:
            return "request"
        return "item" if self.request is None else "both"


class GraphInput(Frozen):
    """One input, float32 ``(rows, width)``, by its pieces, which fill it."""

    name: str
    pieces: tuple[Piece, ...]

    @property
    def width(self) -> int:
        return sum(piece.width for piece in self.pieces)


def stored_column(item: str) -> str:
    """Column of a batch's items with a value that a model computes of an item ahead of time, ``(items, width)``.

    Where it is stored in INT8, columns with ``.scale`` and ``.bias`` after the name lie beside it, ``(items,)``.
    """
    return f"rankine.catalog.{item}"
