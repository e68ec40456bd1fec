"""The forms of tables that the native kernels read: what is refused, and what a table keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rankine import _native
from rankine.models.tables import MixedTable
from unit.native_tables import dense, floats, make_plain, make_table, native


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
