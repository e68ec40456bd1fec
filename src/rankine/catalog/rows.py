"""Items as people give them: rows of a Parquet, CSV or JSON file as external ids and raw feature columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rankine.data import arrow
from rankine.data.arrow_forms import library
from rankine.data.flat import feature_column
from rankine.errors import DataError, did_you_mean
from rankine.models.columns import Column
from rankine.models.schema import MultiHotFeature, Schema

__all__ = ["ids_of_texts", "read_item_ids", "read_items"]

_TABLES = (".parquet", ".csv")
_JSON = (".json", ".jsonl", ".ndjson")


def read_items(path: Path, schema: Schema) -> tuple[np.ndarray, dict[str, Column]]:
    """External ids ``(n,)`` and raw static item features of the rows of a file.

    A JSON file is a list of objects, or an object a line; in CSV, values of lists are separated by ``|``. A feature
    that has a default in the schema may be left out.

    Raises:
        DataError: the file cannot be read, or names the column, and where it can the row, that does not fit.
    """
    roles = _roles(schema)
    raw = _read(path, roles, _optional(schema))
    ids = _ids(raw[schema.item_id], f"{path}: column '{schema.item_id}'", schema.item_id_dtype)
    features = schema.catalog_features
    return ids, {f.name: feature_column(f, raw, lambda name: f"{path}: column '{name}'") for f in features}


def read_item_ids(path: Path, item_id: str, dtype: str) -> np.ndarray:
    """The external ids in the column ``item_id`` of a file; other columns are not looked at.

    Raises:
        DataError: as :func:`read_items`.
    """
    raw = _read(path, {item_id: "the id of the item"}, frozenset(), others=True)
    return _ids(raw[item_id], f"{path}: column '{item_id}'", dtype)


def ids_of_texts(texts: Sequence[str], dtype: str) -> np.ndarray:
    """External ids that were typed.

    Raises:
        DataError: the catalog's ids are integers, and one is none that int64 holds; or one holds NUL.
    """
    if dtype == "string":
        ended = next((text for text in texts if "\0" in text), None)
        if ended is not None:
            raise DataError("an id must not hold the character NUL", where="ID", got=repr(ended))
        return np.array([text.encode() for text in texts], dtype=bytes)
    try:
        return np.array([int(text) for text in texts], np.int64)
    except (ValueError, OverflowError):
        got = next(text for text in texts if not _is_int64(text))
        raise DataError("is no item id of this catalog", where="ID", got=got, allowed="int64") from None


def _is_int64(text: str) -> bool:
    try:
        return -(2**63) <= int(text) < 2**63
    except ValueError:
        return False


def _roles(schema: Schema) -> dict[str, str]:
    """The columns that are read, each with what it is for."""
    roles = {schema.item_id: "the id of the item"} | {feature.name: "" for feature in schema.catalog_features}
    for feature in schema.catalog_features:
        if isinstance(feature, MultiHotFeature) and feature.weights is not None:
            roles.setdefault(feature.weights, f"the weights of feature '{feature.name}'")
    return roles


def _optional(schema: Schema) -> frozenset[str]:
    return frozenset(f.name for f in schema.catalog_features if f.default is not None and f.name != schema.item_id)


def _ids(column: Any, where: str, dtype: str) -> np.ndarray:
    return arrow.integers(column, where) if dtype == "int64" else arrow.strings(column, where)


def _read(path: Path, roles: Mapping[str, str], optional: frozenset[str], *, others: bool = False) -> dict[str, Any]:
    """The columns of a file as pyarrow arrays; a column that may be left out, and is, holds nothing."""
    if path.suffix in _JSON:
        return _read_json(path, roles, optional, others=others)
    if path.suffix not in _TABLES:
        allowed = ", ".join((*_TABLES, *_JSON))
        raise DataError("items are read from a file of another kind", where=str(path), allowed=allowed)
    present = arrow.column_names(path)
    names = [name for name in roles if name in present or name not in optional]
    found = arrow.read_columns(path, names, roles=roles)
    rows = len(next(iter(found.values())))
    return found | {name: library(path).nulls(rows) for name in roles if name not in found}


def _read_json(path: Path, roles: Mapping[str, str], optional: frozenset[str], *, others: bool) -> dict[str, Any]:
    rows = _json_rows(path)
    for number, row in enumerate(rows, 1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise DataError("an item must be an object", where=where, got=type(row).__name__)
        unknown = next((key for key in row if key not in roles), None)
        if unknown is not None and not others:
            raise DataError(f"'{unknown}' is no item feature", where=where, hint=did_you_mean(unknown, roles))
        missing = next((name for name in roles if name not in row and name not in optional), None)
        if missing is not None:
            role = f", {roles[missing]}" if roles[missing] else ""
            raise DataError(f"has no '{missing}'{role}", where=where, hint=did_you_mean(missing, row))
    return {name: _json_column([row.get(name) for row in rows], f"{path}: column '{name}'") for name in roles}


def _json_rows(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            found = json.loads(text)
            return found if isinstance(found, list) else [found]
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), allowed="a .json, .parquet or .csv file") from None
    except OSError as error:
        raise DataError("cannot be read", where=str(path), got=error.strerror) from None
    except (ValueError, RecursionError) as error:
        hint = "Give a list of objects, or one object a line."
        raise DataError("not readable as JSON", where=str(path), got=str(error), hint=hint) from None


def _json_column(values: list[Any], where: str) -> Any:
    arrow_library = library(where)
    try:
        return arrow_library.array(values)
    except (arrow_library.ArrowInvalid, arrow_library.ArrowTypeError, OverflowError, TypeError) as error:
        got = " ".join(str(error).split())
        raise DataError("holds values of several types", where=where, got=got) from None
