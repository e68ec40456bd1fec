"""A change is held against what the catalog holds before it is written: every generation is whole, for all variants."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rankine.catalog.change import Change
from rankine.catalog.segment import check_kind
from rankine.catalog.view import View
from rankine.errors import ArtifactError, DataError
from rankine.models.columns import Column, Ragged

__all__ = ["conform"]


def conform(change: Change, view: View, path: Path) -> Change:
    """The change with exactly the columns of the catalog at ``path``, in its shapes.

    Derived columns that the catalog does not hold are left out: they are there after `rankine catalog build`.

    Raises:
        DataError: the ids are of the other type, there are none, or a feature is missing, unknown or of another form.
        ArtifactError: a derived column is missing.
    """
    base = view.segments[0]
    if not len(change.ids):
        raise DataError("there are no items", where="ids", got="0 ids")
    check_kind(change.ids, base.ids)
    if change.columns is None:
        return change
    extra = [name for name in change.columns if name not in base.columns and "/" not in name]
    if extra:
        hint = "Write another catalog for this artifact: `rankine catalog build` with --items."
        raise DataError(f"the catalog has no feature '{extra[0]}'", where=str(path), hint=hint)
    missing = [name for name in base.columns if name not in change.columns]
    if missing and "/" in missing[0]:
        raise ArtifactError(
            "the catalog holds derived columns that these items lack",
            where=str(path),
            got=missing[0],
            hint="Use the artifact that they were built for, or run `rankine catalog build` with this one.",
        )
    if missing:
        raise DataError("the catalog needs a column for this item feature", where=missing[0])
    return Change(change.ids, {name: _alike(name, change.columns[name], like) for name, like in base.columns.items()})


def _alike(name: str, column: Column, like: Column) -> Column:
    if isinstance(column, Ragged) and isinstance(like, Ragged):
        if column.values.dtype.kind == like.values.dtype.kind:
            return column
    elif isinstance(column, np.ndarray) and isinstance(like, np.ndarray):
        width, held = (int(np.prod(array.shape[1:])) for array in (column, like))
        if column.dtype.kind == like.dtype.kind and width == held:
            return column.reshape(len(column), *like.shape[1:])  # one number an item may lie as (n,) or as (n, 1)
    raise DataError("has another form in the catalog", where=name, got=_form(column), allowed=_form(like))


def _form(column: Column) -> str:
    if isinstance(column, Ragged):
        return f"lists of {column.values.dtype}"
    return f"{column.dtype}, {int(np.prod(column.shape[1:]))} a row"
