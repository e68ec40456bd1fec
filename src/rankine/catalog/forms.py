"""In which form a column lies in files: one array, or the parts of a ragged one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from rankine.models.columns import Column, Columns, Ragged

__all__ = ["PARTS", "Form", "column_from", "form_of", "named_parts", "parts_of"]

Form = Literal["plain", "ragged", "weighted"]

PARTS: Mapping[Form, tuple[str, ...]] = {
    "plain": ("",),
    "ragged": (".values", ".offsets"),
    "weighted": (".values", ".offsets", ".weights"),
}
"""What is appended to a column's name to name each of its arrays."""


def form_of(column: Column) -> Form:
    """Plain, ragged, or ragged with weights."""
    if not isinstance(column, Ragged):
        return "plain"
    return "ragged" if column.weights is None else "weighted"


def parts_of(column: Column) -> tuple[np.ndarray, ...]:
    """The arrays of a column, in the order of :data:`PARTS`."""
    if not isinstance(column, Ragged):
        return (column,)
    found = (column.values, column.offsets)
    return found if column.weights is None else (*found, column.weights)


def named_parts(columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of all columns, each under its own name."""
    for name, column in columns.items():
        for suffix, part in zip(PARTS[form_of(column)], parts_of(column), strict=True):
            yield name + suffix, part


def column_from(parts: Sequence[np.ndarray]) -> Column:
    """The column of these arrays: what :func:`parts_of` took apart."""
    return parts[0] if len(parts) == 1 else Ragged(*parts)
