"""Data sets that stay on disk: the same rows, transforms and batches as of those that are loaded."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

import rankine.data.load
from rankine.data import Dataset, load_dataset, load_table
from rankine.data.encoded import StoredBatch, open_rows, shuffled, write_rows
from rankine.data.remembered import ChunkEncoder
from rankine.data.stream import StreamedDataset
from rankine.data.table_stream import stream_table
from rankine.errors import DataError
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
from rankine.models.transforms import Transforms

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


def assert_same_data(streamed: Dataset, loaded: Dataset) -> None:
    """Rows, splits, items, transforms and encoded batches are equal."""
    np.testing.assert_array_equal(streamed.labels, loaded.labels)
    np.testing.assert_array_equal(streamed.item_ids, loaded.item_ids)
    np.testing.assert_array_equal(streamed.item_index, loaded.item_index)
    assert loaded.groups is not None
    assert loaded.timestamps is not None
    np.testing.assert_array_equal(streamed.groups, loaded.groups)
    np.testing.assert_array_equal(streamed.timestamps, loaded.timestamps)
    for name, column in loaded.items.items():
        assert_same_raw(streamed.items[name], column, name)
    ours, theirs = streamed.splits(), loaded.splits()
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))
    fitted, expected = streamed.fit_transforms(ours.train), loaded.fit_transforms(theirs.train)
    assert_same_transforms(fitted, expected)
    left, right = streamed.encode(fitted), loaded.encode(expected)
    assert left.rows == right.rows
    for feature in loaded.schema.features:
        assert_same(per_row(left, feature), per_row(right, feature), feature.name)


def assert_same_raw(left: Column, right: Column, name: str) -> None:
    """Texts may be of another width."""
    if isinstance(left, Ragged) and isinstance(right, Ragged):
        np.testing.assert_array_equal(left.offsets, right.offsets, err_msg=name)
        left, right = left.values, right.values
    np.testing.assert_array_equal(left, right, err_msg=name)


def assert_same_transforms(fitted: Transforms, expected: Transforms) -> None:
    assert fitted.vocabularies.keys() == expected.vocabularies.keys()
    for name, values in expected.vocabularies.items():
        np.testing.assert_array_equal(fitted.vocabularies[name], values, err_msg=name)
    assert fitted.normalization.keys() == expected.normalization.keys()
    for name, normalization in expected.normalization.items():
        np.testing.assert_allclose(fitted.normalization[name].mean, normalization.mean, rtol=1e-9)
        np.testing.assert_allclose(fitted.normalization[name].std, normalization.std, rtol=1e-9)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_stream_equals_loaded_table_when_chunks_are_small(tmp_path: Path, kind: str) -> None:
    folder = write_files(tmp_path / "data", kind)
    assert_same_data(stream_table(folder, SCHEMA, chunk_rows=23), load_table(folder, SCHEMA))


@pytest.mark.parametrize("by", ["random", "leave_last_out"])
def test_stream_equals_loaded_table_when_the_split_is_another(tmp_path: Path, by: str) -> None:
    folder = write_files(tmp_path / "data")
    schema = SCHEMA.model_copy(update={"split": Split.model_validate({"by": by})})
    assert_same_data(stream_table(folder, schema, chunk_rows=64), load_table(folder, schema))


def test_stream_equals_loaded_table_when_only_some_rows_are_kept(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "data")
    streamed = stream_table(folder, SCHEMA, rows=150, seed=5, chunk_rows=23)
    loaded = load_table(folder, SCHEMA, rows=150, seed=5)
    assert streamed.rows == 150
    assert_same_data(streamed, loaded)


def test_stream_equals_loaded_table_when_only_items_have_features(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "data")
    features = tuple(feature for feature in SCHEMA.features if feature.side == "item")
    schema = SCHEMA.model_copy(update={"features": features})
    streamed = stream_table(folder, schema)
    assert_same_data(streamed, load_table(folder, schema))
    assert streamed.encode(streamed.fit_transforms(np.arange(ROWS))).select(np.arange(5)).rows == 5


def test_chunks_hold_no_more_rows_than_asked_for_when_groups_of_rows_are_larger(tmp_path: Path) -> None:
    for kind in ("parquet", "csv"):
        dataset = stream_table(write_files(tmp_path / kind, kind), SCHEMA, chunk_rows=23)
        lengths = [len(columns["age"]) for columns in dataset.source.chunks(SCHEMA.features)]
        assert max(lengths) == 23
        assert sum(lengths) == ROWS


def test_error_counts_rows_from_the_files_first_when_a_later_chunk_is_wrong(tmp_path: Path) -> None:
    whole = table(100)
    wrong = whole.column("clicked").to_pylist()
    wrong[77] = 2
    path = tmp_path / "part.parquet"
    parquet.write_table(whole.set_column(whole.column_names.index("clicked"), "clicked", pa.array(wrong)), path)
    with pytest.raises(DataError, match=r"part\.parquet: task 'click'.*row 78: is not a label"):
        stream_table(path, SCHEMA, chunk_rows=10)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("part.parquet", b"", "not readable as Parquet"),
        ("part.csv", b"user\n", "has no column 'clicked', the label of task 'click'"),
        ("part.txt", b"", "is no table"),
    ],
)
def test_stream_refuses_file_when_it_is_no_table(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        stream_table(tmp_path / name, SCHEMA)


def test_stream_refuses_tables_when_they_have_no_rows(tmp_path: Path) -> None:
    parquet.write_table(table().slice(0, 0), tmp_path / "part.parquet")
    with pytest.raises(DataError, match="has no rows"):
        stream_table(tmp_path, SCHEMA)


def test_encode_refuses_files_when_they_were_changed_since(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "data")
    dataset = stream_table(folder, SCHEMA)
    (folder / "part-2.parquet").unlink()
    (folder / "part-1.parquet").rename(folder / "part-2.parquet")
    (folder / "part-0.parquet").rename(folder / "part-1.parquet")
    parquet.write_table(table().slice(0, 5), folder / "part-0.parquet")
    with pytest.raises(DataError, match="changed while it was read"):
        dataset.fit_transforms(np.arange(ROWS))


def test_load_dataset_streams_tables_when_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_files(tmp_path / "data")
    assert not isinstance(load_dataset(folder, schema=SCHEMA), StreamedDataset)
    monkeypatch.setattr(rankine.data.load, "_STREAMED_BYTES", 1000)
    assert isinstance(load_dataset(folder, schema=SCHEMA), StreamedDataset)


def test_encoded_rows_are_used_again_when_a_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKINE_CACHE", str(tmp_path / "cache"))
    folder = write_files(tmp_path / "data")
    first = stream_table(folder, SCHEMA)
    transforms = first.fit_transforms(first.splits().train)
    written = first.encode(transforms)
    second = stream_table(folder, SCHEMA)
    for path in folder.iterdir():
        path.unlink()
    found = second.encode(transforms)
    assert len(list((tmp_path / "cache" / "encoded").iterdir())) == 1
    for feature in SCHEMA.features:
        assert_same(per_row(found, feature), per_row(written, feature), feature.name)


def test_cache_holds_nothing_when_encoding_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKINE_CACHE", str(tmp_path / "cache"))
    dataset = stream_table(write_files(tmp_path / "data"), SCHEMA)
    transforms = dataset.fit_transforms(dataset.splits().train)
    with pytest.raises(DataError, match="changed"):
        replace(dataset, source_rows=ROWS + 1).encode(transforms)
    assert not list((tmp_path / "cache" / "encoded").iterdir())


def test_temporary_rows_go_when_the_data_set_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANKINE_CACHE", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dataset = stream_table(write_files(tmp_path / "data"), SCHEMA)
    batch = dataset.encode(dataset.fit_transforms(dataset.splits().train))
    assert list(tmp_path.glob("rankine-encoded-*"))
    del dataset, batch
    gc.collect()
    assert not list(tmp_path.glob("rankine-encoded-*"))


@pytest.mark.parametrize(("dtype", "width"), [("int64", 8), ("string", 4), ("string", 30)])
def test_remembered_ids_are_those_of_the_transforms_when_values_come_again(
    monkeypatch: pytest.MonkeyPatch, dtype: str, width: int
) -> None:
    monkeypatch.setattr("rankine.data.remembered._REMEMBERED", 40)
    feature = CategoricalFeature.model_validate(
        {"name": "f", "side": "pair", "dtype": dtype, "encoding": Hash(buckets=1000, seed=5)}
    )
    transforms = Transforms(Schema(features=(feature,), item_id="item"), {}, {})
    encoder = ChunkEncoder(transforms, (feature,))
    rng = np.random.default_rng(0)
    for _ in range(5):
        numbers = rng.integers(-60, 60, 200)
        values = numbers if dtype == "int64" else np.array([str(number).rjust(width).encode() for number in numbers])
        found, expected = encoder.encode({"f": values})["f"], transforms.encode((feature,), {"f": values})["f"]
        assert_same(found, expected, "f")


def test_remembered_feature_refuses_values_when_they_are_of_another_kind() -> None:
    feature = CategoricalFeature(name="f", side="pair", encoding=Hash(buckets=10))
    encoder = ChunkEncoder(Transforms(Schema(features=(feature,), item_id="item"), {}, {}), (feature,))
    with pytest.raises(DataError, match="must be integers"):
        encoder.encode({"f": np.array([b"text"])})


NUMBERS = Schema(
    features=(
        CategoricalFeature(name="id", side="pair", encoding=Identity(size=1_000_000)),
        DenseFeature(name="x", side="pair", width=3),
        MultiHotFeature(name="many", side="pair", encoding=Identity(size=100)),
    ),
    item_id="item",
)


@dataclass(frozen=True)
class Numbers:
    """A source of generated rows: row ``i`` is id ``i``."""

    rows: int
    chunk_rows: int

    def chunks(self, features: Sequence[Feature]) -> Iterator[dict[str, Column]]:
        for start in range(0, self.rows, self.chunk_rows):
            ids = np.arange(start, min(start + self.chunk_rows, self.rows))
            columns: dict[str, Column] = {
                "id": ids,
                "x": np.stack([ids, ids * 2, ids % 7], axis=1).astype(np.float32),
                "many": Ragged(np.repeat(ids % 100, 2), (np.arange(len(ids) + 1) * 2).astype(np.int32)),
            }
            yield {feature.name: columns[feature.name] for feature in features}


def numbered(rows: int, chunk_rows: int = 1000) -> StreamedDataset:
    return StreamedDataset.of_source(
        Numbers(rows, chunk_rows),
        name="numbers",
        schema=NUMBERS,
        labels=(np.arange(rows) % 2).astype(np.float32)[:, None],
        item_ids=np.zeros(1, np.int64),
        provenance={"rows": str(rows)},
    )


def stored(tmp_path: Path, rows: int) -> StoredBatch:
    write_rows(tmp_path, NUMBERS, Numbers(rows, 30_000).chunks(NUMBERS.features))
    _, row = open_rows(tmp_path, NUMBERS)
    return StoredBatch({}, {}, row, np.zeros(rows, np.int32), np.zeros(rows, np.int32))


def test_selection_stays_in_files_when_it_is_large_and_is_read_when_small(tmp_path: Path) -> None:
    batch = stored(tmp_path, 150_000)
    odd = batch.select(np.arange(1, 150_000, 2))
    assert isinstance(odd, StoredBatch)
    some = odd.select(np.array([70_000, 3, 3]))
    assert not isinstance(some, StoredBatch)
    np.testing.assert_array_equal(some.pair["id"], [140_001, 7, 7])
    np.testing.assert_array_equal(some.pair["x"], [[140_001, 280_002, 1], [7, 14, 0], [7, 14, 0]])
    many = some.pair["many"]
    assert isinstance(many, Ragged)
    assert many.offsets.dtype == np.int32
    np.testing.assert_array_equal(many.values, [1, 1, 7, 7, 7, 7])
    np.testing.assert_array_equal(odd.select(slice(2, 4)).pair["id"], [5, 7])
    np.testing.assert_array_equal(batch.select(np.arange(150_000) == 9).pair["id"], [9])


def test_selection_has_contiguous_requests_of_its_own_when_it_is_small(tmp_path: Path) -> None:
    dataset = stream_table(write_files(tmp_path / "data"), SCHEMA)
    batch = dataset.encode(dataset.fit_transforms(dataset.splits().train))
    some = batch.select(np.array([7, 300, 7]))
    np.testing.assert_array_equal(some.request_index, [0, 1, 2])
    for feature in SCHEMA.request_features:
        column, whole = some.request[feature.name], batch.request[feature.name]
        if isinstance(column, np.ndarray):
            assert isinstance(whole, np.ndarray)
            assert column.flags.c_contiguous
            np.testing.assert_array_equal(column, whole[[7, 300, 7]])


def test_pages_are_let_go_and_read_again_when_many_rows_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rankine.data.encoded._MAPPED_ROWS", 1000)
    batch = stored(tmp_path, 5_000)
    for start in range(0, 5_000, 500):
        part = batch.select(slice(start, start + 500))
        np.testing.assert_array_equal(part.pair["id"], np.arange(start, start + 500))


def test_shuffle_is_by_blocks_when_many_rows_lie_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rankine.data.encoded._SHUFFLED_AT_ONCE", 1000)
    monkeypatch.setattr("rankine.data.encoded._BLOCK_ROWS", 100)
    rows = shuffled(stored(tmp_path, 5_050), np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(rows), np.arange(5_050))
    assert len(np.unique(rows[:1000] // 100)) <= 11  # ten blocks, or eleven where one is the short last one
    assert np.abs(np.diff(rows[:1000])).mean() > 500  # and its rows are not in the order of the file


def test_shuffle_is_that_of_loaded_rows_when_few_lie_in_files(tmp_path: Path) -> None:
    batch = stored(tmp_path, 5_000)
    expected = np.random.default_rng(4).permutation(5_000)
    np.testing.assert_array_equal(shuffled(batch, np.random.default_rng(4)), expected)


def test_memory_of_fit_and_encode_stays_when_there_are_more_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANKINE_CACHE", raising=False)

    def peak(rows: int) -> int:
        dataset = numbered(rows)
        train = dataset.splits().train
        tracemalloc.start()
        dataset.encode(dataset.fit_transforms(train))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = peak(20_000), peak(200_000)
    rows_in_memory = 5  # a position in the files, int32, and a mark of training rows
    assert many - few < 1.5 * 180_000 * rows_in_memory


def test_fit_is_that_of_all_rows_when_moments_come_in_chunks() -> None:
    dataset = numbered(10_000, chunk_rows=37)
    fitted = dataset.fit_transforms(np.arange(10_000)).normalization["x"]
    values = np.concatenate([columns["x"] for columns in Numbers(10_000, 10_000).chunks(NUMBERS.features)])
    np.testing.assert_allclose(fitted.mean, values.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(fitted.std, values.astype(np.float64).std(axis=0), rtol=1e-12)
