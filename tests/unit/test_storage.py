"""How values of items are stored at the end of what a type holds: written strictly, served as well as can be."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.compilation.binding.costs import Storage
from rankine.compilation.binding.storage import restored, stored
from rankine.errors import EngineError

_EXTREME = np.array([[1e6, -1e6, 1.5], [np.nan, np.inf, -np.inf], [0.25, -3.0, 2.0]], np.float32)


def _read(values: np.ndarray, storage: Storage) -> np.ndarray:
    parts = stored(values, storage, "values", strict=False)
    rows = parts[""].astype(np.float32)
    return rows * parts[".scale"][:, None] + parts[".bias"][:, None] if storage == "int8" else rows


def test_halves_saturate_and_what_is_not_finite_stays_when_nobody_may_refuse() -> None:
    found = _read(_EXTREME, "float16")
    np.testing.assert_array_equal(found[0], [65504, -65504, 1.5])
    np.testing.assert_array_equal(found[1:], _EXTREME[1:])


def test_bytes_of_other_rows_are_the_same_when_one_is_not_finite() -> None:
    found = _read(_EXTREME, "int8")
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], restored(_EXTREME[[0, 2]], "int8"))


@pytest.mark.parametrize("strict", [True, False])
def test_row_stays_finite_in_bytes_when_it_spans_all_floats(strict: bool) -> None:
    values = np.array([[3e38, -3e38, 0.0], [3e38, 3e38, 3e38]], np.float32)
    parts = stored(values, "int8", "values", strict=strict)
    assert parts[""].dtype == np.uint8
    found = parts[""].astype(np.float32) * parts[".scale"][:, None] + parts[".bias"][:, None]
    assert np.isfinite(found).all()
    assert found[0, 1] < -1e38 < found[0, 2] < 1e38 < found[0, 0]
    assert np.array_equal(np.sign(found[1]), [1, 1, 1])


@pytest.mark.parametrize(
    ("storage", "value", "hint"),
    [
        ("float16", 1e6, "Store it as float32"),
        ("float16", np.nan, "catalog graph"),
        ("float32", np.inf, "catalog graph"),
        ("int8", np.nan, "catalog graph"),
    ],
)
def test_value_is_refused_when_it_is_written_and_not_finite(storage: Storage, value: float, hint: str) -> None:
    with pytest.raises(EngineError, match=rf"price: a value stored .* not finite.*{hint}"):
        stored(np.array([[1.0, value]], np.float32), storage, "price")
