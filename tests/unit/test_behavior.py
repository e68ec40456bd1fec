"""Behavior sequences: small logs, written here; tests/engine reads the real set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rankine.data import Dataset, load_dataset
from rankine.data.behavior import BEHAVIOR, has_behavior, load_behavior
from rankine.errors import DataError, UsageError
from rankine.models.columns import Ragged
from rankine.models.schema import Hash, Split

ITEMS = 40


def write_log(folder: Path, *, users: int = 30, items: int = ITEMS, seed: int = 0, **columns: Any) -> Path:
    """Users with two to eleven distinct items each, rows in no order; ids are not positions."""
    rng = np.random.default_rng(seed)
    lengths = 2 + np.arange(users) % 10
    log = {
        "user": np.repeat(np.arange(users) * 3 + 7, lengths),
        "item": 100 + 2 * np.concatenate([rng.permutation(items)[:length] for length in lengths]),
        "pos": np.concatenate([np.arange(length) for length in lengths]),
    }
    order = rng.permutation(len(log["user"]))
    table = {**{name: values[order].astype(np.int32) for name, values in log.items()}, **columns}
    parquet.write_table(pa.table(table), folder / "Shop_seq.parquet")
    ids = rng.permutation(100 + 2 * np.arange(items))
    attributes = [[int(item) % 7, 9] if item % 3 else [] for item in ids]
    parquet.write_table(pa.table({"item": ids, "attributes": attributes}), folder / "Shop_item_attributes.parquet")
    return folder


def had_items(folder: Path) -> dict[int, list[int]]:
    """Every user's items, oldest first."""
    log = parquet.read_table(folder / "Shop_seq.parquet").to_pydict()
    had: dict[int, list[int]] = {}
    for user, _, item in sorted(zip(log["user"], log["pos"], log["item"], strict=True)):
        had.setdefault(user, []).append(item)
    return had


def history_of(data: Dataset, request: int) -> list[int]:
    column = data.requests["history"]
    assert isinstance(column, Ragged)
    found: list[int] = column.values[column.offsets[request] : column.offsets[request + 1]].tolist()
    return found


def rows_by_request(data: Dataset) -> list[tuple[int, int, list[int], int, list[int]]]:
    """User, position, history, the item that comes next, and the negatives of every request."""
    assert data.groups is not None
    assert data.timestamps is not None
    found = []
    for request in range(len(data.requests["history"])):
        rows = np.flatnonzero(data.request_index == request)
        (user,), (position,) = set(data.groups[rows].tolist()), set(data.timestamps[rows].tolist())
        items, positive = data.item_ids[data.item_index[rows]], data.labels[rows, 0] == 1
        (target,) = items[positive].tolist()
        found.append((user, position, history_of(data, request), target, items[~positive].tolist()))
    return found


def test_history_is_what_came_before_the_item_that_is_asked_for(tmp_path: Path) -> None:
    had = had_items(write_log(tmp_path))
    requests = rows_by_request(load_behavior(tmp_path, negatives=2, test_negatives=5))
    assert sorted((user, position) for user, position, *_ in requests) == [
        (user, position) for user in sorted(had) for position in range(1, len(had[user]))
    ]
    for user, position, history, target, _ in requests:
        assert history == had[user][:position]
        assert target == had[user][position]
        assert target not in history


def test_negatives_are_distinct_items_that_the_user_never_had(tmp_path: Path) -> None:
    had = had_items(write_log(tmp_path))
    for user, _, _, _, negatives in rows_by_request(load_behavior(tmp_path, negatives=4, test_negatives=29)):
        assert len(set(negatives)) == len(negatives)
        assert not set(negatives) & set(had[user])


def test_negatives_are_many_when_held_out_and_few_when_trained_on(tmp_path: Path) -> None:
    had = had_items(write_log(tmp_path))
    data = load_behavior(tmp_path, negatives=3, test_negatives=20)
    for user, position, _, _, negatives in rows_by_request(data):
        held_out = len(had[user]) >= 4 and position >= len(had[user]) - 2
        assert len(negatives) == (20 if held_out else 3)
    parts = data.splits()
    counts = np.bincount(data.request_index)
    assert set(counts[data.request_index[parts.train]].tolist()) == {4}
    assert set(counts[data.request_index[np.concatenate([parts.validation, parts.test])]].tolist()) == {21}


def test_every_free_item_is_drawn_when_as_many_as_there_are_are_asked_for(tmp_path: Path) -> None:
    """The user with the most items, eleven, leaves twenty-nine: both ends of the range must be reachable."""
    had = had_items(write_log(tmp_path))
    longest = max(had, key=lambda user: len(had[user]))
    requests = rows_by_request(load_behavior(tmp_path, negatives=29, test_negatives=29))
    free = sorted({100 + 2 * number for number in range(ITEMS)} - set(had[longest]))
    assert all(sorted(negatives) == free for user, *_, negatives in requests if user == longest)


def test_negatives_are_uniform_when_many_are_drawn(tmp_path: Path) -> None:
    write_log(tmp_path, users=3, items=12)
    counts = dict.fromkeys(range(12), 0)
    had = had_items(tmp_path)
    (user,) = (user for user, items in had.items() if len(items) == 4)
    for seed in range(200):
        for owner, *_, negatives in rows_by_request(load_behavior(tmp_path, negatives=2, test_negatives=2, seed=seed)):
            for item in negatives if owner == user else ():
                counts[(item - 100) // 2] += 1
    drawn = np.array([count for item, count in counts.items() if 100 + 2 * item not in had[user]])
    assert drawn.sum() == 200 * 3 * 2
    expected = drawn.mean()
    assert ((drawn - expected) ** 2 / expected).sum() < 26  # chi-squared of 7 degrees of freedom: p < 0.0005 above


def test_last_requests_of_a_user_are_left_out_of_training_when_split(tmp_path: Path) -> None:
    data = load_behavior(write_log(tmp_path), test_negatives=10)
    parts = data.splits()
    users, times = data.groups, data.timestamps
    assert users is not None
    assert times is not None
    requests = [set(data.request_index[part].tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert not requests[0] & requests[1]
    assert not requests[0] & requests[2]
    assert not requests[1] & requests[2]
    assert sum(map(len, requests)) == len(data.requests["history"])
    for user in np.unique(users[parts.test]):
        last = [times[part][users[part] == user] for part in (parts.train, parts.validation, parts.test)]
        assert last[0].max() < last[1].min()
        assert last[1].max() < last[2].min()


def test_history_and_item_share_a_table_when_encoded(tmp_path: Path) -> None:
    data = load_behavior(write_log(tmp_path), test_negatives=10)
    transforms = data.fit_transforms(data.splits().train)
    assert set(transforms.table_rows()) == {"item", "attributes"}
    batch = data.encode(transforms)
    history, item = batch.request["history"], batch.item["item"]
    assert isinstance(history, Ragged)
    assert isinstance(item, np.ndarray)
    ids = dict(zip(data.item_ids.tolist(), item.tolist(), strict=True))
    raw = data.requests["history"]
    assert isinstance(raw, Ragged)
    assert history.values.tolist() == [ids[value] for value in raw.values.tolist()]


def test_history_holds_the_newest_items_when_it_is_long(tmp_path: Path) -> None:
    length = 60
    write_log(tmp_path, items=100)
    order = np.random.default_rng(1).permutation(100)[:length]
    log = {"user": [1] * length, "item": 100 + 2 * order, "pos": np.arange(length)}
    parquet.write_table(pa.table(log), tmp_path / "Shop_seq.parquet")
    data = load_behavior(tmp_path, test_negatives=10)
    lengths = [len(history_of(data, request)) for request in range(length - 1)]
    assert lengths == [min(position, 50) for position in range(1, length)]
    assert history_of(data, length - 2) == (100 + 2 * order[length - 51 : length - 1]).tolist()


def test_items_have_their_attributes_when_listed_in_any_order(tmp_path: Path) -> None:
    data = load_behavior(write_log(tmp_path), test_negatives=10)
    assert data.item_ids.tolist() == [100 + 2 * number for number in range(ITEMS)]
    attributes = data.items["attributes"]
    assert isinstance(attributes, Ragged)
    for row, item in enumerate(data.item_ids.tolist()):
        found = attributes.values[attributes.offsets[row] : attributes.offsets[row + 1]].tolist()
        assert found == ([item % 7, 9] if item % 3 else [])


def test_data_is_equal_when_the_seed_is_equal_and_differs_when_not(tmp_path: Path) -> None:
    write_log(tmp_path)
    first, again, other = (load_behavior(tmp_path, test_negatives=10, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.item_index, again.item_index)
    assert not np.array_equal(first.item_index, other.item_index)
    assert first.provenance == again.provenance
    assert first.provenance != other.provenance


def test_rows_keep_whole_users_when_cut(tmp_path: Path) -> None:
    had = had_items(write_log(tmp_path))
    whole = load_behavior(tmp_path, test_negatives=10)
    cut, other = (load_behavior(tmp_path, test_negatives=10, rows=300, seed=seed) for seed in (0, 1))
    assert cut.groups is not None
    assert other.groups is not None
    assert 200 < cut.rows <= 300 < whole.rows
    kept = np.unique(cut.groups).tolist()
    assert kept != np.unique(other.groups).tolist()
    assert sorted((user, position) for user, position, *_ in rows_by_request(cut)) == [
        (user, position) for user in kept for position in range(1, len(had[user]))
    ]
    assert len(cut.item_ids) == ITEMS
    assert "300" in cut.provenance["subset"]
    everything = load_behavior(tmp_path, test_negatives=10, rows=10**6)
    assert np.array_equal(everything.item_index, whole.item_index)


def test_provenance_names_files_hashes_and_draws_when_read(tmp_path: Path) -> None:
    data = load_behavior(write_log(tmp_path), negatives=3, test_negatives=10, seed=4)
    assert data.name == "s3rec-shop"
    assert data.provenance["source"] == "Shop_seq.parquet, Shop_item_attributes.parquet"
    assert [len(part) for part in data.provenance["sha256"].split(", ")] == [64, 64]
    assert data.provenance["negatives"] == "3 in training, 10 in validation and test, uniform"
    assert data.provenance["seed"] == "4"


def test_load_dataset_finds_behavior_when_given_its_folder(tmp_path: Path) -> None:
    assert not has_behavior(tmp_path)
    write_log(tmp_path, items=100)
    assert has_behavior(tmp_path)
    data = load_dataset(tmp_path, rows=1000, seed=2)
    assert data.schema is BEHAVIOR
    assert 500 < data.rows <= 1000
    assert data.provenance["seed"] == "2"


def test_schema_can_change_encodings_but_not_the_split_when_given(tmp_path: Path) -> None:
    write_log(tmp_path, items=100)
    hashed = BEHAVIOR.model_copy(
        update={
            "features": tuple(
                feature.model_copy(update={"encoding": Hash(buckets=16)}) for feature in BEHAVIOR.features[:2]
            )
        }
    )
    data = load_dataset(tmp_path, schema=hashed)
    assert data.fit_transforms(data.splits().train).table_rows() == {"item": 16}
    assert list(data.items) == ["item"]
    with pytest.raises(UsageError, match=r"split.*got random; allowed: leave_last_out"):
        load_dataset(tmp_path, schema=BEHAVIOR.model_copy(update={"split": Split()}))


@pytest.mark.parametrize(("truncation", "most"), [("left", 3), ("left", 100), ("right", 2)])
def test_history_is_as_long_as_the_schema_reads_when_one_is_given(
    tmp_path: Path, truncation: Literal["left", "right"], most: int
) -> None:
    count = 70
    columns = {"user": np.zeros(count, np.int64), "pos": np.arange(count), "item": 100 + 2 * np.arange(count)}
    write_log(tmp_path, items=200)
    parquet.write_table(pa.table(columns), tmp_path / "Shop_seq.parquet")
    history = BEHAVIOR.features[0].model_copy(update={"max_length": most, "truncation": truncation})
    schema = BEHAVIOR.model_copy(update={"features": (history, *BEHAVIOR.features[1:])})
    encoded = load_dataset(tmp_path, schema=schema)
    found = encoded.encode(encoded.fit_transforms(np.arange(encoded.rows))).request["history"]
    assert isinstance(found, Ragged)
    last = found.values[found.offsets[-2] :].tolist()
    before = list(range(1, count))  # ids of the items, all of which were seen
    assert last == (before[-most:] if truncation == "left" else before[:most])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos": [0, 1, 3], "user": [7, 7, 7], "item": [100, 102, 104]}, r"user 7: has a gap .*got 3; allowed: 2"),
        ({"pos": [1, 2, 3], "user": [7, 7, 7], "item": [100, 102, 104]}, r"user 7: has a gap .*got 1; allowed: 0"),
        ({"pos": [0, 0, 1], "user": [7, 7, 7], "item": [100, 102, 104]}, r"user 7: has a gap .*got 0; allowed: 1"),
        ({"pos": [0, 1], "user": [7, 7], "item": [100, 101]}, r"column 'item', row 2: has no attributes .got 101"),
        ({"pos": [0, None], "user": [7, 7], "item": [100, 102]}, r"column 'pos', row 2: is missing"),
        ({"pos": [], "user": [], "item": []}, r"Shop_seq\.parquet: has no rows"),
        ({"poss": [0], "user": [7], "item": [100]}, r"has no column 'pos'.*Did you mean 'poss'"),
    ],
)
def test_log_is_refused_with_what_is_wrong_when_malformed(
    tmp_path: Path, change: dict[str, list[Any]], message: str
) -> None:
    write_log(tmp_path)
    parquet.write_table(pa.table(change), tmp_path / "Shop_seq.parquet")
    with pytest.raises(DataError, match=message):
        load_behavior(tmp_path, test_negatives=10)


def test_attributes_are_refused_when_an_item_is_listed_twice(tmp_path: Path) -> None:
    write_log(tmp_path)
    table = pa.table({"item": [1, 2, 1], "attributes": [[1], [], []]})
    parquet.write_table(table, tmp_path / "Shop_item_attributes.parquet")
    with pytest.raises(DataError, match=r"an item is listed twice .got 1"):
        load_behavior(tmp_path)


def test_folder_is_refused_with_what_is_expected_when_it_holds_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no behavior sequences .got neither; allowed: one NAME_seq\.parquet"):
        load_behavior(tmp_path)
    write_log(tmp_path)
    (tmp_path / "Shop_item_attributes.parquet").unlink()
    assert not has_behavior(tmp_path)
    with pytest.raises(DataError, match=r"got Shop_seq\.parquet"):
        load_behavior(tmp_path)


def test_request_is_refused_with_the_user_when_there_are_too_few_negatives(tmp_path: Path) -> None:
    write_log(tmp_path)
    with pytest.raises(DataError, match=r"user \d+: had too many of the items .got 3\d left.*fewer negatives"):
        load_behavior(tmp_path, test_negatives=50)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"negatives": 0}, r"negatives: is too small .got 0; allowed: at least 1"),
        ({"test_negatives": 0}, "test_negatives: is too small"),
        ({"seed": -1}, "seed: is too small"),
        ({"rows": 3, "test_negatives": 10}, r"rows are too few for one user"),
    ],
)
def test_arguments_are_refused_with_the_name_when_too_small(
    tmp_path: Path, arguments: dict[str, int], message: str
) -> None:
    write_log(tmp_path)
    with pytest.raises((UsageError, DataError), match=message):
        load_behavior(tmp_path, **arguments)  # type: ignore[arg-type]
