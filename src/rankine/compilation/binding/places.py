"""Where the values that a row gathers lie in the rows of the item and of the request: in the order in which they are
read, so that what is read together is fetched together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rankine.models.graph_inputs import Piece

__all__ = ["Part", "Places"]


@dataclass(frozen=True)
class Part:
    """Columns of an input, by the name of what they hold: a feature, a value of the item or the request, or the sum of
    two such values."""

    width: int
    feature: str | None = None
    item: str | None = None
    request: str | None = None


class Places:
    """Gives values their places as they are first read.

    Args:
        together: whether the values of an item are one row; else each is stored by itself, with a scale of its own.

    Attributes:
        item, request: widths of the values that an item and a request have, in the order of their places.
    """

    def __init__(self, *, together: bool) -> None:
        self.item: dict[str, int] = {}
        self.request: dict[str, int] = {}
        self._together = together

    @property
    def stored(self) -> tuple[int, ...]:
        """Widths of what is stored of an item: of one row, or of each value."""
        widths = tuple(self.item.values())
        return (sum(widths),) if self._together and widths else widths

    def pieces(self, parts: Iterable[Part]) -> tuple[Piece, ...]:
        """The parts of one input; neighbors that are neighbors where they come from too are one piece."""
        found: list[Piece] = []
        column = 0
        for part in parts:
            piece = self._piece(part, column)
            if found and _continues(found[-1], piece):
                piece = found[-1].model_copy(update={"width": found.pop().width + piece.width})
            found.append(piece)
            column += part.width
        return tuple(found)

    def _piece(self, part: Part, column: int) -> Piece:
        if part.feature is not None:
            return Piece(column=column, width=part.width, feature=part.feature)
        item, start, request = None, 0, None
        if part.item is not None:
            place = _place(self.item, part.item, part.width)
            item, start = ("0", place) if self._together else (str(list(self.item).index(part.item)), 0)
        if part.request is not None:
            request = _place(self.request, part.request, part.width)
        return Piece(column=column, width=part.width, item=item, item_start=start, request=request)


def _place(widths: dict[str, int], name: str, width: int) -> int:
    """Where a value begins; at the end of all others where it is new."""
    widths.setdefault(name, width)
    names = list(widths)
    return sum(widths[before] for before in names[: names.index(name)])


def _continues(one: Piece, other: Piece) -> bool:
    if one.side != other.side or one.side == "feature" or one.item != other.item:
        return False
    item_goes_on = one.item is None or other.item_start == one.item_start + one.width
    return item_goes_on and (one.request is None or other.request == one.request + one.width)
