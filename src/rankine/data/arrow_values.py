"""Columns of one value a row as NumPy columns: integers, strings, numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rankine.data.arrow_forms import functions, is_list, is_number, library, plain
from rankine.errors import DataError

__all__ = ["at", "doubles", "factorize", "floats", "integers", "kind_hint", "numbers", "refuse_nulls", "strings"]


def integers(column: Any, where: str, *, default: int | None = None, rows: np.ndarray | None = None) -> np.ndarray:
    """A column of integers, or of strings that spell them, as int64 ``(n,)``.

    Args:
        column: one pyarrow array.
        where: file and column, for messages.
        default: stands in for missing values.
        rows: ``(n,)`` the row of each value, where ``column`` holds the values of lists.

    Raises:
        DataError: a value is missing and there is no default, or is not an integer.
    """
    arrow, compute = library(where), functions()
    column = plain(column)
    if arrow.types.is_null(column.type):  # a Parquet column without any value
        column = column.cast(arrow.int64())
    if arrow.types.is_floating(column.type):  # integers with gaps, as other tools write them
        column = compute.if_else(compute.is_nan(column), arrow.scalar(None, column.type), column)
    refuse_nulls(column, where, rows, allowed="an integer", default=default)
    if arrow.types.is_string(column.type):
        column = compute.utf8_trim_whitespace(column)
    elif not (arrow.types.is_integer(column.type) or arrow.types.is_floating(column.type)):
        raise DataError("must be integers", where=where, got=str(column.type), allowed="int64", hint=kind_hint(column))
    try:
        column = compute.cast(column, arrow.int64())
    except arrow.ArrowInvalid:
        raise _first_bad(column, _is_integer, where, rows, allowed="an integer") from None
    if default is not None:
        column = compute.fill_null(column, default)
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)


def strings(column: Any, where: str, *, default: str | None = None, rows: np.ndarray | None = None) -> np.ndarray:
    """A column of strings as UTF-8 bytes ``(n,)``; arguments as in :func:`integers`.

    Raises:
        DataError: a value is missing and there is no default, or holds NUL, or the column holds no strings.
    """
    arrow, compute = library(where), functions()
    column = plain(column)
    if arrow.types.is_null(column.type):
        column = column.cast(arrow.string())
    if not arrow.types.is_string(column.type):
        hint = "Set dtype: int64 in the schema." if arrow.types.is_integer(column.type) else kind_hint(column)
        raise DataError("must be strings", where=where, got=str(column.type), allowed="string", hint=hint)
    refuse_nulls(column, where, rows, allowed="a string", default=default)
    if default is not None:
        column = compute.fill_null(column, default)
    # By dictionary: only the distinct values pass through Python.
    encoded = column.dictionary_encode()
    known = [value.encode() for value in encoded.dictionary.to_pylist()]
    indices = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    _refuse_nul(known, indices, where, rows)
    values: np.ndarray = np.array(known, dtype=bytes)[indices]
    return values


def numbers(column: Any, where: str) -> np.ndarray:
    """A column of numbers, or of strings that spell them, as float64 ``(n,)``; they can be infinite.

    Raises:
        DataError: a value is missing, NaN or no number; names the first such row.
    """
    column = plain(column)
    return doubles(column, where, np.arange(len(column)), None)


def factorize(column: Any, where: str) -> np.ndarray:
    """A column of ids of any type as its values: int64, or UTF-8 bytes, ``(n,)``."""
    column = plain(column)
    return integers(column, where) if library(where).types.is_integer(column.type) else strings(column, where)


def at(where: str, row: int) -> str:
    """``where`` with the row, counted from 1 without the header."""
    return f"{where}, row {int(row) + 1}"


def floats(column: Any, where: str, rows: np.ndarray, default: float | None) -> np.ndarray:
    """Finite float32 ``(n,)``; ``rows`` are those of the values."""
    values = doubles(column, where, rows, default)
    with np.errstate(over="ignore"):  # what overflows is reported as infinite just below
        numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise DataError("is infinite", where=at(where, rows[np.argmin(np.isfinite(numbers))]), allowed="a number")
    return np.asarray(numbers)


def doubles(column: Any, where: str, rows: np.ndarray, default: float | None) -> np.ndarray:
    """Float64 ``(n,)``, none NaN; ``rows`` are those of the values."""
    import pyarrow

    compute, types = functions(), pyarrow.types
    if not (is_number(column.type) or types.is_string(column.type) or types.is_null(column.type)):
        hint = "Give the feature its width in the schema." if is_list(column.type) else None
        raise DataError("must be numbers", where=where, got=str(column.type), allowed="float32", hint=hint)
    try:
        values = compute.cast(column, pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    except pyarrow.ArrowInvalid:
        raise _first_bad(column, _is_float, where, rows, allowed="a number") from None
    missing = np.isnan(values)
    if missing.any() and default is None:
        hint = "Fill the column or leave such rows out; a feature can have a default in the schema."
        raise DataError("is missing or NaN", where=at(where, rows[np.argmax(missing)]), allowed="a number", hint=hint)
    return np.where(missing, default or 0.0, values)


def refuse_nulls(column: Any, where: str, rows: np.ndarray | None, *, allowed: str, default: object = None) -> None:
    """Check that no value is missing, unless there is a default.

    Raises:
        DataError: names the first row.
    """
    if column.null_count and default is None:
        position = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise DataError("is missing", where=at(where, position if rows is None else rows[position]), allowed=allowed)


def kind_hint(column: Any) -> str | None:
    """What to do where a column of lists was given for single values."""
    return "Set kind: multi_hot, or sequence, in the schema." if is_list(column.type) else None


def _refuse_nul(known: Sequence[bytes], indices: np.ndarray, where: str, rows: np.ndarray | None) -> None:
    """Fixed-width columns drop NULs at the end, so that two values could become one."""
    bad = [position for position, value in enumerate(known) if b"\0" in value]
    if bad:
        position = int(np.argmax(np.isin(indices, bad)))
        got = repr(known[indices[position]].decode())
        raise DataError("holds NUL", where=at(where, position if rows is None else rows[position]), got=got)


def _first_bad(
    column: Any, fits: Callable[[Any], bool], where: str, rows: np.ndarray | None, *, allowed: str
) -> DataError:
    for position, value in enumerate(column.to_pylist()):
        if value is not None and not fits(value):
            row = position if rows is None else int(rows[position])
            return DataError(f"is not {allowed}", where=at(where, row), got=repr(value), allowed=allowed)
    return DataError(f"is not {allowed}", where=where, allowed=allowed)


def _is_integer(value: Any) -> bool:
    try:
        return int(value) == float(value) and -(2**63) <= int(value) < 2**63
    except (ValueError, OverflowError):
        return False


def _is_float(value: Any) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
