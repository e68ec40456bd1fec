"""The native lookup against the NumPy one, and what both refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from engine.small_model import small_batch, small_schema, small_tables
from rankine.compilation.lookup import HostLookup
from rankine.errors import BadRequest, EngineError
from rankine.models.columns import Batch, Columns, Ragged
from rankine.models.lookup_reference import reference_lookup
from rankine.models.variant import Table


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
