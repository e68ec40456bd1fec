"""pyarrow, imported when a file is read and not before, and the forms in which it holds a column."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from rankine.errors import DataError

__all__ = ["functions", "is_list", "is_number", "library", "plain"]


def library(where: Path | str) -> ModuleType:
    """pyarrow itself.

    Raises:
        DataError: it is not installed; names ``where``, what was to be read.
    """
    try:
        import pyarrow
    except ImportError:
        hint = "Install it: pip install 'rankine[data]'."
        raise DataError("reading Parquet and CSV needs pyarrow", where=str(where), hint=hint) from None
    module: ModuleType = pyarrow
    return module


def functions() -> ModuleType:
    """``pyarrow.compute``."""
    import pyarrow.compute

    module: ModuleType = pyarrow.compute
    return module


def plain(column: Any) -> Any:
    """Without dictionary encoding and large offsets, so that each logical type has one form."""
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pyarrow.types.is_large_string(column.type) or pyarrow.types.is_string_view(column.type):
        return column.cast(pyarrow.string())
    return column.cast(pyarrow.int8()) if pyarrow.types.is_boolean(column.type) else column


def is_list(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def is_number(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind))
