"""Columns of times as NumPy columns of sortable numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from rankine.data.arrow_forms import functions, is_number, library, plain
from rankine.data.arrow_values import at, refuse_nulls
from rankine.errors import DataError

__all__ = ["times"]


def times(column: Any, where: str) -> np.ndarray:
    """A column of times as sortable numbers ``(n,)``: what integers and floats say, else microseconds since 1970.

    Text is numbers, or ISO 8601, either with a time zone in every row or in none.

    Raises:
        DataError: a time is missing, not readable, or not finite; names the first row.
    """
    arrow = library(where)
    column = plain(column)
    refuse_nulls(column, where, None, allowed="a time")
    if is_number(column.type):
        return _finite_times(np.asarray(column.to_numpy(zero_copy_only=False)), where)
    naive, zoned = arrow.timestamp("us"), arrow.timestamp("us", "UTC")
    kinds = (arrow.int64(), arrow.float64(), naive, zoned) if arrow.types.is_string(column.type) else (naive,)
    for kind in kinds:
        numbers = _as_times(column, kind)
        if numbers is not None:
            return _finite_times(numbers, where)
    # The kind that reads furthest is what the column is meant to be: it fails at the row that is wrong.
    row = max(_first_failing(column, kind) for kind in kinds)
    allowed = "a number, or ISO 8601 with a time zone in every row or in none"
    raise DataError("is not a time", where=at(where, row), got=str(column[row]), allowed=allowed)


def _as_times(column: Any, kind: Any) -> np.ndarray | None:
    """The column cast to ``kind``, a time as its microseconds; None where a value cannot be."""
    import pyarrow

    compute = functions()
    try:
        cast = compute.cast(column, kind, safe=is_number(kind))
        return np.asarray((cast if is_number(kind) else compute.cast(cast, pyarrow.int64())).to_numpy())
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        return None  # another kind may fit; where none does, the caller names the first row that is wrong


def _first_failing(column: Any, kind: Any) -> int:
    """First row of a column that cannot be cast to ``kind``, by bisection; one of them cannot."""
    start, end = 0, len(column)
    while end - start > 1:
        middle = (start + end) // 2
        if _as_times(column[start:middle], kind) is None:
            end = middle
        else:
            start = middle
    return start


def _finite_times(values: np.ndarray, where: str) -> np.ndarray:
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError("is not a finite time", where=at(where, row), got=str(values[row]), allowed="a time")
    return values
