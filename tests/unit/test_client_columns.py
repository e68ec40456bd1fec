"""Values to the typed columns of gRPC, by their own types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rankine.client.columns import columns_of, typed_values
from rankine.errors import BadRequest


@pytest.mark.parametrize(
    ("value", "column"),
    [
        (7, {"integers": {"values": [7]}}),
        (np.int64(7), {"integers": {"values": [7]}}),
        ("nl", {"texts": {"values": ["nl"]}}),
        (0.5, {"floats": {"values": [0.5]}}),
        ([33.5, 1], {"floats": {"values": [33.5, 1]}}),
        ([3, 5], {"integers": {"values": [3, 5]}, "lengths": [2]}),
        ([], {"lengths": [0]}),
        (
            {"values": ["a", "b"], "weights": np.array([1, 0.5])},
            {"texts": {"values": ["a", "b"]}, "lengths": [2], "weights": [1.0, 0.5]},
        ),
    ],
)
def test_column_has_one_row_when_it_is_a_request_s(value: Any, column: dict[str, Any]) -> None:
    assert columns_of({"x": value}, "request", one=True) == {"x": column}


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ([7, 8], {"integers": {"values": [7, 8]}}),
        (np.array([0.5, 1.0]), {"floats": {"values": [0.5, 1.0]}}),
        ([[0.5, 2.0], [1.0, 0.0]], {"floats": {"values": [0.5, 2.0, 1.0, 0.0]}}),
        ([[3, 5], [], [1]], {"integers": {"values": [3, 5, 1]}, "lengths": [2, 0, 1]}),
        (
            [{"values": [3, 5], "weights": [0.25, 0.5]}, [], [1]],
            {"integers": {"values": [3, 5, 1]}, "lengths": [2, 0, 1], "weights": [0.25, 0.5, 1.0]},
        ),
    ],
)
def test_column_has_a_row_a_candidate_when_it_is_theirs(values: Any, column: dict[str, Any]) -> None:
    assert columns_of({"x": values}, "candidates.features", one=False) == {"x": column}


@pytest.mark.parametrize("values", [[1, "a"], [0.5, "a"], [None], [object()], [[1], 2], [{"values": [1]}]])
def test_column_names_the_feature_when_no_type_fits(values: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        columns_of({"x": values}, "candidates.features", one=False)
    assert caught.value.where == "candidates.features.x"


def test_typed_values_are_none_when_there_are_none() -> None:
    assert typed_values([], "candidates.ids") == {}
