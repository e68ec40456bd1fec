"""Encoded rows that lie in files: selected, shuffled, and never all in memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rankine.data.encoded import StoredBatch, open_rows, shuffled, write_rows
from rankine.data.stream import StreamedDataset
from rankine.data.table_stream import stream_table
from rankine.models.columns import Column, Ragged
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    Identity,
    MultiHotFeature,
    Schema,
)
from unit.streamed_files import SCHEMA, write_files

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
