"""The lookup in plain NumPy, also in float64: what the native lookup and every engine are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rankine.models.columns import Batch, Column, Ragged
from rankine.models.lookup_plan import Source, bad_row, plan_sources, wrong_lists
from rankine.models.schema import Schema
from rankine.models.tables import AnyTable, Floats

__all__ = ["reference_lookup"]


def reference_lookup(
    schema: Schema, tables: Mapping[str, AnyTable], batch: Batch, dtype: type[np.floating[Any]] = np.float64
) -> dict[str, Floats]:
    """Every feature's values as ``dtype (rows, width)``, by name, in the schema's order.

    A multi-hot feature is the (weighted) sum of its rows, divided by their number where the pooling is the mean, or the
    maximum of each column; an empty list is zero. A sequence is its (weighted) rows, zeros up to its longest, and the
    number of its values.

    Raises:
        BadRequest: an index or id is out of range, or a column is missing; names the feature.
        EngineError: a feature has no table, or a table has a wrong type or shape.
    """
    return {source.name: _look_up(source, batch, dtype) for source in plan_sources(schema, tables)}


def _look_up(source: Source, batch: Batch, dtype: type[np.floating[Any]]) -> Floats:
    index, column = source.index(batch), source.values(batch)
    _check(source, column, index, (index < 0) | (index >= len(column)))
    if isinstance(column, Ragged):
        return _pool(source, column, index, dtype)
    if source.table is None:
        values: Floats = np.asarray(column, dtype)[index]
        return values
    ids = column[index]
    _check(source, column, index, (ids < 0) | (ids >= source.table.count))
    return source.table.take(ids, dtype)


def _pool(source: Source, column: Ragged, index: np.ndarray, dtype: type[np.floating[Any]]) -> Floats:
    _check(source, column, index, wrong_lists(source, column, index))
    bags = column.take(index)
    lengths = np.diff(bags.offsets)
    bag_of = np.repeat(np.arange(len(bags)), lengths)
    table = source.table
    if table is None:
        raise TypeError(f"{source.name}: a ragged feature needs a table")
    wrong = (bags.values < 0) | (bags.values >= table.count)
    _check(source, column, index, np.bincount(bag_of[wrong], minlength=len(bags)) > 0)
    rows = table.take(bags.values, dtype)
    if bags.weights is not None:
        rows = rows * bags.weights.astype(dtype)[:, None]
    if source.length is not None:
        return _padded(bags, rows, lengths, source.length)
    pooled = np.zeros((len(bags), source.width), dtype)
    if source.pooling == "max":
        pooled[lengths > 0] = -np.inf
        np.maximum.at(pooled, bag_of, rows)
        return pooled
    np.add.at(pooled, bag_of, rows)
    return pooled / np.maximum(lengths, 1).astype(dtype)[:, None] if source.pooling == "mean" else pooled


def _padded(bags: Ragged, rows: Floats, lengths: np.ndarray, length: int) -> Floats:
    """``(rows, length * dim + 1)``: the rows of each bag, zeros, and the number of rows."""
    padded = np.zeros((len(bags), length, rows.shape[1]), rows.dtype)
    bag_of = np.repeat(np.arange(len(bags)), lengths)
    padded[bag_of, np.arange(len(rows)) - bags.offsets[bag_of]] = rows
    flat = padded.reshape(len(bags), length * rows.shape[1])
    return np.concatenate([flat, lengths[:, None].astype(rows.dtype)], axis=1)


def _check(source: Source, column: Column, index: np.ndarray, wrong: np.ndarray) -> None:
    if wrong.any():
        raise bad_row(source, column, index, int(np.argmax(wrong)))
