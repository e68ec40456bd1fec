"""What a graph reads where that is not one input a feature: slices of rows that were computed ahead of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from rankine.config import Frozen

__all__ = ["REQUEST_COLUMN", "GraphInput", "Piece", "Rounding", "side_by_side", "stored_column"]

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


class Rounding(Frozen):
    """Of an input whose first reader would round it, as ``QuantizeLinear`` does: to ``clamp(round(x / step) + zero)``.

    Attributes:
        relu: whether ``x`` is raised to zero before.
    """

    step: float = Field(gt=0)
    zero: int = Field(ge=0, le=255)
    relu: bool = False


class GraphInput(Frozen):
    """One input, ``(rows, width)``, by its pieces, which fill it.

    It is float32, or uint8 where it is rounded; then it has one piece, which is no feature.
    """

    name: str
    pieces: tuple[Piece, ...]
    rounding: Rounding | None = None

    @property
    def dtype(self) -> type[np.float32] | type[np.uint8]:
        return np.float32 if self.rounding is None else np.uint8

    @property
    def width(self) -> int:
        return sum(piece.width for piece in self.pieces)


def side_by_side(inputs: Sequence[GraphInput]) -> GraphInput:
    """Inputs as one, as a graph reads them whose inputs were packed; it has the name of the first."""
    pieces: list[Piece] = []
    start = 0
    for given in inputs:
        pieces += [piece.model_copy(update={"column": start + piece.column}) for piece in given.pieces]
        start += given.width
    return GraphInput(name=inputs[0].name, pieces=tuple(pieces))


def stored_column(item: str) -> str:
    """Column of a batch's items with a value that a model computes of an item ahead of time, ``(items, width)``.

    Where it is stored in INT8, columns with ``.scale`` and ``.bias`` after the name lie beside it, ``(items,)``.
    """
    return f"rankine.catalog.{item}"
