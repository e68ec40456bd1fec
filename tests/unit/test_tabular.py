"""Parquet and CSV through a schema: real files, written here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rankine.data import Dataset, load_table
from rankine.errors import DataError
from rankine.models.columns import Ragged, take
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    MultiHotFeature,
    Schema,
    SequenceFeature,
    Split,
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


def test_files_are_refused_when_of_two_kinds_or_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no table .got nothing; allowed: \.parquet"):
        load_table(tmp_path, SCHEMA)
    write_parquet(tmp_path / "a.parquet", COLUMNS)
    write_csv(tmp_path / "b.csv", COLUMNS)
    with pytest.raises(DataError, match=r"got a\.parquet, b\.csv"):
        load_table(tmp_path, SCHEMA)
    with pytest.raises(DataError, match=r"got a\.txt"):
        load_table(tmp_path / "a.txt", SCHEMA)


@WRITERS
def test_missing_column_is_refused_with_a_suggestion_when_misspelt(tmp_path: Path, write: Any, name: str) -> None:
    columns = {("postion" if key == "position" else key): values for key, values in COLUMNS.items()}
    with pytest.raises(DataError, match=rf"{name}: has no column 'position'.*Did you mean 'postion'\?"):
        load_table(write(tmp_path / name, columns), SCHEMA)


BAD_VALUES = [
    ("price", [1.0, None, 1.0, 1.0, 1.0], "price', row 2: is missing or NaN"),
    ("price", [1.0, 2.0, 1e300, 1.0, 1.0], "price', row 3: is infinite"),
    ("vector", [[1.0, 2.0]] * 4 + [[1.0]], "vector', row 5: has the wrong width .got 1; allowed: 2"),
    ("vector", [[1.0, 2.0]] * 4 + [None], "vector', row 5: has the wrong width .got 0"),
    ("item", [30, None, 30, 20, 10], "item', row 2: is missing"),
    ("user", ["a", "b", None, "c", "d"], "user', row 3: is missing"),
    ("when", [1, 2, 3, None, 4], "when', row 4: is missing"),
    ("position", [0, 1.5, 0, 0, 0], "position', row 2: is not an integer .got"),
]


@WRITERS
@pytest.mark.parametrize(("column", "values", "message"), BAD_VALUES)
def test_value_is_refused_with_column_and_row_when_missing_or_wrong(
    tmp_path: Path, write: Any, name: str, column: str, values: list[Any], message: str
) -> None:
    path = write(tmp_path / name, {**COLUMNS, column: values})
    with pytest.raises(DataError, match=rf"{name}: column '{message}"):
        load_table(path, SCHEMA)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("price", ["1", "2", "cheap", "1", "1"], "price', row 3: is not a number .got 'cheap'"),
        ("position", ["0", "1", "x", "0", "1"], "position', row 3: is not an integer .got 'x'"),
        ("likes", [[1], ["b"], [], [], []], "likes', row 2: is not an integer .got 'b'"),
        ("when", ["yesterday"] * 5, "when', row 1: is not a time .got yesterday"),
        ("when", ["1", "2.5", "3", "soon", "5"], "when', row 4: is not a time .got soon"),
        ("when", ["2024-05-01", "2024-05-02", "2024-05-32", "x", "y"], "when', row 3: is not a time .got 2024-05-32"),
        ("when", ["2024-05-01T10:00Z"] * 2 + ["2024-05-01T10:00"] * 3, "when', row 3: .*a time zone in every row"),
        ("when", ["1", "2", "nan", "4", "5"], "when', row 3: is not a finite time .got nan"),
        ("user", ["a", "b", "a", "c\0", "c"], "user', row 4: holds NUL"),
    ],
)
def test_text_is_refused_with_column_and_row_when_it_is_no_number(
    tmp_path: Path, column: str, values: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=f"column '{message}"):
        load_table(write_csv(tmp_path / "t.csv", {**COLUMNS, column: values}), SCHEMA)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user", [1, 2, 3, 4, 5], "user': must be strings .got int64.*Set dtype: int64"),
        ("user", [["a"]] * 5, "user': must be strings .got list.*Set kind: multi_hot, or sequence"),
        ("hour", [[9]] * 5, "hour': must be integers .got list.*Set kind: multi_hot, or sequence"),
        ("price", [[9.0]] * 5, "price': must be numbers .got list.*Give the feature its width"),
        ("hour", [b"9"] * 5, "hour': must be integers .got binary"),
        ("price", [b"9"] * 5, "price': must be numbers .got binary"),
        ("tags", [1, 2, 3, 4, 5], "tags': must be lists .got int64.*set kind: categorical"),
        ("likes", [[1, None], [], [], [], []], "likes', row 1: is missing"),
        ("tags", [["a"], [], ["b", "a\0"], [], []], "tags', row 3: holds NUL"),
        ("when", [1.0, float("nan"), 2.0, 3.0, 4.0], "when', row 2: is not a finite time"),
        ("when", [b"9"] * 5, "when', row 1: is not a time"),
    ],
)
def test_parquet_column_is_refused_when_of_the_wrong_type(
    tmp_path: Path, column: str, values: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=f"column '{message}"):
        load_table(write_parquet(tmp_path / "t.parquet", {**COLUMNS, column: values}), SCHEMA)


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


WATCHED = Schema(
    features=(
        SequenceFeature(name="history", side="request", table="item", max_length=3),
        SequenceFeature(name="first", side="request", table="item", max_length=2, truncation="right"),
        SequenceFeature(name="words", side="pair", dtype="string", default=("none",)),
        CategoricalFeature(name="item", side="item"),
        MultiHotFeature(name="tags", side="item", dtype="string", weights="tag_weights", default=("none", "new")),
    ),
    item_id="item",
    group="user",
    timestamp="when",
    split=Split(by="leave_last_out"),
)
HISTORIES: dict[str, list[Any]] = {
    "user": [1, 1, 1, 1, 2, 2],
    "item": [4, 5, 6, 7, 4, 6],
    "history": [[], [4], [4, 5], [4, 5, 6, 9], None, [4, 4]],
    "first": [[4, 5, 6], [4, 5, 6], [4, 5], [], [9], [9]],
    "words": [["a", "b"], ["b", "a"], [], None, ["a"], ["a"]],
    "tags": [["x"], ["x", "y"], [], None, ["x"], ["z", "x"]],
    "tag_weights": [[0.5], [1.0, 2.0], [], None, [0.5], [-3.0, 0.25]],
    "label": [1, 0, 1, 0, 1, 0],
    "when": [1, 2, 3, 4, 1, 2],
}


@WRITERS
def test_sequences_keep_their_order_and_newest_values_when_read(tmp_path: Path, write: Any, name: str) -> None:
    data = load_table(write(tmp_path / name, HISTORIES), WATCHED)
    assert per_row(data, "history") == [[], [4], [4, 5], [5, 6, 9], [], [4, 4]]
    assert per_row(data, "first") == [[4, 5], [4, 5], [4, 5], [], [9], [9]]
    empty = [b"none"] if write is write_csv else []  # in CSV an empty list and a missing one are the same
    assert rows_of(data.pairs["words"]) == [[b"a", b"b"], [b"b", b"a"], empty, [b"none"], [b"a"], [b"a"]]
    assert len(data.requests["history"]) == 6
    transforms = data.fit_transforms(np.arange(6))
    assert transforms.vocabularies["item"].tolist() == [4, 5, 6, 7, 9]
    assert set(transforms.vocabularies) == {"item", "words", "tags"}


def test_no_value_is_in_the_vocabulary_when_it_is_always_truncated(tmp_path: Path) -> None:
    columns = {**HISTORIES, "history": [[77, 4, 4, 4]] * 6}
    data = load_table(write_parquet(tmp_path / "t.parquet", columns), WATCHED)
    assert 77 not in data.fit_transforms(np.arange(6)).vocabularies["item"]


@WRITERS
def test_weights_belong_to_their_values_when_read(tmp_path: Path, write: Any, name: str) -> None:
    data = load_table(write(tmp_path / name, HISTORIES), WATCHED)
    tags = data.items["tags"]
    assert isinstance(tags, Ragged)
    assert tags.weights is not None
    assert tags.weights.dtype == np.float32
    weights = rows_of(Ragged(tags.weights, tags.offsets))
    by_item = dict(zip(data.item_ids.tolist(), zip(rows_of(tags), weights, strict=True), strict=True))
    assert by_item[4] == ([b"x"], [0.5])
    assert by_item[5] == ([b"x", b"y"], [1.0, 2.0])
    assert by_item[6] == ([b"z", b"x"], [-3.0, 0.25])  # its only row in training
    assert by_item[7] == ([b"none", b"new"], [1.0, 1.0])
    assert data.provenance["item_conflicts"] == "1"


def test_items_conflict_when_only_a_weight_differs(tmp_path: Path) -> None:
    same = {**HISTORIES, "item": [4, 5, 6, 7, 4, 5], "tags": [["x"]] * 6, "tag_weights": [[1.0]] * 6}
    other = {**same, "tag_weights": [[1.0]] * 5 + [[2.0]]}
    conflicts = [
        load_table(write_parquet(tmp_path / f"{number}.parquet", columns), WATCHED).provenance["item_conflicts"]
        for number, columns in enumerate((same, other))
    ]
    assert conflicts == ["0", "1"]


def test_requests_differ_when_only_weights_or_order_do(tmp_path: Path) -> None:
    schema = Schema(
        features=(
            MultiHotFeature(name="tags", side="request", dtype="string", weights="tag_weights"),
            CategoricalFeature(name="item", side="item"),
        ),
        item_id="item",
    )
    columns = {
        "item": [1, 2, 3, 4, 5],
        "tags": [["x", "y"], ["x", "y"], ["x", "y"], ["y", "x"], ["x"]],
        "tag_weights": [[1.0, 2.0], [1.0, 2.0], [2.0, 2.0], [2.0, 1.0], [1.0]],
        "label": [0, 1, 0, 1, 0],
    }
    data = load_table(write_parquet(tmp_path / "t.parquet", columns), schema)
    index = data.request_index.tolist()
    assert index[0] == index[1]
    assert len(set(index)) == 4


@WRITERS
@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (
            "tag_weights",
            [[0.5], [1.0], [], None, [0.5], [1.0, 1.0]],
            "row 2: has another number of weights than of values .got 1; allowed: 2",
        ),
        (
            "tag_weights",
            [[0.5], [1.0, 2.0], [], None, None, [1.0, 1.0]],
            "row 5: has another number .*got 0; allowed: 1",
        ),
        ("tag_weights", [[0.5], [1.0, 1e300], [], None, [0.5], [1.0, 1.0]], "row 2: is infinite"),
        ("tag_weights", [[0.5], [1.0, float("nan")], [], None, [0.5], [1.0, 1.0]], "row 2: is missing or NaN"),
    ],
)
def test_weights_are_refused_with_column_and_row_when_they_do_not_fit(
    tmp_path: Path, write: Any, name: str, column: str, values: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=rf"{name}: column '{column}', {message}"):
        load_table(write(tmp_path / name, {**HISTORIES, column: values}), WATCHED)


def test_missing_weights_are_refused_with_their_feature_when_not_there(tmp_path: Path) -> None:
    columns = {key: values for key, values in HISTORIES.items() if key != "tag_weights"}
    with pytest.raises(DataError, match="has no column 'tag_weights', the weights of feature 'tags'"):
        load_table(write_parquet(tmp_path / "t.parquet", columns), WATCHED)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("history", [1, 2, 3, 4, 5, 6], "history': must be lists .got int64.*set kind: categorical"),
        ("history", [["a"], [], [], [], [], []], "history', row 1: is not an integer .got 'a'"),
        ("words", [[1], [], [], [], [], []], "words': must be strings .got int64.*Set dtype: int64"),
        ("history", [[[1]], [], [], [], [], []], "history': must be integers .got list"),
    ],
)
def test_sequence_is_refused_with_its_column_when_of_the_wrong_kind(
    tmp_path: Path, column: str, values: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=f"column '{message}"):
        load_table(write_parquet(tmp_path / "t.parquet", {**HISTORIES, column: values}), WATCHED)


def test_last_row_of_a_user_is_the_test_when_left_out(tmp_path: Path) -> None:
    data = load_table(write_parquet(tmp_path / "t.parquet", HISTORIES), WATCHED)
    parts = data.splits()
    assert data.item_ids[data.item_index[parts.test]].tolist() == [7]
    assert data.item_ids[data.item_index[parts.validation]].tolist() == [6]
    assert parts.train.tolist() == [0, 1, 4, 5]  # the second user has too few rows to leave some out


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


def test_error_names_the_extra_when_pyarrow_is_not_installed(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", COLUMNS)
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"  # as if it were not there, in a process of its own
        "from rankine.data.arrow import read_columns\nfrom rankine.errors import DataError\nfrom pathlib import Path\n"
        "try: read_columns(Path(sys.argv[1]), ['user'])\n"
        "except DataError as error: sys.stdout.write(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "needs pyarrow" in done.stdout
    assert "pip install 'rankine[data]'" in done.stdout


@pytest.mark.parametrize(("name", "kind"), [("t.parquet", "Parquet"), ("t.csv", "CSV")])
def test_file_is_refused_when_it_is_missing_or_not_a_table(tmp_path: Path, name: str, kind: str) -> None:
    with pytest.raises(DataError, match=f"{name}: no such file"):
        load_table(tmp_path / name, SCHEMA)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=f"{name}: not readable as {kind}"):
        load_table(tmp_path / name, SCHEMA)


@WRITERS
def test_table_is_refused_when_it_has_no_rows(tmp_path: Path, write: Any, name: str) -> None:
    with pytest.raises(DataError, match="has no rows"):
        load_table(write(tmp_path / name, {key: [] for key in COLUMNS}), SCHEMA)
