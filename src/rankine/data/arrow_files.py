"""Columns of Parquet and CSV files as pyarrow arrays; every complaint names the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rankine.data.arrow_forms import library
from rankine.errors import DataError, did_you_mean

__all__ = ["column_names", "read_columns", "refuse_missing"]


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


def refuse_missing(path: Path, names: Sequence[str], present: Sequence[str], roles: Mapping[str, str]) -> None:
    """Check that the columns ``names`` are among those ``present`` in a file.

    Raises:
        DataError: names the first that is not, what it is for, and the closest that is there.
    """
    for name in names:
        if name not in present:
            role = f", {roles[name]}" if roles.get(name) else ""
            raise DataError(f"has no column '{name}'{role}", where=str(path), hint=did_you_mean(name, present))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a file into a DataError."""
    arrow = library(path)
    try:
        yield
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), allowed="a .parquet or .csv file") from None
    except (arrow.ArrowInvalid, OSError) as error:
        kind = "CSV with a header" if path.suffix == ".csv" else "Parquet"
        raise DataError(f"not readable as {kind}", where=str(path), got=" ".join(str(error).split())) from None


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
