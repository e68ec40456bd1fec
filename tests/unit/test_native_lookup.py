"""The native lookups of one value, bags and sequences against NumPy, on ordinary and on hostile input."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankine import _native
from unit.native_tables import DIMS, FORMS, dense, floats, ints, make_table, native, pooled


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("vocabulary", [1, 64, 150])
def test_lookup_one_equals_numpy_when_ids_are_good(form: str, dim: int, vocabulary: int) -> None:
    rng = np.random.default_rng(dim)
    table = make_table(rng, form, vocabulary, dim)
    values = np.arange(vocabulary, dtype=np.int32)  # so also the last row
    index = rng.permutation(np.r_[np.arange(vocabulary), np.zeros(9, int)]).astype(np.int32)
    out = np.full((len(index), dim + 5), -7.0, np.float32)
    assert _native.lookup_one(native(table), values, index, out, 2) == -1
    np.testing.assert_array_equal(out[:, 2 : dim + 2], dense(table)[index])
    np.testing.assert_array_equal(out[:, 2 : dim + 2], table.take(index))
    np.testing.assert_array_equal(table.dequantized(), dense(table))
    np.testing.assert_array_equal(np.delete(out, slice(2, dim + 2), axis=1), -7.0)


def test_lookup_one_is_exact_when_table_holds_every_half() -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(-1, 16)
    rows = np.arange(len(halves), dtype=np.int32)
    out = np.empty(halves.shape, np.float32)
    assert _native.lookup_one(floats(halves), rows, rows, out, 0) == -1
    np.testing.assert_array_equal(out, halves.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(out), np.signbit(halves))


@given(
    st.lists(st.integers(-2, 6), max_size=8),
    st.lists(st.integers(-2, 9), max_size=40),
    st.sampled_from(FORMS),
)
def test_lookup_one_stops_at_first_bad_row_when_ids_are_any(values: list[int], index: list[int], form: str) -> None:
    table = make_table(np.random.default_rng(0), form, 5, 3)
    good = [0 <= i < len(values) and 0 <= values[i] < 5 for i in index]
    first_bad = good.index(False) if False in good else -1
    out = np.zeros((len(index), 3), np.float32)
    assert _native.lookup_one(native(table), ints(*values), ints(*index), out, 0) == first_bad
    written = len(index) if first_bad < 0 else first_bad
    picked = [values[i] for i in index[:written]]
    np.testing.assert_array_equal(out[:written], dense(table)[picked].reshape(written, 3))


@pytest.mark.parametrize("hostile", [-1, -(2**31), 2**31 - 1, 4])
def test_lookup_one_refuses_row_when_id_is_hostile(hostile: int) -> None:
    table = floats(np.ones((4, 16), np.float32))
    out = np.zeros((20, 16), np.float32)
    values = ints(*range(4), hostile)
    index = np.zeros(20, np.int32)
    index[13] = 4
    assert _native.lookup_one(table, values, index, out, 0) == 13
    index[11] = hostile if hostile != 4 else 5
    assert _native.lookup_one(table, values, index, out, 0) == 11


def test_lookup_one_does_nothing_when_arrays_are_empty() -> None:
    none = np.empty(0, np.int32)
    table = floats(np.empty((0, 4), np.float32))
    assert _native.lookup_one(table, none, none, np.empty((0, 4), np.float32), 0) == -1
    assert _native.lookup_one(table, ints(0), ints(0), np.empty((1, 4), np.float32), 0) == 0
    assert (
        _native.lookup_one(floats(np.empty((3, 0), np.float32)), ints(2), ints(0), np.ones((1, 1), np.float32), 1) == -1
    )


def test_lookup_one_reads_table_when_it_is_mapped_read_only(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float16)
    path = tmp_path / "table.bin"
    path.write_bytes(table.tobytes())
    with path.open("rb") as file:
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.float16).reshape(8, 16)
    assert not mapped.flags.writeable
    out = np.zeros((2, 16), np.float32)
    assert _native.lookup_one(floats(mapped), ints(7, 3), ints(0, 1), out, 0) == -1
    np.testing.assert_array_equal(out, table[[7, 3]].astype(np.float32))


def test_lookup_one_names_argument_when_input_is_wrong() -> None:
    table = floats(np.zeros((4, 3), np.float32))
    values, index, out = ints(1), ints(0, 0), np.zeros((2, 5), np.float32)
    strided = np.zeros((2, 8), np.float32)[:, :5]
    frozen = out.copy()
    frozen.flags.writeable = False
    cases: list[tuple[type[Exception], str, tuple[Any, ...]]] = [
        (TypeError, "values: dtype must be int32, got int64", (table, values.astype(np.int64), index, out, 0)),
        (TypeError, "index: dtype must be int32, got float32", (table, values, index.astype(np.float32), out, 0)),
        (TypeError, "out: dtype must be float32, got float64", (table, values, index, out.astype(float), 0)),
        (ValueError, "out: axis 0 must have size 2", (table, values, index, out[:1], 0)),
        (ValueError, "out: must be C-contiguous", (table, values, index, strided, 0)),
        (ValueError, "out: must be writable", (table, values, index, frozen, 0)),
        (ValueError, "column: 3 leaves no room for 3", (table, values, index, out, 3)),
        (ValueError, "column: -1 leaves no room", (table, values, index, out, -1)),
        (ValueError, "column: 9223372036854775807 leaves no room", (table, values, index, out, 2**63 - 1)),
    ]
    for kind, message, arguments in cases:
        with pytest.raises(kind, match=f"^{message}"):
            _native.lookup_one(*arguments)
    np.testing.assert_array_equal(out, 0.0)


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=6),
    st.sampled_from(FORMS),
    st.sampled_from((3, 16, 17, 32)),
    st.booleans(),
    st.sampled_from(("sum", "mean", "max")),
)
def test_lookup_bag_equals_numpy_when_ids_are_good(
    bags: list[list[int]], form: str, dim: int, weighted: bool, pooling: str
) -> None:
    rng = np.random.default_rng(1)
    table = make_table(rng, form, 10, dim)
    values = ints(*(value for bag in bags for value in bag))
    offsets = np.cumsum([0, *map(len, bags)]).astype(np.int32)
    weights = rng.normal(size=len(values)).astype(np.float32) if weighted and pooling != "max" else None
    index = rng.integers(0, len(bags), 9).astype(np.int32)
    out = np.full((9, dim + 2), -7.0, np.float32)
    assert _native.lookup_bag(native(table), values, offsets, weights, index, out, 1, pooling) == -1
    rows = dense(table)
    for r, i in enumerate(index):
        span = slice(offsets[i], offsets[i + 1])
        wanted = pooled(rows[values[span]], None if weights is None else weights[span], pooling)
        np.testing.assert_array_equal(out[r, 1:-1], wanted)
    np.testing.assert_array_equal(out[:, [0, -1]], -7.0)


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=6),
    st.sampled_from(FORMS),
    st.sampled_from((3, 16, 17, 32)),
    st.booleans(),
)
def test_lookup_sequence_equals_numpy_when_ids_are_good(
    bags: list[list[int]], form: str, dim: int, weighted: bool
) -> None:
    rng = np.random.default_rng(1)
    table = make_table(rng, form, 10, dim)
    values = ints(*(value for bag in bags for value in bag))
    offsets = np.cumsum([0, *map(len, bags)]).astype(np.int32)
    weights = rng.normal(size=len(values)).astype(np.float32) if weighted else None
    index = np.sort(rng.integers(0, len(bags), 9)).astype(np.int32)
    out = np.full((9, 4 * dim + 3), -7.0, np.float32)
    assert _native.lookup_sequence(native(table), values, offsets, weights, index, out, 1, 4) == -1
    rows = dense(table)
    for r, i in enumerate(index):
        span = slice(offsets[i], offsets[i + 1])
        wanted = np.zeros((4, dim), np.float32)
        factor = np.float32(1) if weights is None else weights[span][:, None]
        wanted[: offsets[i + 1] - offsets[i]] = rows[values[span]] * factor
        np.testing.assert_array_equal(out[r, 1:-2].reshape(4, dim), wanted)
        assert out[r, -2] == offsets[i + 1] - offsets[i]
    np.testing.assert_array_equal(out[:, [0, -1]], -7.0)


def test_lookup_sequence_stops_at_bad_row_when_a_list_is_too_long_or_an_id_is_out_of_range() -> None:
    table, out = floats(np.ones((3, 2), np.float32)), np.zeros((2, 5), np.float32)
    values, offsets = ints(0, 1, 2, 3), ints(0, 1, 4)
    assert _native.lookup_sequence(table, values, offsets, None, ints(0, 1), out, 0, 2) == 1
    assert _native.lookup_sequence(table, ints(0, 3), ints(0, 1, 2), None, ints(0, 1), out, 0, 2) == 1
    with pytest.raises(ValueError, match="length"):
        _native.lookup_sequence(table, values, offsets, None, ints(0), out, 0, 0)
    with pytest.raises(ValueError, match="out"):
        _native.lookup_sequence(table, values, offsets, None, ints(0, 1), out, 0, 3)


@given(
    st.lists(st.integers(-2, 6), max_size=8),
    st.lists(st.one_of(st.integers(-2, 10), st.sampled_from([-(2**31), 2**31 - 1])), min_size=1, max_size=8),
    st.lists(st.integers(-2, 9), max_size=10),
)
def test_lookup_bag_stops_at_first_bad_row_when_input_is_any(
    values: list[int], offsets: list[int], index: list[int]
) -> None:
    def is_good(i: int) -> bool:
        if not 0 <= i < len(offsets) - 1:
            return False
        begin, end = offsets[i], offsets[i + 1]
        return 0 <= begin <= end <= len(values) and all(0 <= value < 5 for value in values[begin:end])

    good = [is_good(i) for i in index]
    table = floats(np.ones((5, 16), np.float32))
    out = np.zeros((len(index), 16), np.float32)
    found = _native.lookup_bag(table, ints(*values), ints(*offsets), None, ints(*index), out, 0, "sum")
    assert found == (good.index(False) if False in good else -1)


@pytest.mark.parametrize("pooling", ["sum", "mean", "max"])
def test_lookup_bag_writes_zeros_when_bag_is_empty(pooling: str) -> None:
    out = np.full((1, 2), 5.0, np.float32)
    none = np.empty(0, np.int32)
    table = floats(np.ones((3, 2), np.float32))
    assert _native.lookup_bag(table, none, ints(0, 0), None, ints(0), out, 0, pooling) == -1
    np.testing.assert_array_equal(out, 0.0)


def test_lookup_bag_names_argument_when_input_is_wrong() -> None:
    table, values, offsets, index = floats(np.ones((3, 2), np.float32)), ints(0, 1), ints(0, 2), ints(0)
    out = np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match=r"^offsets: must have at least one entry$"):
        _native.lookup_bag(table, values, np.empty(0, np.int32), None, index, out, 0, "sum")
    with pytest.raises(TypeError, match=r"^offsets: dtype must be int32, got int64$"):
        _native.lookup_bag(table, values, offsets.astype(np.int64), None, index, out, 0, "sum")
    with pytest.raises(ValueError, match=r"^weights: axis 0 must have size 2"):
        _native.lookup_bag(table, values, offsets, np.ones(3, np.float32), index, out, 0, "sum")
