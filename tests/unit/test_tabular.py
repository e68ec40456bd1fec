"""Parquet and CSV through a schema: real files, written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankine.data import load_table
from rankine.errors import DataError
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Schema,
    Split,
    Task,
)
from unit.table_files import COLUMNS, SCHEMA, WRITERS, per_row, rows_of, write_csv, write_parquet


@WRITERS
def test_table_is_split_into_requests_items_and_rows_when_read(tmp_path: Path, write: Any, name: str) -> None:
    data = load_table(write(tmp_path / name, COLUMNS), SCHEMA)
    assert data.name == "clicks"
    assert per_row(data, "user") == [text.encode() for text in COLUMNS["user"]]
    assert per_row(data, "hour") == [9, 9, 12, 10, 12]
    assert per_row(data, "likes") == COLUMNS["likes"]
    assert len(data.requests["user"]) == 3  # rows 1 and 2, and 3 and 5, are one request each
    assert data.request_index[0] == data.request_index[1]
    assert data.request_index[2] == data.request_index[4]
    assert data.item_ids.tolist() == [10, 20, 30]
    assert data.item_ids[data.item_index].tolist() == COLUMNS["item"]
    assert data.items["vector"].tolist() == [[2, 3], [4, 5], [0, 1]]  # type: ignore[union-attr]
    assert data.pairs["stock"].tolist() == [[7], [-1], [-1], [0], [1]]  # type: ignore[union-attr]
    assert data.pairs["position"].tolist() == COLUMNS["position"]  # type: ignore[union-attr]
    assert data.labels.dtype == np.float32
    assert data.labels.tolist() == [[1], [0], [1], [0], [1]]
    assert data.groups is not None
    assert data.groups.dtype == np.int64
    assert data.groups.tolist() == [1, 1, 0, 1, 0]
    assert data.timestamps is not None
    assert data.timestamps.tolist() == COLUMNS["when"]
    data.encode(data.fit_transforms(np.arange(5)))


def test_missing_list_is_the_default_when_the_schema_has_one(tmp_path: Path) -> None:
    data = load_table(write_parquet(tmp_path / "t.parquet", COLUMNS), SCHEMA)
    assert rows_of(data.items["tags"]) == [[b"a", b"b"], [b"none"], [b"a"]]


@WRITERS
def test_defaults_are_used_when_no_row_has_a_value(tmp_path: Path, write: Any, name: str) -> None:
    empty = dict.fromkeys(("hour", "likes", "tags", "stock"), [None] * 5)
    data = load_table(write(tmp_path / name, {**COLUMNS, **empty}), SCHEMA)
    assert per_row(data, "hour") == [12] * 5
    assert per_row(data, "likes") == [[]] * 5
    assert per_row(data, "tags") == [[b"none"]] * 5
    assert data.pairs["stock"].tolist() == [[-1.0]] * 5  # type: ignore[union-attr]


@WRITERS
def test_conflicting_items_are_counted_when_rows_differ(tmp_path: Path, write: Any, name: str) -> None:
    data = load_table(write(tmp_path / name, COLUMNS), SCHEMA)
    assert data.provenance["item_conflicts"] == "1"
    lists = {**COLUMNS, "tags": [["a"], ["a", "b"], ["a"], ["c"], ["b", "a"]], "price": [1, 1, 1, 1, 1]}
    data = load_table(write(tmp_path / f"lists-{name}", lists), SCHEMA)
    assert data.provenance["item_conflicts"] == "1"


@pytest.mark.parametrize("by", ["random", "time"])
@pytest.mark.parametrize("rows", [None, 60])
def test_item_has_the_values_of_its_last_training_row_when_rows_differ(
    tmp_path: Path, by: Any, rows: int | None
) -> None:
    """Values of test rows would leak into training: nothing that a user did later is known then."""
    random = np.random.default_rng(0)
    numbers = np.arange(200)
    columns = {
        "item": [*random.integers(5, size=199).tolist(), 99],  # item 99 has one row, the last one, and not for training
        "seen": numbers.astype(float).tolist(),
        "row": numbers.tolist(),
        "label": (numbers % 2).tolist(),
        "when": [*random.permutation(199).tolist(), 1000],
    }
    schema = Schema(
        features=(
            CategoricalFeature(name="item", side="item"),
            DenseFeature(name="seen", side="item"),
            CategoricalFeature(name="row", side="pair"),
        ),
        item_id="item",
        timestamp="when",
        split=Split(by=by, fractions=(0.5, 0.2, 0.3), seed=8),
    )
    data = load_table(write_parquet(tmp_path / "t.parquet", columns), schema, rows=rows, seed=3)
    train = data.splits().train
    assert data.rows == (rows or 200)
    in_training = np.asarray(data.pairs["row"])[train]
    assert 199 not in in_training
    seen = dict(zip(data.item_ids.tolist(), np.asarray(data.items["seen"])[:, 0].tolist(), strict=True))
    last = {int(columns["item"][row]): float(row) for row in sorted(in_training.tolist())}
    assert len(last) == 5
    assert seen == {**last, 99: 199.0}
    assert data.provenance["item_conflicts"] == "5"


@WRITERS
def test_files_of_a_folder_are_one_table_when_of_one_kind(tmp_path: Path, write: Any, name: str) -> None:
    suffix = name.partition(".")[2]
    first = {key: values[:2] for key, values in COLUMNS.items()}
    second = {key: values[2:] for key, values in COLUMNS.items()}
    whole = load_table(write(tmp_path / name, COLUMNS), SCHEMA)
    folder = tmp_path / "parts"
    folder.mkdir()
    paths = [write(folder / f"0.{suffix}", first), write(folder / f"1.{suffix}", second)]
    for data in (load_table(folder, SCHEMA), load_table(paths, SCHEMA)):
        assert data.labels.tolist() == whole.labels.tolist()
        assert data.item_ids.tolist() == whole.item_ids.tolist()
        assert data.groups is not None
        assert whole.groups is not None
        assert data.groups.tolist() == whole.groups.tolist()
        assert per_row(data, "likes") == per_row(whole, "likes")
        assert data.provenance["source"] == f"0.{suffix}, 1.{suffix}"


TWO_TASKS = SCHEMA.model_copy(
    update={"tasks": (Task(name="liked", label="rating", threshold=3.0), Task(name="bought", label="bought"))}
)
BOUGHT = {**COLUMNS, "bought": [1, 0, 0, 0, 1]}


@WRITERS
def test_labels_have_a_column_a_task_when_there_are_several(tmp_path: Path, write: Any, name: str) -> None:
    data = load_table(write(tmp_path / name, BOUGHT), TWO_TASKS)
    assert data.labels.tolist() == [[1, 1], [0, 0], [1, 0], [0, 0], [1, 1]]
    swapped = TWO_TASKS.model_copy(update={"tasks": TWO_TASKS.tasks[::-1]})
    assert load_table(tmp_path / name, swapped).labels.tolist() == data.labels[:, ::-1].tolist()


def test_labels_differ_by_threshold_when_tasks_share_a_column(tmp_path: Path) -> None:
    tasks = tuple(Task(name=f"from_{stars}", label="rating", threshold=stars) for stars in (2, 5))
    data = load_table(write_parquet(tmp_path / "t.parquet", COLUMNS), SCHEMA.model_copy(update={"tasks": tasks}))
    assert data.labels.tolist() == [[1, 1], [1, 0], [1, 0], [0, 0], [1, 0]]


@WRITERS
@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("bought", [1, 0, 2, 0, 1], r"row 3: is not a label .got 2\.0; allowed: 0, 1.*Give task 'bought' a threshold"),
        ("bought", [1, 0, None, 0, 1], "row 3: is missing or NaN"),
        ("rating", [5, 2, 3, None, 4], "row 4: is missing or NaN"),
    ],
)
def test_label_is_refused_with_task_column_and_row_when_wrong(
    tmp_path: Path, write: Any, name: str, column: str, values: list[Any], message: str
) -> None:
    path = write(tmp_path / name, {**BOUGHT, column: values})
    task = {"bought": "bought", "rating": "liked"}[column]
    with pytest.raises(DataError, match=rf"{name}: task '{task}', column '{column}', {message}"):
        load_table(path, TWO_TASKS)


@WRITERS
def test_missing_label_is_refused_with_its_task_when_misspelt(tmp_path: Path, write: Any, name: str) -> None:
    columns = {("bougth" if key == "bought" else key): values for key, values in BOUGHT.items()}
    message = rf"{name}: has no column 'bought', the label of task 'bought'.*Did you mean 'bougth'\?"
    with pytest.raises(DataError, match=message):
        load_table(write(tmp_path / name, columns), TWO_TASKS)


def test_item_has_no_values_of_left_out_rows_when_it_was_trained_on(tmp_path: Path) -> None:
    """Groups are text here, and not in the order of the rows: the split is by user, not by row."""
    columns = {
        "user": ["b", "a", "b", "a", "b", "a"],
        "item": [1, 1, 1, 1, 1, 1],
        "seen": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0],
        "label": [0, 1, 0, 1, 0, 1],
        "when": [3, 1, 1, 2, 2, 3],
    }
    schema = Schema(
        features=(DenseFeature(name="seen", side="item"),),
        item_id="item",
        group="user",
        timestamp="when",
        split=Split(by="leave_last_out"),
    )
    data = load_table(write_parquet(tmp_path / "t.parquet", columns), schema)
    assert data.splits().train.tolist() == [1, 2]
    assert data.items["seen"].tolist() == [[30.0]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("times", "ordered"),
    [
        (["2024-05-01T10:00:00", "2024-05-01T09:00:00", "2023-01-01T00:00:00"], [2, 1, 0]),
        (["2024-05-01T10:00:00+02:00", "2024-05-01T09:30:00Z", "2024-05-01T06:00:00-01:00"], [2, 0, 1]),
        (["2024-05-01", "2023-05-01", "2025-05-01"], [1, 0, 2]),
        (["3", "2", "10"], [1, 0, 2]),
        (["0.5", "0.25", "10.5"], [1, 0, 2]),
    ],
    ids=["iso", "zones", "dates", "integers", "floats"],
)
def test_rows_are_ordered_by_time_when_times_are_text(tmp_path: Path, times: list[str], ordered: list[int]) -> None:
    schema = Schema(
        features=(CategoricalFeature(name="item", side="item"),),
        item_id="item",
        timestamp="when",
        split=Split(by="time", fractions=(0.34, 0.33, 0.33)),
    )
    data = load_table(write_csv(tmp_path / "t.csv", {"item": [1, 2, 3], "label": [0, 1, 0], "when": times}), schema)
    parts = data.splits()
    assert [*parts.train, *parts.validation, *parts.test] == ordered


def test_group_separates_requests_when_it_is_no_feature(tmp_path: Path) -> None:
    schema = Schema(
        features=(CategoricalFeature(name="hour", side="request"), CategoricalFeature(name="item", side="item")),
        item_id="sku",
        item_id_dtype="string",
        group="session",
    )
    columns = {
        "hour": [9, 9, 9],
        "item": [1, 2, 1],
        "sku": ["x-1", "x-2", "x-1"],
        "session": ["s1", "s2", "s1"],
        "label": [0, 1, 1],
    }
    data = load_table(write_csv(tmp_path / "t.csv", columns), schema)
    assert data.request_index.tolist() == [0, 1, 0]
    assert data.item_ids.tolist() == [b"x-1", b"x-2"]
