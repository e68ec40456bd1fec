"""Ragged columns against lists of Python lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankine.errors import DataError
from rankine.models.columns import Batch, Ragged, concat, row_count, take

rows_of_ints = st.lists(st.lists(st.integers(-5, 5), max_size=4), max_size=8)


def as_lists(column: Ragged) -> list[list[int]]:
    bounds = zip(column.offsets[:-1], column.offsets[1:], strict=True)
    return [column.values[start:end].tolist() for start, end in bounds]


def ragged(column: object) -> Ragged:
    assert isinstance(column, Ragged)
    return column


@given(rows_of_ints)
def test_ragged_equals_lists_when_made_from_lists(rows: list[list[int]]) -> None:
    column = Ragged.from_lists(rows, np.int64)
    assert as_lists(column) == rows
    assert len(column) == len(rows)
    assert column.offsets.dtype == np.int32


@given(rows_of_ints.filter(bool), st.data())
def test_take_equals_list_indexing_when_rows_repeat_and_reorder(rows: list[list[int]], data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    weights = np.arange(sum(map(len, rows)), dtype=np.float32)
    column = Ragged.from_lists(rows, np.int64)
    column = Ragged(column.values, column.offsets, weights)
    weight_rows = as_lists(Ragged(weights, column.offsets))
    taken = column.take(np.array(index, np.int64))
    assert as_lists(taken) == [rows[i] for i in index]
    assert taken.weights is not None
    assert as_lists(Ragged(taken.weights, taken.offsets)) == [weight_rows[i] for i in index]


@given(st.lists(rows_of_ints, min_size=1, max_size=4))
def test_concat_equals_list_concatenation_when_parts_are_ragged(parts: list[list[list[int]]]) -> None:
    joined = ragged(concat([{"x": Ragged.from_lists(part, np.int64)} for part in parts])["x"])
    assert as_lists(joined) == [row for part in parts for row in part]
    assert joined.offsets.dtype == np.int32


def test_concat_fills_weights_with_ones_when_only_some_parts_have_them() -> None:
    plain = Ragged.from_lists([[1, 2]], np.int64)
    weighted = Ragged(np.array([3]), np.array([0, 1], np.int32), np.array([0.5], np.float32))
    joined = ragged(concat([{"x": plain}, {"x": weighted}])["x"])
    assert joined.weights is not None
    assert joined.weights.tolist() == [1.0, 1.0, 0.5]


@given(rows_of_ints, st.integers(1, 5), st.booleans())
def test_truncated_equals_list_slicing_when_rows_are_longer(
    rows: list[list[int]], length: int, keep_last: bool
) -> None:
    column = Ragged.from_lists(rows, np.int64)
    weighted = Ragged(column.values, column.offsets, column.values.astype(np.float32))
    found = weighted.truncated(length, keep_last=keep_last)
    assert as_lists(found) == [row[-length:] if keep_last else row[:length] for row in rows]
    assert found.weights is not None
    assert found.weights.tolist() == found.values.tolist()


def test_take_takes_the_same_rows_when_columns_are_of_both_kinds() -> None:
    columns = {"a": np.array([10, 20, 30]), "b": Ragged.from_lists([[1], [], [2, 3]], np.int64)}
    taken = take(columns, np.array([2, 0]))
    assert taken["a"].tolist() == [30, 10]  # type: ignore[union-attr]
    assert as_lists(ragged(taken["b"])) == [[2, 3], [1]]


def test_row_count_names_the_columns_when_they_differ_in_length() -> None:
    with pytest.raises(DataError, match="a: 2, b: 1"):
        row_count({"a": np.zeros(2), "b": Ragged.from_lists([[1]])})


@pytest.mark.parametrize("rows", [slice(1, 3), np.array([1, 2]), np.array([False, True, True, False])])
def test_select_keeps_entities_and_cuts_rows_when_given_slice_index_or_mask(rows: slice | np.ndarray) -> None:
    request = {"user": np.array([7, 8])}
    batch = Batch(
        request, {}, {"rank": np.arange(4)}, np.array([0, 0, 1, 1], np.int32), np.array([3, 2, 1, 0], np.int32)
    )
    part = batch.select(rows)
    assert part.request is request
    assert part.rows == 2
    assert part.pair["rank"].tolist() == [1, 2]  # type: ignore[union-attr]
    assert part.request_index.tolist() == [0, 1]
    assert part.item_index.tolist() == [2, 1]
