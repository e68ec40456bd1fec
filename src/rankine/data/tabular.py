"""Parquet and CSV through a schema: one flat row per interaction, split into request, item and row columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rankine.artifact import sha256_of
from rankine.data import arrow
from rankine.data.dataset import Dataset, draw_rows, split_rows
from rankine.data.flat import Flat, column_roles, read_flat
from rankine.data.table_files import table_files, table_name
from rankine.errors import DataError
from rankine.models.columns import Column, Columns, Ragged, concat, take
from rankine.models.schema import Schema

__all__ = ["load_table"]


def load_table(
    source: Path | str | Sequence[Path | str], schema: Schema, *, rows: int | None = None, seed: int = 0
) -> Dataset:
    """Interactions from ``.parquet`` or ``.csv`` files with one row each.

    Items are the distinct values of ``schema.item_id``, with the static features of their last training row, so that
    nothing of the test rows gets into training; items without a training row have those of their last row. How many
    items had other values in another row is ``item_conflicts`` in the provenance: such features are live, or of the
    pair. A request is a distinct combination of group and request features. In CSV, the values of multi-hot, sequence
    and wide dense features, and weights, are separated by ``|``; a missing list is empty, or the feature's default.

    Args:
        source: a file, a folder (its files of one kind, in the order of their names), or several files.
        schema: names the columns; all must be there.
        rows: keep at most this many interactions, chosen at random by ``seed``; items stay as they are.

    Raises:
        DataError: a file cannot be read, or names the column (and where it can, the row) that does not fit the schema.
    """
    paths = table_files(source)
    flat = [_read(path, schema) for path in paths]
    ids = np.concatenate([part.item_ids for part in flat])
    if not len(ids):
        raise DataError("has no rows", where=str(paths[0]))
    features = concat([part.features for part in flat])
    groups = _numbered(_joined([part.groups for part in flat]))
    timestamps = _joined([part.timestamps for part in flat])
    kept = draw_rows(len(ids), rows, seed)
    train = kept[split_rows(schema.split, len(kept), _at(timestamps, kept), _at(groups, kept)).train]
    static = {feature.name: features[feature.name] for feature in schema.catalog_features}
    item_ids, item_index, items, conflicts = _items(ids, static, train)
    of_requests = {feature.name: features[feature.name] for feature in schema.request_features}
    first, request_index = _requests(of_requests, groups, len(ids))
    dataset = Dataset(
        name=table_name(source),
        schema=schema,
        requests=take(of_requests, first),
        items=items,
        item_ids=item_ids,
        pairs={feature.name: features[feature.name] for feature in schema.row_features},
        request_index=request_index,
        item_index=item_index,
        labels=np.concatenate([part.labels for part in flat]),
        groups=groups,
        timestamps=timestamps,
        provenance={
            "source": ", ".join(path.name for path in paths),
            "sha256": ", ".join(sha256_of(path) for path in paths),
            "rows": str(len(ids)),
            "requests": str(len(first)),
            "items": str(len(item_ids)),
            "item_conflicts": str(conflicts),
        },
    )
    dataset.check()
    return dataset.subset(rows, seed)


def _read(path: Path, schema: Schema) -> Flat:
    roles = column_roles(schema)
    return read_flat(arrow.read_columns(path, list(roles), roles=roles), schema, source=str(path))


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


def _numbered(groups: np.ndarray | None) -> np.ndarray | None:
    """Groups as their positions in sorted order, int64 ``(rows,)``."""
    return None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64)


def _at(column: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if column is None else column[rows]


def _items(
    ids: np.ndarray, features: Columns, train: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, Column], int]:
    """Distinct ids, the position of each row's among them, the features of the last of their rows in ``train`` (of all
    their rows where none is), and the number of items that have other values in another row."""
    item_ids, index = np.unique(ids, return_inverse=True)
    last = np.zeros(len(item_ids), np.int64)
    for rows in (np.arange(len(ids)), train):
        last[index[rows]] = rows  # of equal positions, the last assignment stays
    items = take(features, last)
    differs = np.zeros(len(ids), bool)
    for name, column in features.items():
        differs |= _differs(column, take({name: items[name]}, index)[name])
    return item_ids, index.astype(np.int32), items, len(np.unique(index[differs]))


def _differs(left: Column, right: Column) -> np.ndarray:
    """Rows in which two columns of equal length differ, bool ``(rows,)``."""
    if isinstance(left, Ragged) and isinstance(right, Ragged):
        lengths = np.diff(left.offsets)
        differs = np.asarray(lengths != np.diff(right.offsets))
        same = np.flatnonzero(~differs)
        first, second = left.take(same), right.take(same)
        mismatch = np.asarray(first.values != second.values)
        if first.weights is not None and second.weights is not None:
            mismatch |= first.weights != second.weights
        differs[np.repeat(same, lengths[same])[mismatch]] = True
        return differs
    unequal: np.ndarray = np.asarray(left) != np.asarray(right)
    return np.asarray(unequal if unequal.ndim == 1 else unequal.any(axis=1))


def _requests(features: Columns, groups: np.ndarray | None, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """First row of every distinct request, and the position of each row's request among them (int32)."""
    key = np.zeros(rows, np.int64)
    for column in (*features.values(), *(() if groups is None else (groups,))):
        codes = _codes(column)
        # Re-numbered after every column, so that the combined key never overflows: both factors are at most `rows`.
        key = np.unique(key * (int(codes.max()) + 1) + codes, return_inverse=True)[1]
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    return first, index.astype(np.int32)


def _codes(column: Column) -> np.ndarray:
    """Numbers that are equal where the rows of a column are, int64 ``(rows,)``."""
    if not isinstance(column, Ragged):
        axis = None if column.ndim == 1 else 0
        return np.unique(column, return_inverse=True, axis=axis)[1].reshape(-1)
    values = np.unique(column.values, return_inverse=True)[1].astype(np.int64)
    if column.weights is not None:  # equal lists are those of equal (value, weight) pairs
        weights = np.unique(column.weights, return_inverse=True)[1].astype(np.int64)
        values = np.unique(values * (len(weights) + 1) + weights, return_inverse=True)[1].astype(np.int64)
    seen: dict[bytes, int] = {}
    bounds = zip(column.offsets[:-1], column.offsets[1:], strict=True)
    return np.array([seen.setdefault(values[start:end].tobytes(), len(seen)) for start, end in bounds], np.int64)
