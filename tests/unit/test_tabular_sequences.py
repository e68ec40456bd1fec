"""Sequences and weighted lists of Parquet and CSV tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankine.data import load_table
from rankine.errors import DataError
from rankine.models.columns import Ragged
from rankine.models.schema import (
    CategoricalFeature,
    MultiHotFeature,
    Schema,
    SequenceFeature,
    Split,
)
from unit.table_files import WRITERS, per_row, rows_of, write_csv, write_parquet

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
