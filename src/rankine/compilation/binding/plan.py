"""What the split of a model came to: what is stored an item, computed a request and gathered a row."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from rankine.compilation.binding.costs import BYTES_OF, SCALE_BYTES, CostModel, Storage
from rankine.config import Frozen

__all__ = ["BindingPlan", "Column", "Settings", "Work", "pays"]

_LEAST_SAVED = 0.1
"""Of the multiply-adds of a row. A call in parts has a fixed cost that one of the whole graph does not have."""


class Settings(Frozen):
    """How a model is to be split.

    Attributes:
        storage: of the values that are stored an item; anything but float32 changes scores and needs a certificate.
        catalog_bytes: the most that all items' values may take; None for no limit.
        items: in the catalog: what ``catalog_bytes`` is divided by.
    """

    storage: Storage = "float32"
    catalog_bytes: int | None = Field(default=None, ge=0)
    items: int = Field(default=1, ge=1)
    costs: CostModel = CostModel()


class Column(Frozen):
    """One value that the candidate's graph reads.

    Attributes:
        name: of the graph's input.
        source: ``input`` where it is a feature as the lookup gives it, ``computed`` where the graph of the catalog or
            the request gives it.
        shape: of one row.
        storage: of what is stored; ``float32`` where nothing is.
    """

    name: str
    source: Literal["input", "computed"]
    shape: tuple[int, ...]
    storage: Storage = "float32"

    @property
    def width(self) -> int:
        """Elements of one row."""
        return math.prod(self.shape)

    @property
    def bytes_per_row(self) -> int:
        """As it is stored and moved; INT8 with a scale and a bias a row."""
        return self.width * BYTES_OF[self.storage] + (SCALE_BYTES if self.storage == "int8" else 0)


class Work(Frozen):
    """Multiply-adds: ``catalog`` once an item, ``request`` once a request, ``candidate`` and ``before`` once a row."""

    before: int
    catalog: int
    request: int
    candidate: int

    @property
    def share(self) -> float:
        """Of the multiply-adds a row, what is left."""
        return self.candidate / self.before if self.before else 1.0


class BindingPlan(Frozen):
    """How a request is scored with the parts.

    Attributes:
        catalog: columns gathered by ``item_index``: stored where computed.
        request: columns gathered by ``request_index``.
        row: inputs given for every row: pair features and live item features.
        catalog_inputs, request_inputs: features that the two graphs read.
        bytes_before: that a row's features take.
        kept_whole: why parts of the model could not be split.
    """

    schema_version: Literal[1] = 1
    catalog: tuple[Column, ...]
    request: tuple[Column, ...]
    row: tuple[Column, ...]
    catalog_inputs: tuple[str, ...]
    request_inputs: tuple[str, ...]
    work: Work
    bytes_before: int
    kept_whole: tuple[str, ...] = ()

    @property
    def stored(self) -> tuple[Column, ...]:
        """What the catalog holds beside the raw features."""
        return tuple(column for column in self.catalog if column.source == "computed")

    @property
    def stored_bytes_per_item(self) -> int:
        return sum(column.bytes_per_row for column in self.stored)

    @property
    def bytes_per_row(self) -> int:
        """That a row gathers, of the item, the request and the row itself."""
        return sum(column.bytes_per_row for column in (*self.catalog, *self.request, *self.row))


def pays(before: int, candidate: int) -> bool:
    """Whether a variant is worth a call in parts, by its multiply-adds of a row before and in parts."""
    return candidate <= (1.0 - _LEAST_SAVED) * before
