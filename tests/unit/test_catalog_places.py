"""Ids are found by a table where they lie close together, and the table says what a search would say."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.catalog.places import places_of
from rankine.catalog.segment import find

LEAST, MOST = -(2**63), 2**63 - 1


@pytest.mark.parametrize("first", [0, 1, -7, LEAST, MOST - 40])
def test_table_finds_what_a_search_finds_when_ids_are_near_or_far(first: int) -> None:
    known = np.array([first + step for step in (0, 1, 2, 5, 9, 30)], np.int64)
    places = places_of(known)
    assert places is not None
    asked = [first + step for step in range(-50, 80) if LEAST <= first + step <= MOST]
    ids = np.array([*asked, LEAST, -1, 0, MOST, first ^ (1 << 62)], np.int64)
    found = places.find(ids)
    assert found.dtype == np.int64
    assert np.array_equal(found, find(known, ids))
    assert len(places.find(ids[:0])) == 0


@pytest.mark.parametrize(
    "known",
    [
        np.array([], np.int64),
        np.array([b"a", b"b"]),
        np.array([0, 1000], np.int64),
        np.array([LEAST, MOST], np.int64),
        np.arange(0, 8 << 20, 4, dtype=np.int64),
    ],
    ids=["none", "texts", "sparse", "all", "many"],
)
def test_there_is_no_table_when_it_would_be_large_for_its_ids(known: np.ndarray) -> None:
    assert places_of(known) is None


def test_table_finds_ids_when_they_lie_askew_or_apart() -> None:
    known = np.arange(100, 200, dtype=np.int64)
    table = places_of(known)
    assert table is not None
    raw = b"x" + np.array([103, 99, 150], np.int64).tobytes()
    askew = np.frombuffer(raw, np.int64, offset=1)
    assert not askew.flags.aligned
    assert table.find(askew).tolist() == [3, -1, 50]
    assert table.find(np.arange(100, 110)[::2]).tolist() == [0, 2, 4, 6, 8]
