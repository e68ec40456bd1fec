"""Tables of the engine triton-lang in a device's memory: all of them, or up to a budget."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.installed import installed_engine
from engine.small_model import TASKS, small_batch, small_model
from rankine.compilation.engine import ConfigurableEngine, Target
from rankine.compilation.engines.reference import ReferenceRunner
from rankine.compression.table_forms import quantize_table
from rankine.errors import BadRequest, ConfigError, EngineError
from rankine.models.columns import Batch, Ragged
from rankine.models.tables import AnyTable, MixedTable, QuotientRemainderTable, Table
from rankine.models.variant import Model

pytestmark = pytest.mark.engine

ENGINE = installed_engine("triton-lang")

import torch  # noqa: E402

from rankine.compilation.engines.triton_lang import cache, lane  # noqa: E402
from rankine.compilation.engines.triton_lang.available import devices_here  # noqa: E402
from rankine.compilation.engines.triton_lang.device import device_named  # noqa: E402
from rankine.compilation.engines.triton_lang.kernels.lookup import LookupField, fields_of, lookup  # noqa: E402
from rankine.compilation.engines.triton_lang.packet import Bags, packet_bytes, write_packet  # noqa: E402
from rankine.compilation.engines.triton_lang.runner import DeviceRunner, open_runner  # noqa: E402
from rankine.compilation.engines.triton_lang.tables import DeviceTables  # noqa: E402

DEVICE = device_named(devices_here()[0])
FORMS = ("float32", "float16", "int8", "int4")
ALL = 1 << 20


def _table(form: str, count: int = 40, dim: int = 7, seed: int = 1) -> Table:
    floats = Table(np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32))
    return floats if form == "float32" else quantize_table(floats, form)


def _mixed(count: int = 90, dim: int = 7) -> MixedTable:
    is_hot = np.random.default_rng(2).random(count) < 0.2
    hot, cold = _table("int8", int(is_hot.sum()), dim, 3), _table("int4", int((~is_hot).sum()), dim, 4)
    return MixedTable.of(hot, cold, is_hot)


def _looked_up(tables: DeviceTables, bags: list[Bags], fields: list[LookupField], rows: int, width: int) -> np.ndarray:
    """What the kernel writes to an arena of one buffer, ``(rows, width)``."""
    packet = torch.zeros(packet_bytes(bags) // 8 + 1, dtype=torch.int64)
    on_device = packet.to(DEVICE.torch_device)
    start = on_device.data_ptr() - tables.memory.data_ptr()
    write_packet(bags, rows, packet.numpy(), start)
    on_device.copy_(packet)
    arena = torch.full((rows + 3, width), float("nan"), device=DEVICE.torch_device)
    held, widest = fields_of(fields, DEVICE.torch_device), max(field.dim for field in fields)
    lookup(tables.memory, on_device, held, arena.view(-1), rows + 3, widest=widest, forms=tables.forms)
    assert bool(torch.isnan(arena[rows:]).all()), "wrote behind the call's rows"
    return arena[:rows].cpu().numpy()


@pytest.mark.parametrize("budget", [ALL, 300])
@pytest.mark.parametrize("pooling", ["sum", "mean", "max"])
def test_lookup_pools_what_the_tables_hold_when_forms_differ(pooling: str, budget: int) -> None:
    tables: dict[str, AnyTable] = {form: _table(form, seed=at) for at, form in enumerate(FORMS)}
    tables["mixed"] = _mixed()
    held, random, rows = DeviceTables(tables, DEVICE.torch_device, budget), np.random.default_rng(5), 23
    index = random.integers(0, 11, rows).astype(np.int32)
    bags, fields, expected = [], [], []
    for at, (name, table) in enumerate(tables.items()):
        offsets = np.concatenate([[0], np.cumsum(random.integers(0, 6, 11))]).astype(np.int32)
        ids = random.integers(0, table.count, offsets[-1]).astype(np.int32)
        weights = random.random(len(ids)).astype(np.float32) if at % 2 else None
        entries, spilled = held.entries(name, ids)
        assert bool(spilled) is (budget < ALL)
        bags.append(Bags(entries[None], offsets, index, weights, spilled))
        fields.append(LookupField(at, 7 * at, 40, 7, pooling))
        expected.append(_pooled(table, Ragged(ids, offsets, weights), pooling)[index])
    found = _looked_up(held, bags, fields, rows, 40)
    assert np.abs(found[:, :35] - np.concatenate(expected, axis=1)).max() < 1e-5
    assert np.isnan(found[:, 35:]).all(), "wrote beside its columns"


def _pooled(table: AnyTable, bags: Ragged, pooling: str) -> np.ndarray:
    out = np.zeros((len(bags), table.dim), np.float32)
    for at in range(len(bags)):
        rows = slice(bags.offsets[at], bags.offsets[at + 1])
        found = table.take(bags.values[rows]) * (1 if bags.weights is None else bags.weights[rows, None])
        if len(found):
            out[at] = {"sum": found.sum(0), "mean": found.mean(0), "max": found.max(0)}[pooling]
    return out


def test_sequence_is_padded_and_counted_when_the_device_looks_it_up() -> None:
    tables = {"a": _table("int8")}
    held = DeviceTables(tables, DEVICE.torch_device, ALL)
    bags = Ragged.from_lists([[3, 4], [], [5, 6, 7]], np.int32)
    entries, _ = held.entries("a", bags.values)
    fields = [LookupField(0, at * 7, 22, 7, position=at, count=None if at else 21) for at in range(3)]
    found = _looked_up(held, [Bags(entries[None], bags.offsets)], fields, 3, 22)
    expected = np.zeros((3, 22), np.float32)
    expected[0, :14], expected[2, :21] = tables["a"].take([3, 4]).ravel(), tables["a"].take([5, 6, 7]).ravel()
    expected[:, 21] = [2, 0, 3]
    assert np.abs(found - expected).max() < 1e-6


@pytest.fixture(params=["plain", "mixed"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    """One table a form; mixed: hot and cold rows for the item's, and another that only the host knows."""
    found = small_model(tmp_path, "fp32", history=True)
    if request.param == "plain":
        return found
    quotient = QuotientRemainderTable(_table("float32", 5, 8), _table("int8", 6, 8), 30)
    return replace(found, tables={**found.tables, "item": _mixed(400, 8), "tag": quotient})


def _open(model: Model, folder: Path, **given: int) -> DeviceRunner:
    (folder / "built").mkdir(exist_ok=True)
    ENGINE.build(model, Target(), folder / "built")
    return open_runner(model, folder / "built", device=DEVICE.name, **given)


@pytest.mark.parametrize("budget", [ALL, 3000, 1, 0])
def test_logits_are_the_references_when_tables_fit_or_do_not(model: Model, tmp_path: Path, budget: int) -> None:
    runner = _open(model, tmp_path, table_bytes=budget)
    assert runner.feed.tables.size_bytes <= budget
    assert bool(runner.feed.plan.looked) is (budget > 0)
    for rows in (30, 130):
        batch = small_batch(rows)
        out = np.full((rows, TASKS), np.nan, np.float32)
        runner.run(batch, out)
        assert np.abs(out - ReferenceRunner(model).logits(batch)).max() < 2e-5
    runner.close()


@pytest.mark.parametrize("budget", [ALL, 3000])
def test_nothing_is_launched_when_an_id_is_out_of_range(
    model: Model, tmp_path: Path, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, launched = _open(model, tmp_path, table_bytes=budget), []
    monkeypatch.setattr(lane, "lookup", lambda *given, **named: launched.append(given))
    out = np.empty((20, TASKS), np.float32)
    for name, wrong in _wrong(small_batch(20)):
        with pytest.raises((BadRequest, EngineError), match=name):
            runner.run(wrong, out)
    assert not launched
    runner.run(small_batch(20), out)
    assert launched
    runner.close()


def _wrong(batch: Batch) -> list[tuple[str, Batch]]:
    """Batches with something out of range in one column, and what the error names."""
    found = []
    for value in (-1, 5000, 2**31 - 1):
        ids = np.full(len(batch.item["item"]), value, np.int32)
        found.append(("item", replace(batch, item={**batch.item, "item": ids})))
        lists = batch.pair["tag"]
        assert isinstance(lists, Ragged)
        poisoned = Ragged(np.full_like(lists.values, value), lists.offsets, lists.weights)
        found.append(("tag", replace(batch, pair={**batch.pair, "tag": poisoned})))
        index = batch.item_index.copy()
        index[7] = value
        found.append(("item index", replace(batch, item_index=index)))
    history = batch.request["history"]
    assert isinstance(history, Ragged)
    longer = Ragged(np.zeros(9, np.int32), np.array([0, 9], np.int32))
    found.append(("history", replace(batch, request={**batch.request, "history": longer})))
    wide = np.zeros(len(batch.request["user"]), np.int64)
    found.append(("user", replace(batch, request={**batch.request, "user": wide})))
    return found


def test_whole_tables_are_the_smallest_and_hot_rows_when_the_budget_is_small() -> None:
    tables: Mapping[str, AnyTable] = {
        "big": _table("float32", 400, 8),
        "small": _table("float32", 10, 8),
        "m": _mixed(),
    }
    hot, small = tables["m"].hot.count * (8 + 8), 10 * 32  # type: ignore[union-attr]
    held = DeviceTables(tables, DEVICE.torch_device, hot + small + 640)
    assert held.whole("small") is not None
    assert held.whole("big") is None
    assert 0 < held.size_bytes <= hot + small + 640
    hot_rows = np.flatnonzero(tables["m"].places(np.arange(90))[0])  # type: ignore[union-attr]
    assert held.entries("m", hot_rows)[1] == [], "hot rows are there"
    assert "rows" in held.told


def test_rows_that_are_asked_for_most_are_taken_in_when_they_were_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_REFRESH_AFTER", 500)
    table, random = _table("int8", 1000, 8), np.random.default_rng(6)
    held = DeviceTables({"a": table}, DEVICE.torch_device, 1600)
    assert held.size_bytes == 100 * 16
    ranks = random.permutation(1000)
    asked = [ranks[np.minimum(random.zipf(1.3, 200) - 1, 999)].astype(np.int32) for _ in range(60)]
    missed = []
    for ids in asked:
        with held.inside():
            entries, spilled = held.entries("a", ids)
            missed.append(sum(len(one.places) for one in spilled) / len(ids))
            bags = Bags(entries[None], spilled=spilled)
            found = _looked_up(held, [bags], [LookupField(0, 0, 8, 8)], len(ids), 8)
        assert np.abs(found - table.take(ids)).max() < 1e-6
    assert np.mean(missed[-20:]) < 0.6 * np.mean(missed[:3])


def _due(count: int, slots: int) -> tuple[Table, DeviceTables]:
    """A table, and what is held of it: its first rows; the last ones were just missed twice."""
    table = _table("float32", count, 1)
    held = DeviceTables({"a": table}, DEVICE.torch_device, 4 * slots)
    for _ in range(2):
        held.entries("a", np.arange(count - 50, count))
    return table, held


def test_a_refresh_asks_for_no_more_memory_when_there_are_many_slots() -> None:
    _, held = _due(1_000_100, 1_000_000)
    tracemalloc.start()
    try:
        assert held.refresh() > 0
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_calls_go_on_when_better_rows_are_made_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    _, held = _due(1000, 100)
    passed, seen = threading.Event(), []

    def call() -> None:
        with held.inside():
            passed.set()

    def ready(*given: Any) -> np.ndarray:
        thread = threading.Thread(target=call)
        thread.start()
        seen.append(passed.wait(5))
        return made(*given)

    made = cache.records
    monkeypatch.setattr(cache, "records", ready)
    assert held.refresh() > 0
    assert seen == [True], "a call waited for what needs no closed gate"


def test_rows_stay_right_and_the_call_answered_when_a_refresh_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache, "_REFRESH_AFTER", 10)
    table, held = _due(1000, 100)
    whole = held.memory
    held.memory = whole[:-4]  # there is no room to copy to
    with held.inside():
        pass
    assert "no better rows of tables were taken in" in caplog.text
    held.memory = whole
    ids = np.arange(1000)
    entries, spilled = held.entries("a", ids)
    found = _looked_up(held, [Bags(entries[None], spilled=spilled)], [LookupField(0, 0, 1, 1)], len(ids), 1)
    assert np.abs(found - table.take(ids)).max() < 1e-6


def test_rows_change_places_only_when_no_call_is_inside() -> None:
    gate, order = cache.Gate(), []
    entered, leave = threading.Event(), threading.Event()

    def call() -> None:
        with gate.inside():
            entered.set()
            leave.wait(10)
            order.append("call")

    def change() -> None:
        with gate.closed():
            order.append("change")

    threads = [threading.Thread(target=target) for target in (call, change)]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["call", "change"]


def test_tables_stay_with_the_host_when_the_option_gives_them_nothing(tmp_path: Path) -> None:
    assert isinstance(ENGINE, ConfigurableEngine)
    model, folder = small_model(tmp_path, "fp32"), tmp_path / "built"
    folder.mkdir()
    ENGINE.build(model, Target(), folder)
    for given, looked in (({"tables_gib": "0"}, 0), ({"tables_gib": "0.5"}, 6)):
        runner = ENGINE.configured(given).open(model, folder, device=DEVICE.name)
        assert isinstance(runner, DeviceRunner)
        assert len(runner.feed.plan.looked) == looked
        runner.close()


@pytest.mark.parametrize("given", [{"tables_gib": "-1"}, {"tables_gb": "1"}])
def test_an_option_is_refused_when_it_makes_no_sense(given: dict[str, str]) -> None:
    configured: Callable[[Mapping[str, str]], object] = ENGINE.configured  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="triton-lang"):
        configured(given)
