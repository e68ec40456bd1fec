"""Columns of lists as NumPy columns: ragged ones, and dense ones whose rows are all of one width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rankine.data.arrow_forms import functions, is_list, plain
from rankine.data.arrow_values import at, floats, integers, strings
from rankine.errors import DataError
from rankine.models.columns import Ragged

__all__ = ["dense", "lists"]


def lists(
    column: Any,
    where: str,
    *,
    dtype: str,
    default: Sequence[int | str] | None = None,
    weights: tuple[Any, str] | None = None,
) -> Ragged:
    """A column of lists, or of strings with the values separated by ``|``, as a ragged column.

    A missing list is ``default``, or empty: the empty set is a value like any other.

    Args:
        column: one pyarrow array.
        where: file and column, for messages.
        dtype: of the values, ``int64`` or ``string``.
        default: stands in for missing lists; each of its values weighs one.
        weights: a column with lists of as many numbers, one a value, and its file and column.

    Raises:
        DataError: a value inside a list is missing or is not of ``dtype``, or a row has not one finite weight a value.
    """
    column = _as_lists(plain(column), where)
    lengths = _list_lengths(column)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    convert: Callable[..., np.ndarray] = integers if dtype == "int64" else strings
    numbers = None if weights is None else _list_weights(*weights, lengths, rows)
    found = Ragged(convert(column.flatten(), where, rows=rows), offsets, numbers)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if default is None or not missing.any():
        return found
    # The default becomes one row more, taken wherever a list is missing.
    extra = np.array(
        [value.encode() if isinstance(value, str) else value for value in default], found.values.dtype.type
    )
    values = np.concatenate([found.values, extra])
    if numbers is not None:
        numbers = np.append(numbers, np.ones(len(extra), np.float32))
    padded = Ragged(values, np.append(offsets, offsets[-1] + len(extra)).astype(np.int32), numbers)
    return padded.take(np.where(missing, len(missing), np.arange(len(missing))))


def dense(column: Any, where: str, *, width: int, default: float | None) -> np.ndarray:
    """A column of numbers (``width`` 1), or of lists of ``width`` numbers, as finite float32 ``(n, width)``.

    Raises:
        DataError: a list has another length, or a number is missing or NaN and there is no default, or is infinite.
    """
    column = plain(column)
    rows = np.repeat(np.arange(len(column)), width)
    if width > 1:
        column = _as_lists(column, where)
        lengths = _list_lengths(column)
        if (lengths != width).any():
            row = int(np.argmax(lengths != width))
            raise DataError("has the wrong width", where=at(where, row), got=int(lengths[row]), allowed=str(width))
        column = plain(column.flatten())
    numbers = floats(column, where, rows, default)
    return numbers.reshape(-1, width)


def _as_lists(column: Any, where: str) -> Any:
    import pyarrow

    compute, types = functions(), pyarrow.types
    if types.is_string(column.type):
        filled = compute.if_else(compute.equal(column, ""), pyarrow.scalar(None, column.type), column)
        return compute.split_pattern(filled, "|")
    if is_list(column.type):
        return column
    if types.is_null(column.type):
        return column.cast(pyarrow.list_(pyarrow.string()))
    allowed, hint = "a list column, or text with '|'", "For one value a row, set kind: categorical in the schema."
    raise DataError("must be lists", where=where, got=str(column.type), allowed=allowed, hint=hint)


def _list_lengths(column: Any) -> np.ndarray:
    """Values in each list, int64 ``(n,)``; a missing list has none."""
    compute = functions()
    lengths = compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return np.asarray(lengths, np.int64)


def _list_weights(column: Any, where: str, lengths: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """One finite weight for each of the ``lengths`` values of every row, float32 ``(m,)``."""
    column = _as_lists(plain(column), where)
    found = _list_lengths(column)
    if (found != lengths).any():
        row = int(np.argmax(found != lengths))
        message, allowed = "has another number of weights than of values", str(int(lengths[row]))
        raise DataError(message, where=at(where, row), got=int(found[row]), allowed=allowed)
    return floats(plain(column.flatten()), where, rows, None)
