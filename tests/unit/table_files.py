"""A table with every kind of feature, written as Parquet and as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from rankine.data import Dataset
from rankine.models.columns import Ragged, take
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    MultiHotFeature,
    Schema,
    Task,
)

SCHEMA = Schema(
    features=(
        CategoricalFeature(name="user", side="request", dtype="string"),
        CategoricalFeature(name="hour", side="request", default=12),
        MultiHotFeature(name="likes", side="request"),
        CategoricalFeature(name="item", side="item"),
        DenseFeature(name="price", side="item"),
        MultiHotFeature(name="tags", side="item", dtype="string", default=("none",)),
        DenseFeature(name="vector", side="item", width=2),
        DenseFeature(name="stock", side="item", freshness="live", default=-1.0),
        CategoricalFeature(name="position", side="pair"),
    ),
    item_id="item",
    tasks=(Task(name="liked", label="rating", threshold=3.0),),
    group="user",
    timestamp="when",
)
COLUMNS: dict[str, list[Any]] = {
    "user": ["zoë", "zoë", "bob", "zoë", "bob"],
    "hour": [9, 9, None, 10, 12],
    "likes": [[1, 2], [1, 2], [], [1, 2], []],
    "item": [30, 10, 30, 20, 10],
    "price": [1.5, 2.0, 1.75, 4.0, 2.0],
    "tags": [["a"], ["a", "b"], ["a"], None, ["a", "b"]],
    "vector": [[0.0, 1.0], [2.0, 3.0], [0.0, 1.0], [4.0, 5.0], [2.0, 3.0]],
    "stock": [7.0, None, float("nan"), 0.0, 1.0],
    "position": [0, 1, 0, 0, 1],
    "rating": [5, 2, 3, 1, 4],
    "when": [50, 40, 30, 20, 10],
}


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def write_csv(path: Path, columns: dict[str, list[Any]]) -> Path:
    def text(value: object) -> str:
        if isinstance(value, list):
            return "|".join(map(str, value))
        return "" if value is None or value != value else str(value)

    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(map(text, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


WRITERS = pytest.mark.parametrize(
    ("write", "name"), [(write_parquet, "clicks.parquet"), (write_csv, "clicks.csv")], ids=["parquet", "csv"]
)


def rows_of(column: object) -> list[list[Any]]:
    assert isinstance(column, Ragged)
    bounds = zip(column.offsets[:-1], column.offsets[1:], strict=True)
    return [column.values[start:end].tolist() for start, end in bounds]


def per_row(data: Dataset, name: str) -> list[Any]:
    """Values of a request or item feature, row by row, as a flat table has them."""
    columns, index = (data.requests, data.request_index) if name in data.requests else (data.items, data.item_index)
    column = take({name: columns[name]}, index)[name]
    return rows_of(column) if isinstance(column, Ragged) else column.tolist()
