"""A table in several files for the tests of data sets that stay on disk, and equality of what is encoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from rankine.models.columns import Batch, Column, Ragged
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    Hash,
    Identity,
    MultiHotFeature,
    Schema,
    SequenceFeature,
    Split,
    Task,
    Vocabulary,
)

ROWS = 400
SCHEMA = Schema(
    features=(
        CategoricalFeature(name="user", side="request", dtype="string"),
        CategoricalFeature(name="hour", side="request", encoding=Identity(size=24), default=12),
        SequenceFeature(name="history", side="request", table="item", max_length=3),
        DenseFeature(name="age", side="request"),
        CategoricalFeature(name="item", side="item", table="item"),
        CategoricalFeature(name="brand", side="item", dtype="string", encoding=Vocabulary(min_count=8)),
        DenseFeature(name="price", side="item", normalization="log1p"),
        MultiHotFeature(name="tags", side="item", dtype="string"),
        DenseFeature(name="vector", side="pair", width=2, normalization="none"),
        CategoricalFeature(name="query", side="pair", dtype="string", encoding=Hash(buckets=50)),
        MultiHotFeature(name="words", side="pair", weights="word_weights"),
    ),
    item_id="item",
    tasks=(Task(name="click", label="clicked"), Task(name="liked", label="rating", threshold=4.0)),
    group="user",
    timestamp="when",
    split=Split(by="time"),
)


def table(rows: int = ROWS) -> pa.Table:
    """Rows with ties in time, missing hours and empty lists."""
    rng = np.random.default_rng(3)
    items = rng.integers(1, 40, rows)
    words = [rng.integers(0, 60, rng.integers(0, 4)).tolist() for _ in range(rows)]
    return pa.table(
        {
            "user": [f"user-{number}" for number in rng.integers(0, 25, rows)],
            "hour": pa.array(rng.integers(0, 24, rows), mask=rng.random(rows) < 0.1),
            "history": [rng.integers(1, 60, rng.integers(0, 6)).tolist() for _ in range(rows)],
            "age": rng.normal(40, 9, rows),
            "item": items,
            "brand": [f"b{item % 7}" for item in items],
            "price": items * 1.5 + rng.integers(0, 2, rows),  # prices change: the item has that of one row
            "tags": [[f"t{item % 5}", "all"][: item % 3] for item in items],
            "vector": rng.normal(size=(rows, 2)).tolist(),
            "query": [f"q{number}" for number in rng.integers(0, 300, rows)],
            "words": words,
            "word_weights": [rng.random(len(row)).tolist() for row in words],
            "clicked": rng.integers(0, 2, rows),
            "rating": rng.integers(1, 6, rows),
            "when": rng.integers(0, rows // 3, rows),
        }
    )


def write_files(folder: Path, kind: str = "parquet", files: int = 3) -> Path:
    """The table in several files of one kind."""
    folder.mkdir(exist_ok=True)
    whole = table()
    size = -(-ROWS // files)
    for number in range(files):
        part = whole.slice(number * size, size)
        if kind == "parquet":
            parquet.write_table(part, folder / f"part-{number}.parquet", row_group_size=50)
        else:
            csv.write_csv(as_text(part), folder / f"part-{number}.csv")
    return folder


def as_text(part: pa.Table) -> pa.Table:
    """Lists as text with ``|``, which CSV can hold."""
    columns = {}
    for name in part.column_names:
        values = part.column(name).to_pylist()
        columns[name] = ["|".join(map(str, row)) for row in values] if isinstance(values[0], list) else values
    return pa.table(columns)


def per_row(batch: Batch, feature: Feature) -> Column:
    """A feature's encoded values of every row."""
    if feature.per_row:
        return batch.pair[feature.name]
    columns, index = (
        (batch.request, batch.request_index) if feature.side == "request" else (batch.item, batch.item_index)
    )
    column = columns[feature.name]
    return column.take(index) if isinstance(column, Ragged) else column[index]


def assert_same(left: Column, right: Column, name: str) -> None:
    if isinstance(left, Ragged):
        assert isinstance(right, Ragged)
        np.testing.assert_array_equal(left.offsets, right.offsets, err_msg=name)
        np.testing.assert_array_equal(left.values, right.values, err_msg=name)
        assert (left.weights is None) == (right.weights is None)
        if left.weights is not None:
            np.testing.assert_array_equal(left.weights, right.weights, err_msg=name)
    else:
        assert isinstance(right, np.ndarray)
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6, err_msg=name)
