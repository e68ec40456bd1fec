"""Derived columns: what a variant's catalog graph says of an item, stored so that no request computes it again.

Who computes them is not this stage's business: a :class:`Deriver` says what it gives and gives it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pydantic import Field

from rankine.compilation.binding.costs import Storage
from rankine.compilation.binding.storage import STORED_PARTS, stored
from rankine.config import Frozen
from rankine.errors import EngineError
from rankine.models.columns import Column, Columns
from rankine.models.tables import Table

__all__ = ["Derive", "DerivedKey", "Deriver", "Storage", "column_names", "derive", "tables_of"]

_ROWS = ".rows"
"""Follows a column's name in the name of its rows' file, as with tables: in a batch nothing does."""


class DerivedKey(Frozen):
    """Whose derived columns: of a variant, by a catalog graph, in a storage type.

    Attributes:
        graph: hash of all that decides the values: the catalog graph, the tables it reads and the transforms.
        storage: INT8 is a row of ``uint8`` with a float32 scale and bias, as in tables.
    """

    variant: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    graph: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    storage: Storage

    def __str__(self) -> str:
        return f"{self.variant}/{self.graph[:16]}/{self.storage}"


class Derive(Protocol):
    """Computes derived columns of items, each item for itself: the same whichever others are beside it."""

    def __call__(self, items: Columns, /) -> Mapping[str, np.ndarray]:
        """Float columns ``(n, width)`` by name, of ``n`` encoded items (static item features, as transforms give)."""
        ...


@dataclass(frozen=True, slots=True)
class Deriver:
    """What is stored of every item for one variant.

    Attributes:
        key: names it.
        widths: values an item of each column.
        compute: gives exactly these columns.
    """

    key: DerivedKey
    widths: Mapping[str, int]
    compute: Derive


def column_names(key: DerivedKey, column: str) -> list[str]:
    """Names under which the arrays of a derived column are stored, in the order of ``STORED_PARTS``."""
    stem = f"derived/{key.variant}/{key.graph}/{key.storage}/{column}"
    return [stem + (part or _ROWS) for part in STORED_PARTS[key.storage]]


def derive(derivers: Sequence[Deriver], items: Columns, count: int) -> dict[str, Column]:
    """What all ``derivers`` store of ``count`` encoded items, by the names of :func:`column_names`.

    Raises:
        EngineError: one gives other columns than it says, or a value that its storage type cannot hold.
    """
    return {name: array for deriver in derivers for name, array in _derived(deriver, items, count)}


def tables_of(key: DerivedKey, widths: Mapping[str, int], columns: Columns) -> dict[str, Table]:
    """Derived columns, as stored under the names of :func:`column_names`, as tables with one row an item."""
    found = {}
    for column in widths:
        parts = [part for name in column_names(key, column) if isinstance(part := columns[name], np.ndarray)]
        found[column] = Table(parts[0], parts[1], parts[2]) if key.storage == "int8" else Table(parts[0])
    return found


def _derived(deriver: Deriver, items: Columns, count: int) -> Iterator[tuple[str, np.ndarray]]:
    given = deriver.compute(items)
    if set(given) != set(deriver.widths):
        got, allowed = ", ".join(sorted(given)), ", ".join(sorted(deriver.widths))
        raise EngineError("the catalog graph gives other columns", where=str(deriver.key), got=got, allowed=allowed)
    for column, width in deriver.widths.items():
        values, where = given[column], f"{deriver.key}: {column}"
        if values.shape != (count, width):
            got = f"shape {values.shape}"
            raise EngineError("a derived column has the wrong shape", where=where, got=got, allowed=f"{count, width}")
        parts = stored(values, deriver.key.storage, where)
        yield from zip(column_names(deriver.key, column), parts.values(), strict=True)
