"""Ids that are read from JSON without an object for each."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given

from rankine._native import find_places, read_id_list

WITHIN = st.integers(-(10**18) + 1, 10**18 - 1)
SPACES = st.text(" \t\n\r", max_size=3)


@given(st.lists(WITHIN, max_size=50), SPACES)
def test_id_list_is_read_as_json_reads_it(numbers: list[int], spaces: str) -> None:
    text = spaces + json.dumps(numbers).replace(",", spaces + "," + spaces) + spaces
    found = read_id_list(text.encode())
    assert found is not None
    assert found.dtype == np.int64
    assert found.tolist() == numbers


@given(st.text('[]-0123456789., \n"eE+n{}:', max_size=24))
def test_id_list_is_never_read_otherwise_than_json(text: str) -> None:
    found = read_id_list(text.encode())
    if found is not None:
        assert msgspec.json.decode(text, type=list[int]) == found.tolist()


@pytest.mark.parametrize(
    "text",
    ["", " ", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1]x", "[01]", "[-]", "[+1]", "[1.0]", "[1e3]", '["1"]',
     "[null]", "null", "{}", "[[1]]", "[1234567890123456789]", "[1\x00]", "[true]"],
)  # fmt: skip
def test_id_list_is_left_to_others_when_it_is_anything_else(text: str) -> None:
    assert read_id_list(text.encode()) is None


def test_id_list_reads_zero_of_both_signs_and_nothing() -> None:
    zeros = read_id_list(b"[-0,0]")
    nothing = read_id_list(b" [ ] ")
    assert zeros is not None
    assert zeros.tolist() == [0, 0]
    assert nothing is not None
    assert nothing.tolist() == []


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30), st.integers(-(2**63), 2**63 - 5))
def test_places_are_those_of_a_search_for_any_ids(ids: list[int], first: int) -> None:
    at = np.array([7, -1, 3, -1], np.int32)
    wanted = [int(at[one - first]) if 0 <= one - first < 3 else -1 for one in (*ids, first, first + 2)]
    assert find_places(np.array([*ids, first, first + 2], np.int64), first, at).tolist() == wanted


def test_places_refuse_what_they_cannot_read() -> None:
    with pytest.raises(ValueError, match="at: must have an entry"):
        find_places(np.zeros(1, np.int64), 0, np.zeros(0, np.int32))
    with pytest.raises(TypeError, match="ids"):
        find_places(np.zeros(1, np.int32), 0, np.zeros(1, np.int32))  # type: ignore[arg-type]
