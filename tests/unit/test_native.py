"""The native kernels against NumPy equivalents, on ordinary and on hostile input."""

from __future__ import annotations

import ast
import inspect
import mmap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rankine
from rankine import _native
from rankine.models.tables import AnyTable, MixedTable, QuotientRemainderTable, Table, pack_int4

DIMS = (1, 7, 8, 16, 17, 32, 64, 100)
PLAIN = ("float32", "float16", "int8", "int8 half", "int4", "int4 half")
FORMS = (*PLAIN, "mixed int8 half/int4 half", "mixed float32/int4", "mixed int4/float16", "product", "sum")


def make_table(rng: np.random.Generator, form: str, vocabulary: int, dim: int) -> AnyTable:
    """A table of random rows; ``half``: with scales of half precision; a mixed one has about a third of hot rows."""
    if form.startswith("mixed "):
        hot, cold = form.removeprefix("mixed ").split("/")
        is_hot = rng.random(vocabulary) < 0.3
        counts = int(is_hot.sum()), vocabulary - int(is_hot.sum())
        return MixedTable.of(make_plain(rng, hot, counts[0], dim), make_plain(rng, cold, counts[1], dim), is_hot)
    if form in ("product", "sum"):
        quotient, remainder = make_plain(rng, "int8 half", -(-vocabulary // 3), dim), make_plain(rng, "int4", 3, dim)
        return QuotientRemainderTable(quotient, remainder, vocabulary, "product" if form == "product" else "sum")
    return make_plain(rng, form, vocabulary, dim)


def make_plain(rng: np.random.Generator, form: str, count: int, dim: int) -> Table:
    if form in ("float32", "float16"):
        return Table(rng.normal(size=(count, dim)).astype(form))
    scales = np.float16 if form.endswith("half") else np.float32
    scale, bias = rng.random(count).astype(scales), rng.normal(size=count).astype(scales)
    if form.startswith("int8"):
        return Table(rng.integers(0, 256, (count, dim)).astype(np.uint8), scale, bias)
    return Table(pack_int4(rng.integers(0, 16, (count, dim))), scale, bias, dim)


def native(table: AnyTable) -> _native.Table:
    """The table for the kernels."""
    match table:
        case Table(rows=rows, scale=scale, bias=bias, columns=columns):
            return _native.plain_table(rows, scale, bias, columns)
        case MixedTable(hot=hot, cold=cold):
            return _native.mixed_table(native(hot), native(cold), table.bitmap, table.ranks, table.count)
        case QuotientRemainderTable(quotient=left, remainder=right):
            return _native.quotient_remainder_table(native(left), native(right), table.count, table.combine)


def floats(table: np.ndarray) -> _native.Table:
    return _native.plain_table(table, None, None, None)


def dense(table: AnyTable) -> np.ndarray:
    """The whole table as float32, row by row and value by value as the forms are written down."""
    match table:
        case Table(columns=None, scale=None, rows=rows):
            return rows.astype(np.float32)
        case Table(scale=scale, bias=bias):
            factor, offset = (np.asarray(part).astype(np.float32)[:, None] for part in (scale, bias))
            cells: np.ndarray = table.rows
            if table.columns is not None:
                half = -(-table.columns // 2)
                columns = [table.rows[:, d % half] >> (4 * (d // half)) & 15 for d in range(table.columns)]
                cells = np.stack(columns, axis=1)
            return np.asarray(cells.astype(np.float32) * factor + offset)
        case MixedTable():
            hot, cold = iter(dense(table.hot)), iter(dense(table.cold))
            bits = [table.bitmap[row // 8] >> row % 8 & 1 for row in range(table.count)]
            return np.array([next(hot if bit else cold) for bit in bits], np.float32).reshape(table.count, table.dim)
        case QuotientRemainderTable(remainder=remainder):
            rows_of = np.arange(table.count)
            left = dense(table.quotient)[rows_of // remainder.count]
            right = dense(remainder)[rows_of % remainder.count]
            return left * right if table.combine == "product" else left + right


def pooled(rows: np.ndarray, weights: np.ndarray | None, pooling: str) -> np.ndarray:
    """Sum or mean in the order of the values, as the kernel adds; or the largest."""
    if pooling == "max" and len(rows):
        largest: np.ndarray = rows.max(axis=0)
        return largest
    total = np.zeros(rows.shape[1], np.float32)
    for v, row in enumerate(rows):
        total += row if weights is None else weights[v] * row
    return total / np.float32(len(rows)) if pooling == "mean" and len(rows) else total


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


# --- the stub


def test_stub_names_and_parameters_equal_module_when_built() -> None:
    tree = ast.parse((Path(rankine.__file__).parent / "_native.pyi").read_text(encoding="utf-8"))
    stub = {node.name: [a.arg for a in node.args.args] for node in tree.body if isinstance(node, ast.FunctionDef)}
    classes = {
        node.name: [method.name for method in node.body if isinstance(method, ast.FunctionDef)]
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    built = {name for name in dir(_native) if not name.startswith("__")}
    assert {*stub, *classes} == built
    for name, members in classes.items():
        assert {member for member in vars(getattr(_native, name)) if not member.startswith("__")} == set(members)
    for name, parameters in stub.items():
        # nanobind keeps the signature in the first line of the docstring: name(a: T, b: T) -> R
        signature = (inspect.getdoc(getattr(_native, name)) or "").splitlines()[0].split(" -> ")[0]
        parsed = ast.parse(f"def {signature}: ...").body[0]
        assert isinstance(parsed, ast.FunctionDef)
        assert [a.arg for a in parsed.args.args] == parameters


# --- check_ids


@given(
    hnp.arrays(st.sampled_from([np.int32, np.int64]), st.integers(0, 40), elements=st.integers(-3, 12)),
    st.integers(0, 12),
)
def test_check_ids_equals_numpy_when_ids_are_any(ids: np.ndarray, rows: int) -> None:
    bad = np.flatnonzero((ids < 0) | (ids >= rows))
    assert _native.check_ids(ids, rows) == (bad[0] if len(bad) else -1)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("position", [0, 1023, 1024, 2999])
def test_check_ids_finds_position_when_array_spans_blocks(dtype: type, position: int) -> None:
    ids = np.zeros(3000, dtype)
    ids[position] = np.iinfo(dtype).min
    assert _native.check_ids(ids, 1) == position
    ids[position] = np.iinfo(dtype).max
    assert _native.check_ids(ids, 1) == position


def test_check_ids_accepts_all_when_rows_exceed_int32() -> None:
    ids = ints(0, 2**31 - 1)
    assert _native.check_ids(ids, 2**40) == -1
    assert _native.check_ids(ids, 2**31 - 1) == 1


def test_check_ids_names_argument_when_input_is_wrong() -> None:
    with pytest.raises(TypeError, match=r"^ids: dtype must be int32 or int64, got float64$"):
        _native.check_ids(np.zeros(3), 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^ids: must be a NumPy array, got list$"):
        _native.check_ids([1, 2], 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^ids: must have 1 dimension"):
        _native.check_ids(np.zeros((2, 2), np.int32), 5)
    with pytest.raises(ValueError, match=r"^ids: must be C-contiguous$"):
        _native.check_ids(np.zeros(6, np.int32)[::2], 5)
    with pytest.raises(ValueError, match=r"^rows: "):
        _native.check_ids(ints(1), -1)


def test_check_ids_refuses_array_when_byte_order_is_foreign() -> None:
    with pytest.raises(TypeError, match="ids: dtype"):
        _native.check_ids(np.zeros(3, np.dtype(np.int32).newbyteorder()), 5)


# --- top_k


@given(
    hnp.arrays(
        np.float32,
        st.integers(0, 60),
        elements=st.one_of(
            st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]), st.floats(width=32, allow_nan=True)
        ),
    ),
    st.integers(1, 70),
)
def test_top_k_equals_stable_sort_when_scores_are_any(scores: np.ndarray, k: int) -> None:
    nan = np.isnan(scores)
    order = np.lexsort((np.arange(len(scores)), -np.where(nan, 0, scores), nan))
    positions = _native.top_k(scores, k)
    assert positions.dtype == np.int32
    np.testing.assert_array_equal(positions, order[:k])


def test_top_k_puts_nan_below_minus_infinity_when_both_present() -> None:
    scores = np.array([np.nan, -np.inf, -np.nan, 3.0], np.float32)
    np.testing.assert_array_equal(_native.top_k(scores, 4), [3, 1, 0, 2])


def test_top_k_result_outlives_call_when_memory_is_reused() -> None:
    kept = [_native.top_k(np.arange(n + 1, dtype=np.float32), n + 1) for n in range(200)]
    assert all(np.array_equal(result, np.arange(n, -1, -1)) for n, result in enumerate(kept))


def test_top_k_names_argument_when_input_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"^k: must be at least 1$"):
        _native.top_k(np.zeros(3, np.float32), 0)
    with pytest.raises(TypeError, match=r"^scores: dtype must be float32, got float64$"):
        _native.top_k(np.zeros(3), 1)  # type: ignore[arg-type]


# --- lookup_one


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


# --- tables


def test_plain_table_names_argument_when_arrays_are_no_table() -> None:
    rows = np.zeros((4, 3), np.float32)
    quantized = rows.astype(np.uint8)
    scale = np.ones(4, np.float32)
    half = scale.astype(np.float16)
    cases: list[tuple[type[Exception], str, tuple[Any, ...]]] = [
        (TypeError, "rows: dtype must be float32 or float16 or uint8, got float64",
         (rows.astype(float), None, None, None)),
        (TypeError, "rows: dtype must be float32 or float16 or uint8, got int8",
         (rows.astype(np.int8), None, None, None)),
        (ValueError, "rows: must have 2 dimension", (rows[0], None, None, None)),
        (ValueError, "rows: must be C-contiguous", (rows[:, ::2], None, None, None)),
        (ValueError, "scale: must be None", (rows, scale, None, None)),
        (ValueError, "bias: must be None", (rows, None, scale, None)),
        (ValueError, "scale: uint8 rows need", (quantized, None, scale, None)),
        (ValueError, "bias: uint8 rows need", (quantized, scale, None, None)),
        (ValueError, "bias: axis 0 must have size 4", (quantized, scale, scale[:3], None)),
        (ValueError, "bias: must have the dtype of scale", (quantized, scale, half, None)),
        (TypeError, "scale: dtype must be float32 or float16", (quantized, scale.astype(float), scale, None)),
        (ValueError, "columns: must be None", (rows, None, None, 6)),
        (ValueError, "columns: 7 do not fit rows of 3 bytes", (quantized, half, half, 7)),
        (ValueError, "columns: 4 do not fit rows of 3 bytes", (quantized, half, half, 4)),
        (ValueError, "columns: -1 do not fit", (quantized, half, half, -1)),
    ]  # fmt: skip
    for kind, message, arguments in cases:
        with pytest.raises(kind, match=f"^{message}"):
            _native.plain_table(*arguments)
    table = _native.plain_table(quantized, half, half, 5)
    assert (table.count, table.dim) == (4, 5)


def test_mixed_table_refuses_parts_when_they_do_not_fit_its_bitmap() -> None:
    table = make_table(np.random.default_rng(0), "mixed int8/int4", 150, 6)
    assert isinstance(table, MixedTable)
    hot, cold, bitmap, ranks = native(table.hot), native(table.cold), table.bitmap, table.ranks
    past, moved, off = bitmap.copy(), bitmap.copy(), ranks.copy()
    past[-1], moved[0], off[1] = 128, moved[0] ^ 1, off[1] + 1
    cases: list[tuple[type[Exception], str, tuple[Any, ...]]] = [
        (ValueError, "ranks: do not fit the bitmap", (hot, cold, moved, ranks, 150)),
        (ValueError, "ranks: do not fit the bitmap", (hot, cold, bitmap, off, 150)),
        (ValueError, "ranks: do not fit the bitmap", (hot, cold, bitmap, -ranks, 150)),
        (ValueError, "bitmap: has bits past the last row", (hot, cold, past, ranks, 150)),
        (ValueError, "bitmap: axis 0 must have size 24", (hot, cold, bitmap[:-8], ranks, 150)),
        (ValueError, "ranks: axis 0 must have size 3", (hot, cold, bitmap, ranks[:-1], 150)),
        (TypeError, "ranks: dtype must be int32", (hot, cold, bitmap, ranks.astype(np.int64), 150)),
        (ValueError, "cold: must have [0-9]+ rows", (hot, cold, bitmap, ranks, 151)),
        (ValueError, "hot: must have [0-9]+ rows", (cold, hot, bitmap, ranks, 150)),
        (ValueError, "hot: must be a plain table", (native(table), cold, bitmap, ranks, 150)),
        (ValueError, "both parts must have one width", (hot, floats(np.zeros((9, 7), np.float32)), bitmap, ranks, 150)),
        (ValueError, "count: must be from 0", (hot, cold, bitmap, ranks, -1)),
    ]
    for kind, message, arguments in cases:
        with pytest.raises(kind, match=f"^{message}"):
            _native.mixed_table(*arguments)


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("vocabulary", [0, 1, 64, 65])
def test_mixed_table_reads_all_rows_when_a_part_is_empty(share: float, vocabulary: int) -> None:
    rng = np.random.default_rng(3)
    hot = make_plain(rng, "int8 half", round(share * vocabulary), 5)
    cold = make_plain(rng, "int4 half", vocabulary - hot.count, 5)
    table = MixedTable.of(hot, cold, np.full(vocabulary, share == 1.0))
    table.check("table")
    ids, out = np.arange(vocabulary, dtype=np.int32), np.zeros((vocabulary, 5), np.float32)
    assert _native.lookup_one(native(table), ids, ids, out, 0) == -1
    np.testing.assert_array_equal(out, dense(table))
    np.testing.assert_array_equal(table.dequantized(), dense(table))


def test_mixed_lookup_stops_at_the_row_when_its_bitmap_is_damaged_after_the_check() -> None:
    table = make_table(np.random.default_rng(0), "mixed int8/int4", 64, 16)
    assert isinstance(table, MixedTable)
    made, bitmap, ids = native(table), table.bitmap, np.arange(64, dtype=np.int32)
    bitmap[:] = 255  # every row hot: the hot part has fewer
    out = np.zeros((64, 16), np.float32)
    assert _native.lookup_one(made, ids, ids, out, 0) == table.hot.count


def test_quotient_remainder_table_refuses_parts_when_they_do_not_make_its_rows() -> None:
    left, right = floats(np.zeros((4, 2), np.float32)), floats(np.zeros((3, 2), np.float32))
    cases: list[tuple[str, tuple[Any, ...]]] = [
        ("quotient: must have 5 rows, got 4", (left, right, 13, "sum")),
        ("quotient: must have 3 rows, got 4", (left, right, 9, "sum")),
        ("remainder: must have from 1", (left, floats(np.zeros((0, 2), np.float32)), 0, "sum")),
        ("both parts must have one width", (left, floats(np.zeros((3, 4), np.float32)), 12, "sum")),
        ("combine: must be", (left, right, 12, "concat")),
    ]
    for message, arguments in cases:
        with pytest.raises(ValueError, match=f"^{message}"):
            _native.quotient_remainder_table(*arguments)
    assert _native.quotient_remainder_table(left, right, 10, "sum").count == 10


def test_table_keeps_its_arrays_when_nobody_else_does() -> None:
    table = native(make_plain(np.random.default_rng(0), "int8 half", 2000, 64))
    wanted = dense(make_plain(np.random.default_rng(0), "int8 half", 2000, 64))
    [np.full((2000, 64), 9, np.uint8) for _ in range(20)]  # would reuse the memory
    ids, out = np.arange(2000, dtype=np.int32), np.zeros((2000, 64), np.float32)
    assert _native.lookup_one(table, ids, ids, out, 0) == -1
    np.testing.assert_array_equal(out, wanted)


# --- lookup_bag


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


# --- gather_dense


@given(st.integers(0, 6), st.sampled_from((1, 5, 16)), st.lists(st.integers(-1, 6), max_size=10))
def test_gather_dense_equals_numpy_when_index_is_any(count: int, dim: int, index: list[int]) -> None:
    values = np.arange(count * dim, dtype=np.float32).reshape(count, dim)
    good = [0 <= i < count for i in index]
    first_bad = good.index(False) if False in good else -1
    out = np.zeros((len(index), dim + 1), np.float32)
    assert _native.gather_dense(values, ints(*index), out, 1) == first_bad
    written = len(index) if first_bad < 0 else first_bad
    np.testing.assert_array_equal(out[:written, 1:], values[index[:written]].reshape(written, dim))


def test_gather_dense_names_argument_when_input_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"^values: must have 2 dimension"):
        _native.gather_dense(np.zeros(3, np.float32), ints(0), np.zeros((1, 1), np.float32), 0)
    with pytest.raises(ValueError, match=r"^column: 1 leaves no room"):
        _native.gather_dense(np.zeros((3, 1), np.float32), ints(0), np.zeros((1, 1), np.float32), 1)


# --- threads


@pytest.mark.parametrize("form", ["int8 half", "mixed int8 half/int4 half", "product"])
def test_kernels_agree_when_many_threads_share_a_table(form: str) -> None:
    rng = np.random.default_rng(2)
    table = make_table(rng, form, 1000, 64)
    shared = native(table)
    values = rng.integers(0, 1000, 2000).astype(np.int32)
    index = np.arange(2000, dtype=np.int32)
    wanted = dense(table)[values]
    agreed: list[bool] = []

    def work() -> None:
        for _ in range(20):
            out = np.zeros((2000, 64), np.float32)
            found = _native.lookup_one(shared, values, index, out, 0)
            agreed.append(found == -1 and np.array_equal(out, wanted))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agreed == [True] * 80
