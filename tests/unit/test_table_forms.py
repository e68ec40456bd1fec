"""Smaller forms of embedding tables: what they cost in accuracy and what they save."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rankine.compression.table_forms import mixed_table, quantize_table, quotient_remainder, reads_of_tables
from rankine.compression.table_rows import quantize_rows
from rankine.errors import ConfigError
from rankine.models.columns import Batch, Ragged
from rankine.models.schema import CategoricalFeature, DenseFeature, Identity, MultiHotFeature, Schema
from rankine.models.tables import MixedTable, QuotientRemainderTable, Table

ROWS = arrays(np.float32, (5, 9), elements=st.floats(-10, 10, width=32))


def normal(count: int, dim: int, seed: int = 0) -> Table:
    return Table(np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32))


def squared_error(found: Table | MixedTable | QuotientRemainderTable, wanted: Table) -> float:
    return float(np.square(found.dequantized() - wanted.dequantized()).mean())


@given(ROWS, st.sampled_from([np.float16, np.float32]))
def test_int8_rows_are_within_half_a_step_when_scales_are_rounded_first(rows: np.ndarray, scales: type) -> None:
    table, error = quantize_rows(rows, "int8", scales)
    assert table.scale is not None
    found = table.dequantized()
    assert (np.abs(found - rows) <= 0.501 * table.scale.astype(np.float32)[:, None] + 2e-6).all()
    np.testing.assert_allclose(error, np.square(found - rows).sum(), rtol=1e-3, atol=1e-10)
    # The range is covered: rounding scale and bias to halves widens a step by little more than their last digit.
    widest = (np.ptp(rows, axis=1) + 2**-9 * np.abs(rows).max(axis=1)) / 255 * 1.002 + 1e-6
    assert (table.scale[np.ptp(rows, axis=1) > 0] <= widest[np.ptp(rows, axis=1) > 0]).all()


@given(ROWS)
def test_int4_rows_are_no_worse_than_min_and_max_when_clipped(rows: np.ndarray) -> None:
    found = quantize_rows(rows, "int4", np.float32)[0].dequantized()
    low, step = rows.min(axis=1, keepdims=True), np.ptp(rows, axis=1, keepdims=True) / 15
    step[step == 0] = 1
    plain = np.rint((rows - low) / step) * step + low
    errors = np.square(found - rows).sum(axis=1), np.square(plain - rows).sum(axis=1)
    assert (errors[0] <= errors[1] * 1.0001 + 1e-9).all()


def test_int4_rows_lose_a_fifth_less_than_min_and_max_when_rows_are_normal() -> None:
    table = normal(3000, 16)
    low, step = table.rows.min(axis=1, keepdims=True), np.ptp(table.rows, axis=1, keepdims=True) / 15
    plain = Table((np.rint((table.rows - low) / step) * step + low).astype(np.float32))
    assert squared_error(quantize_table(table, "int4"), table) < 0.8 * squared_error(plain, table)


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_half_scales_cost_little_and_save_four_bytes_a_row_when_rows_are_normal(form: str) -> None:
    table = normal(3000, 16)
    half, single = (quantize_table(table, form, scales=scales) for scales in ("float16", "float32"))  # type: ignore[call-overload]
    assert single.size_bytes - half.size_bytes == 4 * 3000
    assert squared_error(half, table) < 1.03 * squared_error(single, table)
    assert half.size_bytes <= (0.3125 if form == "int8" else 0.1875) * table.size_bytes


@pytest.mark.parametrize("offset", [1000.0, 1e5])
def test_scales_are_single_when_halves_would_cost_accuracy(offset: float) -> None:
    table = Table(offset + normal(200, 16).rows)
    found = quantize_table(table, "int8")
    assert found.scale is not None
    assert found.scale.dtype == np.float32
    assert np.abs(found.dequantized() - table.rows).max() < 0.05


@pytest.mark.parametrize(
    ("dim", "form", "found"), [(1, "int8", "float16"), (2, "int4", "float16"), (9, "int8", "int8")]
)
def test_narrow_rows_become_halves_when_quantizing_would_save_nothing(dim: int, form: str, found: str) -> None:
    assert quantize_table(normal(40, dim), form).form == found  # type: ignore[call-overload]


@pytest.mark.parametrize("form", ["float32", "float16", "int8", "int4"])
def test_quantize_table_keeps_equal_rows_exact_when_all_their_values_are_equal(form: str) -> None:
    table = Table(np.repeat(np.array([[0.0], [0.5], [-3.0]], np.float32), 12, axis=1))
    np.testing.assert_array_equal(quantize_table(table, form).dequantized(), table.rows)  # type: ignore[call-overload]


def test_quantize_table_is_empty_when_the_table_is() -> None:
    for form in ("float16", "int8", "int4"):
        assert quantize_table(normal(0, 16), form).dequantized().shape == (0, 16)  # type: ignore[call-overload]


def test_mixed_table_keeps_the_rows_that_are_read_most_when_they_are_few() -> None:
    table = normal(1000, 16)
    counts = np.random.default_rng(1).permutation(1000)
    mixed = mixed_table(table, counts, hot_share=0.1)
    assert (mixed.form, mixed.hot.count, mixed.cold.count) == ("mixed int8/int4", 100, 900)
    errors = np.square(mixed.dequantized() - table.rows).mean(axis=1)
    assert errors[counts >= 900].max() < errors[counts < 900].min()
    int4 = quantize_table(table, "int4").size_bytes
    assert mixed.size_bytes <= int4 + 100 * 8 + (1.5 / 8) * 1024
    np.testing.assert_array_equal(mixed.take(np.array([999, 0])), mixed.dequantized()[[999, 0]])


def test_mixed_table_prefers_lower_ids_when_reads_are_equal() -> None:
    mixed = mixed_table(normal(130, 8), np.zeros(130), hot_share=0.5, hot="float16")
    assert np.unpackbits(mixed.bitmap, bitorder="little")[:130].tolist() == [1] * 65 + [0] * 65
    assert mixed.ranks.tolist() == [0, 64, 65]


@pytest.mark.parametrize("combine", ["product", "sum"])
@pytest.mark.parametrize("count", [40, 37])
def test_quotient_remainder_recovers_the_table_when_it_is_of_that_form(combine: str, count: int) -> None:
    random = np.random.default_rng(2)
    parts = [Table(random.normal(size=(rows, 6)).astype(np.float32)) for rows in (8, 5)]
    table = QuotientRemainderTable(parts[0], parts[1], count, "product" if combine == "product" else "sum")
    counts = random.integers(0, 50, count)
    found = quotient_remainder(Table(table.dequantized()), 5, counts, combine=table.combine)
    np.testing.assert_allclose(found.dequantized(), table.dequantized(), atol=2e-3)
    assert found.form == "quotient-remainder float32"
    assert quantize_table(found, "int8").form == "quotient-remainder int8"


def test_quotient_remainder_fits_rows_that_are_read_better_when_others_are_not() -> None:
    table, counts = normal(400, 4), np.where(np.arange(400) % 37 == 0, 1000, 0)
    errors = np.square(quotient_remainder(table, 20, counts).dequantized() - table.rows).mean(axis=1)
    assert errors[counts > 0].mean() < 0.1 * errors[counts == 0].mean()


def test_forms_refuse_when_shares_buckets_or_reads_are_wrong() -> None:
    table = normal(10, 4)
    with pytest.raises(ConfigError, match=r"hot_share.*allowed: 0\.\.1"):
        mixed_table(table, np.zeros(10), hot_share=1.5)
    with pytest.raises(ConfigError, match=r"counts.*got \(9,\)"):
        mixed_table(table, np.zeros(9), hot_share=0.5)
    with pytest.raises(ConfigError, match=r"buckets.*allowed: 1..10"):
        quotient_remainder(table, 11, np.zeros(10))


def test_reads_of_tables_counts_each_row_of_the_batch_when_columns_are_shared() -> None:
    sizes = {"user": 3, "item": 4, "tag": 2}
    users, items, tags = (Identity(size=size) for size in sizes.values())
    schema = Schema(
        features=(
            CategoricalFeature(name="user", side="request", encoding=users),
            MultiHotFeature(name="recent", side="request", encoding=items, table="item", pooling="mean"),
            CategoricalFeature(name="item", side="item", encoding=items),
            MultiHotFeature(name="tag", side="pair", encoding=tags, pooling="sum"),
            DenseFeature(name="age", side="request"),
        ),
        item_id="item",
    )
    batch = Batch(
        request={
            "user": np.array([2, 0], np.int32),
            "recent": Ragged(np.array([3, 3, 1], np.int32), np.array([0, 3, 3], np.int32)),
        },
        item={"item": np.array([1, 2, 3], np.int32)},
        pair={"tag": Ragged(np.array([0, 1, 1], np.int32), np.array([0, 1, 1, 3], np.int32))},
        request_index=np.array([0, 0, 1], np.int32),
        item_index=np.array([2, 0, 0], np.int32),
    )
    reads = reads_of_tables(batch, schema, sizes)
    assert {name: counts.tolist() for name, counts in reads.items()} == {
        "user": [1, 0, 2],
        "item": [0, 2 + 2, 0, 1 + 4],
        "tag": [1, 2],
    }
