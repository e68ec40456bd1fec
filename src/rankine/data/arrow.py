"""Columns of Parquet and CSV files as NumPy columns; every complaint names the file, the column and the row.

The only module that imports pyarrow, and only when a file is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rankine.errors import DataError, did_you_mean
from rankine.models.columns import Ragged

__all__ = [
    "at",
    "column_names",
    "dense",
    "factorize",
    "integers",
    "lists",
    "numbers",
    "read_columns",
    "refuse_missing",
    "strings",
    "times",
]


def read_columns(path: Path, names: Sequence[str], *, roles: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The named columns of a ``.parquet`` or ``.csv`` file, each one pyarrow array; all CSV columns are strings.

    Args:
        names: of the columns; one that is named twice is read once.
        roles: what a column is for, such as "the label of task 'ctr'", for the message that it is not there.

    Raises:
        DataError: pyarrow is not installed, the file is missing or malformed, or it lacks a column.
    """
    read = _read_csv if path.suffix == ".csv" else _read_parquet
    with _readable(path):
        table = read(path, names, roles or {})
    return {name: table.column(name).combine_chunks() for name in names}


def column_names(path: Path) -> list[str]:
    """Names of the columns of a ``.parquet`` or ``.csv`` file.

    Raises:
        DataError: pyarrow is not installed, or the file is missing or malformed.
    """
    with _readable(path):
        if path.suffix == ".csv":
            from pyarrow import csv

            with csv.open_csv(path) as reader:
                return list(reader.schema.names)
        from pyarrow import parquet

        return list(parquet.read_schema(path).names)


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
    arrow, compute = _pyarrow(where), _compute()
    column = _plain(column)
    if arrow.types.is_null(column.type):  # a Parquet column without any value
        column = column.cast(arrow.int64())
    if arrow.types.is_floating(column.type):  # integers with gaps, as other tools write them
        column = compute.if_else(compute.is_nan(column), arrow.scalar(None, column.type), column)
    _refuse_nulls(column, where, rows, allowed="an integer", default=default)
    if arrow.types.is_string(column.type):
        column = compute.utf8_trim_whitespace(column)
    elif not (arrow.types.is_integer(column.type) or arrow.types.is_floating(column.type)):
        raise DataError("must be integers", where=where, got=str(column.type), allowed="int64", hint=_kind_hint(column))
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
    arrow, compute = _pyarrow(where), _compute()
    column = _plain(column)
    if arrow.types.is_null(column.type):
        column = column.cast(arrow.string())
    if not arrow.types.is_string(column.type):
        hint = "Set dtype: int64 in the schema." if arrow.types.is_integer(column.type) else _kind_hint(column)
        raise DataError("must be strings", where=where, got=str(column.type), allowed="string", hint=hint)
    _refuse_nulls(column, where, rows, allowed="a string", default=default)
    if default is not None:
        column = compute.fill_null(column, default)
    # By dictionary: only the distinct values pass through Python.
    encoded = column.dictionary_encode()
    known = [value.encode() for value in encoded.dictionary.to_pylist()]
    indices = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    _refuse_nul(known, indices, where, rows)
    values: np.ndarray = np.array(known, dtype=bytes)[indices]
    return values


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
    column = _as_lists(_plain(column), where)
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
    column = _plain(column)
    rows = np.repeat(np.arange(len(column)), width)
    if width > 1:
        column = _as_lists(column, where)
        lengths = _list_lengths(column)
        if (lengths != width).any():
            row = int(np.argmax(lengths != width))
            raise DataError("has the wrong width", where=at(where, row), got=int(lengths[row]), allowed=str(width))
        column = _plain(column.flatten())
    numbers = _numbers(column, where, rows, default)
    return numbers.reshape(-1, width)


def numbers(column: Any, where: str) -> np.ndarray:
    """A column of numbers, or of strings that spell them, as float64 ``(n,)``; they can be infinite.

    Raises:
        DataError: a value is missing, NaN or no number; names the first such row.
    """
    column = _plain(column)
    return _doubles(column, where, np.arange(len(column)), None)


def times(column: Any, where: str) -> np.ndarray:
    """A column of times as sortable numbers ``(n,)``: what integers and floats say, else microseconds since 1970.

    Text is numbers, or ISO 8601, either with a time zone in every row or in none.

    Raises:
        DataError: a time is missing, not readable, or not finite; names the first row.
    """
    arrow = _pyarrow(where)
    column = _plain(column)
    _refuse_nulls(column, where, None, allowed="a time")
    if _is_number(column.type):
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


def factorize(column: Any, where: str) -> np.ndarray:
    """A column of ids of any type as its values: int64, or UTF-8 bytes, ``(n,)``."""
    column = _plain(column)
    return integers(column, where) if _pyarrow(where).types.is_integer(column.type) else strings(column, where)


def refuse_missing(path: Path, names: Sequence[str], present: Sequence[str], roles: Mapping[str, str]) -> None:
    """Check that the columns ``names`` are among those ``present`` in a file.

    Raises:
        DataError: names the first that is not, what it is for, and the closest that is there.
    """
    for name in names:
        if name not in present:
            role = f", {roles[name]}" if roles.get(name) else ""
            raise DataError(f"has no column '{name}'{role}", where=str(path), hint=did_you_mean(name, present))


def at(where: str, row: int) -> str:
    """``where`` with the row, counted from 1 without the header."""
    return f"{where}, row {int(row) + 1}"


def _pyarrow(where: Path | str) -> ModuleType:
    try:
        import pyarrow
    except ImportError:
        hint = "Install it: pip install 'rankine[data]'."
        raise DataError("reading Parquet and CSV needs pyarrow", where=str(where), hint=hint) from None
    module: ModuleType = pyarrow
    return module


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a file into a DataError."""
    arrow = _pyarrow(path)
    try:
        yield
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), allowed="a .parquet or .csv file") from None
    except (arrow.ArrowInvalid, OSError) as error:
        kind = "CSV with a header" if path.suffix == ".csv" else "Parquet"
        raise DataError(f"not readable as {kind}", where=str(path), got=" ".join(str(error).split())) from None


def _compute() -> ModuleType:
    import pyarrow.compute

    module: ModuleType = pyarrow.compute
    return module


def _read_parquet(path: Path, names: Sequence[str], roles: Mapping[str, str]) -> Any:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        refuse_missing(path, names, file.schema_arrow.names, roles)
        return file.read(columns=list(dict.fromkeys(names)))


def _read_csv(path: Path, names: Sequence[str], roles: Mapping[str, str]) -> Any:
    import pyarrow
    from pyarrow import csv

    with csv.open_csv(path) as reader:
        refuse_missing(path, names, reader.schema.names, roles)
    options = csv.ConvertOptions(
        include_columns=list(dict.fromkeys(names)),
        column_types=dict.fromkeys(names, pyarrow.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return csv.read_csv(path, convert_options=options)


def _plain(column: Any) -> Any:
    """Without dictionary encoding and large offsets, so that each logical type has one form."""
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pyarrow.types.is_large_string(column.type) or pyarrow.types.is_string_view(column.type):
        return column.cast(pyarrow.string())
    return column.cast(pyarrow.int8()) if pyarrow.types.is_boolean(column.type) else column


def _as_lists(column: Any, where: str) -> Any:
    import pyarrow

    compute, types = _compute(), pyarrow.types
    if types.is_string(column.type):
        filled = compute.if_else(compute.equal(column, ""), pyarrow.scalar(None, column.type), column)
        return compute.split_pattern(filled, "|")
    if _is_list(column.type):
        return column
    if types.is_null(column.type):
        return column.cast(pyarrow.list_(pyarrow.string()))
    allowed, hint = "a list column, or text with '|'", "For one value a row, set kind: categorical in the schema."
    raise DataError("must be lists", where=where, got=str(column.type), allowed=allowed, hint=hint)


def _list_lengths(column: Any) -> np.ndarray:
    """Values in each list, int64 ``(n,)``; a missing list has none."""
    compute = _compute()
    lengths = compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return np.asarray(lengths, np.int64)


def _list_weights(column: Any, where: str, lengths: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """One finite weight for each of the ``lengths`` values of every row, float32 ``(m,)``."""
    column = _as_lists(_plain(column), where)
    found = _list_lengths(column)
    if (found != lengths).any():
        row = int(np.argmax(found != lengths))
        message, allowed = "has another number of weights than of values", str(int(lengths[row]))
        raise DataError(message, where=at(where, row), got=int(found[row]), allowed=allowed)
    return _numbers(_plain(column.flatten()), where, rows, None)


def _numbers(column: Any, where: str, rows: np.ndarray, default: float | None) -> np.ndarray:
    """Finite float32 ``(n,)``; ``rows`` are those of the values."""
    values = _doubles(column, where, rows, default)
    with np.errstate(over="ignore"):  # what overflows is reported as infinite just below
        numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise DataError("is infinite", where=at(where, rows[np.argmin(np.isfinite(numbers))]), allowed="a number")
    return np.asarray(numbers)


def _doubles(column: Any, where: str, rows: np.ndarray, default: float | None) -> np.ndarray:
    """Float64 ``(n,)``, none NaN; ``rows`` are those of the values."""
    import pyarrow

    compute, types = _compute(), pyarrow.types
    if not (_is_number(column.type) or types.is_string(column.type) or types.is_null(column.type)):
        hint = "Give the feature its width in the schema." if _is_list(column.type) else None
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


def _kind_hint(column: Any) -> str | None:
    return "Set kind: multi_hot, or sequence, in the schema." if _is_list(column.type) else None


def _is_list(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind))


def _refuse_nulls(column: Any, where: str, rows: np.ndarray | None, *, allowed: str, default: object = None) -> None:
    if column.null_count and default is None:
        position = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise DataError("is missing", where=at(where, position if rows is None else rows[position]), allowed=allowed)


def _as_times(column: Any, kind: Any) -> np.ndarray | None:
    """The column cast to ``kind``, a time as its microseconds; None where a value cannot be."""
    import pyarrow

    compute = _compute()
    try:
        cast = compute.cast(column, kind, safe=_is_number(kind))
        return np.asarray((cast if _is_number(kind) else compute.cast(cast, pyarrow.int64())).to_numpy())
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        return None


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
