"""The native lookup against the NumPy one, and what both refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.small_model import small_batch, small_schema, small_tables
from rankine.artifact import Draft
from rankine.compilation.lookup import HostLookup
from rankine.compression.table_forms import mixed_table, quantize_table, quotient_remainder
from rankine.errors import BadRequest, EngineError
from rankine.models.columns import Batch, Columns, Ragged
from rankine.models.lookup_reference import reference_lookup
from rankine.models.table_files import read_table
from rankine.models.tables import AnyTable, MixedTable, QuotientRemainderTable, Table
from rankine.models.variant import write_tables


def _native(batch: Batch) -> np.ndarray:
    lookup = HostLookup(small_schema(), small_tables())
    out = np.full((batch.rows, lookup.width), np.nan, np.float32)
    lookup.run(batch, out)
    return out


def _numpy(batch: Batch) -> np.ndarray:
    return np.concatenate(list(reference_lookup(small_schema(), small_tables(), batch).values()), axis=1)


LOOKUPS = pytest.mark.parametrize("look_up", [_native, _numpy])


def _changed(columns: Columns, name: str, change: Callable[[np.ndarray], None]) -> dict[str, np.ndarray | Ragged]:
    """``columns`` with the ids or values of ``name`` copied and changed."""
    column = columns[name]
    values = (column.values if isinstance(column, Ragged) else column).copy()
    change(values)
    return {**columns, name: replace(column, values=values) if isinstance(column, Ragged) else values}


@pytest.mark.parametrize("rows", [1, 7, 64, 2500])
def test_lookup_equals_numpy_when_features_are_of_all_kinds_and_sides(rows: int) -> None:
    batch = small_batch(rows)
    np.testing.assert_allclose(_native(batch), _numpy(batch), rtol=2e-6, atol=2e-6)


def test_lookup_writes_hand_computed_values_when_tables_are_quantized() -> None:
    schema = small_schema()
    tables = dict(small_tables())
    quantized = np.tile(np.arange(20, dtype=np.uint8)[:, None], (1, 8))
    tables["genre"] = Table(quantized, np.full(20, 0.5, np.float32), np.full(20, -1.0, np.float32))
    batch = small_batch(3)
    genres = Ragged(np.array([2, 4, 19], np.int32), np.array([0, 2, 2, 3], np.int32))
    batch = replace(batch, item={**_items(batch, 3), "genre": genres}, item_index=np.array([2, 1, 0], np.int32))
    lookup = HostLookup(schema, tables)
    out = np.empty((3, lookup.width), np.float32)
    lookup.run(batch, out)
    start = sum(lookup.widths[:4])
    # Item 2 has genre 19: 19 * 0.5 - 1; item 1 has none; item 0 has 2 and 4: the mean of 0 and 1.
    assert out[:, start].tolist() == [8.5, 0.0, 0.5]


def _items(batch: Batch, count: int) -> dict[str, np.ndarray | Ragged]:
    return {
        name: column.take(np.arange(count)) if isinstance(column, Ragged) else column[:count]
        for name, column in batch.item.items()
    }


def test_lookup_writes_each_feature_when_arrays_are_separate() -> None:
    batch = small_batch(9)
    lookup = HostLookup(small_schema(), small_tables())
    outs = [np.empty((9, width), np.float32) for width in lookup.widths]
    lookup.run_each(batch, outs)
    np.testing.assert_array_equal(np.concatenate(outs, axis=1), _native(batch))


def test_lookup_is_right_when_many_threads_share_it() -> None:
    lookup = HostLookup(small_schema(), small_tables())
    sizes = [3000, 11, 1500, 700, 5000, 1]
    wrong: list[int] = []

    def work(rows: int) -> None:
        batch, out = small_batch(rows), np.empty((rows, lookup.width), np.float32)
        expected = _numpy(batch)
        for _ in range(5):
            lookup.run(batch, out)
            if not np.allclose(out, expected, rtol=1e-5, atol=1e-5):
                wrong.append(rows)

    threads = [threading.Thread(target=work, args=(rows,)) for rows in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@LOOKUPS
@pytest.mark.parametrize("value", [-1, 50, 2**31 - 1, -(2**31)])
def test_lookup_refuses_with_feature_and_value_when_an_id_is_out_of_range(
    look_up: Callable[[Batch], np.ndarray], value: int
) -> None:
    batch = small_batch(10)
    batch = replace(batch, request=_changed(batch.request, "user", lambda ids: ids.__setitem__(0, value)))
    with pytest.raises(BadRequest, match=r"user .*id out of range") as caught:
        look_up(batch)
    assert caught.value.got == str(value)
    assert caught.value.allowed == "0..49"


@LOOKUPS
def test_lookup_refuses_when_an_id_in_a_list_is_out_of_range(look_up: Callable[[Batch], np.ndarray]) -> None:
    batch = small_batch(30)
    tags = batch.pair["tag"]
    assert isinstance(tags, Ragged)
    row = int(np.searchsorted(tags.offsets, 5, side="right")) - 1
    batch = replace(batch, pair=_changed(batch.pair, "tag", lambda ids: ids.__setitem__(5, 30)))
    with pytest.raises(BadRequest, match=rf"tag \(row {row} of the batch\)") as caught:
        look_up(batch)
    assert caught.value.got == "30"


@LOOKUPS
@pytest.mark.parametrize("index", ["request_index", "item_index"])
def test_lookup_refuses_when_an_index_is_out_of_range(look_up: Callable[[Batch], np.ndarray], index: str) -> None:
    batch = small_batch(10)
    wrong = getattr(batch, index).copy()
    wrong[7] = 99
    with pytest.raises(BadRequest, match=r"row 7.*index is out of range") as caught:
        look_up(replace(batch, **{index: wrong}))
    assert caught.value.got == "99"


@LOOKUPS
def test_lookup_refuses_when_offsets_leave_the_values(look_up: Callable[[Batch], np.ndarray]) -> None:
    batch = small_batch(10)
    tags = batch.pair["tag"]
    assert isinstance(tags, Ragged)
    offsets = tags.offsets.copy()
    offsets[-1] += 3
    with pytest.raises(BadRequest, match="tag"):
        look_up(replace(batch, pair={**batch.pair, "tag": replace(tags, offsets=offsets)}))


@LOOKUPS
def test_lookup_refuses_when_a_column_is_missing(look_up: Callable[[Batch], np.ndarray]) -> None:
    batch = small_batch(4)
    without = {name: column for name, column in batch.pair.items() if name != "clicks"}
    with pytest.raises(BadRequest, match="clicks: the pair columns lack this feature"):
        look_up(replace(batch, pair=without))


def test_lookup_names_the_feature_when_a_type_is_wrong() -> None:
    batch = small_batch(4)
    user = batch.request["user"]
    assert isinstance(user, np.ndarray)
    with pytest.raises(EngineError, match="user"):
        _native(replace(batch, request={**batch.request, "user": user.astype(np.int64)}))
    with pytest.raises(EngineError, match="genre"):
        _native(replace(batch, item={**batch.item, "genre": np.zeros(37, np.int32)}))


def test_lookup_names_the_table_when_it_is_missing_or_malformed() -> None:
    tables = dict(small_tables())
    genre = tables.pop("genre")
    with pytest.raises(EngineError, match="genre: has no table"):
        HostLookup(small_schema(), tables)
    with pytest.raises(EngineError, match="a uint8 table has no scale"):
        HostLookup(small_schema(), {**tables, "genre": Table(genre.rows)})
    with pytest.raises(EngineError, match="bias does not fit"):
        HostLookup(small_schema(), {**tables, "genre": replace(genre, bias=np.zeros(3, np.float32))})
    with pytest.raises(EngineError, match="int16"):
        HostLookup(small_schema(), {**tables, "genre": Table(np.zeros((20, 8), np.int16))})


FORMS = ("float32", "float16", "int8", "int4", "mixed", "quotient-remainder")


def _in_form(table: Table, form: str) -> AnyTable:
    counts = np.random.default_rng(0).integers(0, 9, table.count)
    floats = Table(table.dequantized())
    if form == "mixed":
        return mixed_table(floats, counts, hot_share=0.2)
    if form == "quotient-remainder":
        return quantize_table(quotient_remainder(floats, 5, counts), "int8")
    return quantize_table(floats, form)


def _tables(form: str) -> dict[str, AnyTable]:
    return {name: _in_form(table, form) for name, table in small_tables().items()}


@pytest.mark.parametrize("scales", ["float16", "float32"])
@pytest.mark.parametrize("form", FORMS)
def test_lookup_equals_numpy_to_the_bit_when_tables_are_of_any_form(form: str, scales: str) -> None:
    schema, batch, tables = small_schema(history=True), small_batch(300), _tables(form)
    if scales == "float32":
        tables = {name: _with_single_scales(table) for name, table in tables.items()}
    lookup = HostLookup(schema, tables)
    out = np.full((batch.rows, lookup.width), np.nan, np.float32)
    lookup.run(batch, out)
    expected = reference_lookup(schema, tables, batch, np.float32)
    np.testing.assert_array_equal(out, np.concatenate(list(expected.values()), axis=1))


def _with_single_scales(table: AnyTable) -> AnyTable:
    match table:
        case Table(scale=scale, bias=bias):
            return replace(table, scale=_single(scale), bias=_single(bias))
        case MixedTable():
            return replace(table, hot=_with_single_scales(table.hot), cold=_with_single_scales(table.cold))
        case QuotientRemainderTable():
            return replace(table, quotient=_with_single_scales(table.quotient))


def _single(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else values.astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_tables_are_the_same_when_read_back_from_an_artifact(form: str, tmp_path: Path) -> None:
    tables = _tables(form)
    if form != "quotient-remainder":
        tables["empty"] = _in_form(Table(np.zeros((0, 3), np.float32)), form)
    draft = Draft("train", name="small")
    forms = write_tables(draft, "baseline", tables)
    assert forms == {name: table.form for name, table in tables.items()}
    artifact = draft.commit(tmp_path / "small")
    for name, table in tables.items():
        read = read_table(artifact, f"variants/baseline/tables/{name}")
        read.check(name)
        assert (read.form, read.count, read.dim) == (table.form, table.count, table.dim)
        assert (read.size_bytes, read.read_bytes) == (table.size_bytes, table.read_bytes)
        np.testing.assert_array_equal(read.dequantized(), table.dequantized())
    mapped = {name: read_table(artifact, f"variants/baseline/tables/{name}") for name in small_tables()}
    batch = small_batch(20)
    lookup = HostLookup(small_schema(), mapped)
    out = np.empty((20, lookup.width), np.float32)
    lookup.run(batch, out)
    expected = reference_lookup(small_schema(), tables, batch, np.float32)
    np.testing.assert_array_equal(out, np.concatenate(list(expected.values()), axis=1))


def test_table_of_int8_is_read_when_the_artifact_has_no_record_of_it(tmp_path: Path) -> None:
    draft = Draft("train", name="old")
    rows, scale = np.arange(12, dtype=np.uint8).reshape(3, 4), np.full(3, 0.5, np.float32)
    for part, values in (("rows", rows), ("scale", scale), ("bias", -scale)):
        draft.put_array(f"user.{part}.npy", values)
    read = read_table(draft.commit(tmp_path / "old"), "user")
    assert read.form == "int8"
    np.testing.assert_array_equal(read.dequantized(), rows * 0.5 - 0.5)


def _damaged_mixed() -> list[tuple[str, MixedTable]]:
    table = _in_form(small_tables()["item"], "mixed")
    assert isinstance(table, MixedTable)
    bitmap, ranks = table.bitmap.copy(), table.ranks.copy()
    bitmap[-1] = 255
    ranks[2] += 1
    return [
        ("ranks do not fit", replace(table, ranks=ranks)),
        ("ranks do not fit", replace(table, bitmap=bitmap)),
        ("bitmap does not fit 900 rows", replace(table, count=900)),
        ("ranks does not fit", replace(table, ranks=table.ranks.astype(np.int64))),
        ("hot and cold rows do not fit", replace(table, hot=replace(table.cold))),
        ("hot and cold rows do not fit", replace(table, count=399)),
        (r"\(cold rows\): INT4 rows do not fit", replace(table, cold=replace(table.cold, columns=3))),
        (r"\(hot rows\): a uint8 table has no bias", replace(table, hot=replace(table.hot, bias=None))),
    ]


@pytest.mark.parametrize(("message", "table"), _damaged_mixed())
def test_lookup_refuses_a_mixed_table_when_its_parts_do_not_fit(message: str, table: MixedTable) -> None:
    tables = {**small_tables(), "item": table}
    with pytest.raises(EngineError, match=message):
        HostLookup(small_schema(), tables)
    with pytest.raises(EngineError, match=message):
        reference_lookup(small_schema(), tables, small_batch(3))


def test_lookup_refuses_a_quotient_remainder_table_when_its_parts_do_not_fit() -> None:
    table = _in_form(small_tables()["item"], "quotient-remainder")
    assert isinstance(table, QuotientRemainderTable)
    for message, damaged in (
        ("do not make 401 rows", replace(table, count=401)),
        ("do not make 400 rows", replace(table, remainder=table.quotient)),
        ("do not make 400 rows", replace(table, remainder=Table(np.zeros((0, 8), np.float32)))),
        ("unknown way to combine", replace(table, combine="concat")),  # type: ignore[arg-type]
        ("different types", replace(table, quotient=replace(table.quotient, scale=np.ones(80, np.float32)))),
    ):
        with pytest.raises(EngineError, match=message):
            HostLookup(small_schema(), {**small_tables(), "item": damaged})


def test_lookup_names_the_table_when_its_arrays_are_not_contiguous() -> None:
    tables = {**small_tables(), "user": Table(np.zeros((50, 16), np.float32)[:, ::2])}
    with pytest.raises(EngineError, match=r"user: a table cannot be read.*C-contiguous"):
        HostLookup(small_schema(), tables)
