"""Data sets that stay on disk: the same rows, transforms and batches as of those that are loaded."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import rankine.data.load
from rankine.data import Dataset, load_dataset, load_table
from rankine.data.stream import StreamedDataset
from rankine.data.table_stream import stream_table
from rankine.errors import DataError
from rankine.models.columns import Column, Ragged
from rankine.models.schema import (
    Split,
)
from rankine.models.transforms import Transforms
from unit.streamed_files import ROWS, SCHEMA, assert_same, per_row, table, write_files


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
