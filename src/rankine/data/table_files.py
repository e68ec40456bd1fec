"""Which Parquet or CSV files a source of rows names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rankine.errors import DataError

__all__ = ["SUFFIXES", "table_files", "table_name"]

SUFFIXES = (".parquet", ".csv")


def table_files(source: Path | str | Sequence[Path | str]) -> list[Path]:
    """A file, the files of a folder in the order of their names, or several files; all of one kind.

    Raises:
        DataError: there are none, or they are of two kinds or another one.
    """
    if not isinstance(source, str | Path):
        paths = [Path(path) for path in source]
        where = ", ".join(map(str, paths)) or "no files"
    elif Path(source).is_dir():
        paths = sorted(path for path in Path(source).iterdir() if path.suffix in SUFFIXES)
        where = str(source)
    else:
        paths, where = [Path(source)], str(source)
    kinds = {path.suffix for path in paths}
    if len(kinds) != 1 or not kinds <= set(SUFFIXES):
        got = ", ".join(sorted(path.name for path in paths)) or "nothing"
        raise DataError("is no table", where=where, got=got, allowed=".parquet files, or .csv files, of one kind")
    return paths


def table_name(source: Path | str | Sequence[Path | str]) -> str:
    """What a data set is called: as its folder, or its first file."""
    path = Path(source) if isinstance(source, str | Path) else Path(source[0])
    return path.resolve().stem
