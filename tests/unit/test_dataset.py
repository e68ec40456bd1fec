"""Splits, checks and encoding of data sets, and how a source is recognized."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankine.data import Dataset, load_dataset
from rankine.data.dataset import split_rows
from rankine.errors import DataError, UsageError
from rankine.models.columns import take
from rankine.models.schema import CategoricalFeature, DenseFeature, Schema, Split, Vocabulary

FEATURES = (
    CategoricalFeature(name="user", side="request"),
    CategoricalFeature(name="item", side="item"),
    DenseFeature(name="distance", side="pair"),
)


def dataset(rows: int = 100, *, split: Split = Split(), **changes: Any) -> Dataset:  # noqa: B008 - frozen
    rng = np.random.default_rng(0)
    made = Dataset(
        name="made",
        schema=Schema(features=FEATURES, item_id="item", group="user", timestamp="time", split=split),
        requests={"user": np.array([11, 12, 13])},
        items={"item": np.array([5, 6, 7, 8])},
        item_ids=np.array([5, 6, 7, 8]),
        pairs={"distance": rng.normal(size=(rows, 1))},
        request_index=np.sort(rng.integers(3, size=rows)).astype(np.int32),
        item_index=rng.integers(4, size=rows).astype(np.int32),
        labels=rng.integers(2, size=(rows, 1)).astype(np.float32),
        groups=rng.integers(3, size=rows),
        timestamps=rng.permutation(rows),
    )
    return replace(made, **changes)


def test_split_is_a_partition_with_the_asked_shares_when_random() -> None:
    parts = dataset(1000).splits()
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [800, 100, 100]
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test]).tolist()) == list(range(1000))


def test_split_is_the_same_when_the_seed_is_the_same_and_another_when_not() -> None:
    first, again = dataset(1000).splits(), dataset(1000).splits()
    other = dataset(1000, split=Split(seed=1)).splits()
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_split_puts_the_latest_rows_into_the_test_part_when_by_time() -> None:
    data = dataset(1000, split=Split(by="time"))
    parts = data.splits()
    assert data.timestamps is not None
    assert data.timestamps[parts.train].max() < data.timestamps[parts.validation].min()
    assert data.timestamps[parts.validation].max() < data.timestamps[parts.test].min()


def test_split_is_refused_when_a_part_would_be_empty() -> None:
    with pytest.raises(DataError, match=r"made: too few rows to split .got 4"):
        dataset(4).splits()


def test_split_by_time_is_refused_when_there_are_no_timestamps() -> None:
    with pytest.raises(DataError, match="needs timestamps"):
        dataset(split=Split(by="time"), timestamps=None).splits()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"request_index": np.full(100, 3, np.int32)}, "request_index"),
        ({"request_index": np.full(100, -1, np.int32)}, "request_index"),
        ({"request_index": np.zeros(99, np.int32)}, "request_index"),
        ({"item_index": np.full(100, 4, np.int32)}, "item_index"),
        ({"item_ids": np.arange(5)}, "differ in length"),
        ({"labels": np.full((100, 1), 0.5, np.float32)}, "task 'label': labels must be 0 or 1"),
        ({"labels": np.ones(100, np.float32)}, "labels do not fit the tasks"),
        ({"timestamps": np.zeros(99)}, "timestamps do not fit"),
        ({"timestamps": np.array([*range(7), np.nan, *range(92)])}, "timestamps, row 8: is not a time"),
    ],
)
def test_check_refuses_when_parts_do_not_fit(changes: dict[str, np.ndarray], message: str) -> None:
    dataset().check()
    with pytest.raises(DataError, match=message):
        dataset(**changes).check()


def test_check_passes_when_the_model_reads_no_request_features() -> None:
    dataset(requests={}).check()


def test_vocabulary_knows_training_rows_only_when_fitted() -> None:
    data = dataset()
    transforms = data.fit_transforms(np.flatnonzero(data.item_index == 2))
    assert transforms.vocabularies["item"].tolist() == [7]
    assert transforms.table_rows()["item"] == 2


def test_encoded_rows_point_at_their_entities_when_encoded() -> None:
    data = dataset()
    batch = data.encode(data.fit_transforms(np.arange(100)))
    assert batch.rows == 100
    assert take(batch.item, batch.item_index)["item"].tolist() == (data.item_index + 1).tolist()  # type: ignore[union-attr]
    assert len(batch.pair["distance"]) == 100


def test_unseen_values_are_the_out_of_vocabulary_row_when_serving_would_refuse_them() -> None:
    """Else no data set whose validation rows hold a new value could be trained on."""
    strict = Vocabulary(out_of_vocabulary="error")
    features = (FEATURES[0], CategoricalFeature(name="item", side="item", encoding=strict), FEATURES[2])
    data = dataset(schema=Schema(features=features, item_id="item"))
    transforms = data.fit_transforms(np.flatnonzero(data.item_index == 2))
    assert data.encode(transforms).item["item"].tolist() == [0, 0, 1, 0]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="item: value is not in the vocabulary"):
        transforms.encode(features[1:2], {"item": data.items["item"]})


def test_clusters_are_user_and_item_when_both_are_known() -> None:
    rows = np.array([3, 1])
    data = dataset()
    assert data.groups is not None
    found = data.clusters(rows)
    assert found["user"].tolist() == data.groups[rows].tolist()
    assert found["item"].tolist() == data.item_index[rows].tolist()
    assert set(dataset(groups=None).clusters(rows)) == {"item"}


def test_items_are_no_clusters_when_there_is_one() -> None:
    data = dataset(item_ids=np.array([7]), items={})
    assert set(data.clusters(np.array([0]))) == {"user"}


def test_last_times_of_each_group_are_held_out_when_left_out() -> None:
    times = np.array([3, 1, 2, 3, 1, 1, 2, 5, 6, 7, 7])
    groups = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    parts = split_rows(Split(by="leave_last_out"), len(times), times, groups)
    assert parts.test.tolist() == [0, 3, 9, 10]
    assert parts.validation.tolist() == [2, 8]
    assert parts.train.tolist() == [1, 4, 5, 6, 7], "a group with two times only trains"


def test_split_is_refused_when_what_it_goes_by_is_not_there() -> None:
    left_out = Split(by="leave_last_out")
    with pytest.raises(DataError, match="needs groups"):
        dataset(split=left_out, groups=None).splits()
    with pytest.raises(DataError, match="leave_last_out needs timestamps"):
        dataset(split=left_out, timestamps=None).splits()


def write_csv(folder: Path) -> Path:
    path = folder / "clicks.csv"
    path.write_text(
        "user,item,distance,label,time\n" + "".join(f"{i % 3},{i % 5},0.5,{i % 2},{i}\n" for i in range(30))
    )
    return path


TABLE = Schema(features=FEATURES, item_id="item", group="user", timestamp="time")


def test_source_is_synthetic_when_named_so() -> None:
    made = load_dataset("synthetic", rows=2000, seed=3)
    assert (made.name, made.rows, made.provenance["seed"]) == ("synthetic", 2000, "3")


@pytest.mark.parametrize("whole_folder", [False, True])
def test_source_is_a_table_when_a_file_or_a_folder_of_them(tmp_path: Path, whole_folder: bool) -> None:
    path = write_csv(tmp_path)
    assert load_dataset(tmp_path if whole_folder else path, schema=TABLE).rows == 30


def test_rows_are_a_seeded_subset_in_their_order_when_cut(tmp_path: Path) -> None:
    path = write_csv(tmp_path)
    cut, again = (load_dataset(path, schema=TABLE, rows=10, seed=1) for _ in range(2))
    other = load_dataset(path, schema=TABLE, rows=10, seed=2)
    assert cut.timestamps is not None
    assert again.timestamps is not None
    assert other.timestamps is not None
    assert cut.rows == len(cut.pairs["distance"]) == len(cut.timestamps) == 10
    assert cut.timestamps.tolist() == again.timestamps.tolist() == sorted(cut.timestamps.tolist())
    assert cut.timestamps.tolist() != other.timestamps.tolist()
    # The columns still belong together: the file says that user, item and label follow from the time.
    assert (cut.labels[:, 0] == cut.timestamps % 2).all()
    assert take(cut.requests, cut.request_index)["user"].tolist() == (cut.timestamps % 3).tolist()  # type: ignore[union-attr]
    assert cut.item_ids[cut.item_index].tolist() == (cut.timestamps % 5).tolist()
    assert len(cut.item_ids) == 5
    cut.check()


def test_everything_is_kept_when_more_rows_are_asked_for_than_there_are(tmp_path: Path) -> None:
    assert load_dataset(write_csv(tmp_path), schema=TABLE, rows=1000).rows == 30


@pytest.mark.parametrize(
    ("have", "lacks"),
    [
        ("Beauty_seq.parquet", "Beauty_item_attributes.parquet"),
        ("Beauty_item_attributes.parquet", "Beauty_seq.parquet"),
    ],
)
def test_missing_file_is_named_when_behavior_sequences_are_half_there(tmp_path: Path, have: str, lacks: str) -> None:
    (tmp_path / have).touch()
    with pytest.raises(DataError, match=rf"has one of two files .got {have}; allowed: {lacks}"):
        load_dataset(tmp_path)


def test_source_is_refused_with_what_was_looked_for_when_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data found .*'synthetic'.*ratings\.dat.*\.parquet"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        load_dataset(tmp_path / "absent")
    with pytest.raises(DataError, match="no such file"):
        load_dataset(tmp_path / "absent.csv", schema=TABLE)


def test_schema_is_asked_for_when_a_table_comes_without(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"need a schema.*--schema"):
        load_dataset(write_csv(tmp_path))


def test_arguments_are_refused_when_they_would_have_no_effect() -> None:
    with pytest.raises(UsageError, match="brings its own schema"):
        load_dataset("synthetic", schema=TABLE)
    with pytest.raises(UsageError, match=r"rows: is too small .got 0"):
        load_dataset("synthetic", rows=0)
