"""Facts of the columns of a Parquet file, from which a schema is drafted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rankine.data.arrow import read_columns
from rankine.errors import DataError

__all__ = ["ColumnFacts", "Table", "read_table"]

Kind = Literal["int", "float", "string", "time", "ints", "floats", "strings", "other"]
_MOST_ROWS = 100_000


@dataclass(frozen=True)
class ColumnFacts:
    """One column.

    Attributes:
        low, high: of the values of integers, and of integers in lists.
        distinct: values, or lists.
        longest: values of the longest list; 1 where there are no lists.
        fixed: length of every list, where all have the same.
        codes: ``(rows,)`` int64, equal where the values are.
        lengths: ``(rows,)`` of lists, else None.
    """

    name: str
    kind: Kind
    low: int = 0
    high: int = 0
    distinct: int = 0
    longest: int = 1
    fixed: int | None = None
    missing: int = 0
    codes: np.ndarray | None = None
    lengths: np.ndarray | None = None


@dataclass(frozen=True)
class Table:
    """The columns of a file in their order, from its first rows."""

    path: Path
    rows: int
    columns: dict[str, ColumnFacts]


def read_table(path: Path) -> Table:
    """Facts from the first 100,000 rows of a Parquet file.

    Raises:
        DataError: it is missing, no Parquet, or has no rows.
    """
    if path.suffix != ".parquet" or not path.is_file():
        raise DataError("is no Parquet file", where=str(path), allowed="one .parquet file")
    from pyarrow import ArrowInvalid, parquet

    try:
        names = parquet.read_schema(path).names
    except (ArrowInvalid, OSError) as error:
        raise DataError("not readable as Parquet", where=str(path), got=" ".join(str(error).split())) from None
    found = {name: column.slice(0, _MOST_ROWS) for name, column in read_columns(path, names).items()}
    rows = min(len(column) for column in found.values()) if found else 0
    if not rows:
        raise DataError("has no rows", where=str(path))
    return Table(path, rows, {name: _facts(name, column) for name, column in found.items()})


def _facts(name: str, column: Any) -> ColumnFacts:
    import pyarrow
    import pyarrow.compute as compute

    types = pyarrow.types
    kind = column.type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _list_facts(name, column)
    missing = column.null_count
    named: Kind = "other"
    if types.is_boolean(kind):
        column, named = column.cast(pyarrow.int8()), "int"
    elif types.is_integer(kind):
        named = "int"
    elif types.is_floating(kind) or types.is_decimal(kind):
        named = "float"
    elif types.is_temporal(kind):
        named = "time"
    elif types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind):
        named = "string"
    codes = _codes(column)
    low = high = 0
    if named == "int" and missing < len(column):
        bounds = compute.min_max(column).as_py()
        low, high = int(bounds["min"]), int(bounds["max"])
    return ColumnFacts(name, named, low, high, int(codes.max()) + 1, missing=missing, codes=codes)


def _list_facts(name: str, column: Any) -> ColumnFacts:
    import pyarrow
    import pyarrow.compute as compute

    types = pyarrow.types
    inner, flat = column.type.value_type, column.flatten()
    kind: Kind = "other"
    low = high = 0
    if types.is_integer(inner):
        kind = "ints"
        bounds = compute.min_max(flat).as_py()
        low, high = int(bounds["min"] or 0), int(bounds["max"] or 0)
    elif types.is_floating(inner):
        kind = "floats"
    elif types.is_string(inner) or types.is_large_string(inner):
        kind = "strings"
    lengths = compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    longest = int(lengths.max())
    seen: dict[Any, int] = {}
    codes = np.array([seen.setdefault(tuple(row or ()), len(seen)) for row in column.to_pylist()], np.int64)
    fixed = longest if (lengths == longest).all() and longest else None
    return ColumnFacts(name, kind, low, high, len(seen), longest, fixed, column.null_count, codes, lengths)


def _codes(column: Any) -> np.ndarray:
    """Numbers that are equal where values are; a missing value is a value."""
    if not hasattr(column, "dictionary"):
        column = column.dictionary_encode(null_encoding="encode")
    indices = np.asarray(column.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
    return np.unique(indices, return_inverse=True)[1].astype(np.int64)
