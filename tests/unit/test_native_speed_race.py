"""How the native engine is timed: every side as often, ids of their own, what counts, what a file keeps."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rankine.models.columns import Batch, Columns

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Modules of the benchmark, by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return {name: importlib.import_module(f"native_speed.{name}") for name in ("race", "record", "shapes", "whole")}


class Recorder:
    """A runner that keeps the items of each call."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def run(self, batch: Batch, out: np.ndarray) -> None:
        self.calls.append(batch.item_index.tolist())
        out[:] = 0

    def complete(self, items: Columns) -> Columns:
        return items

    def close(self) -> None:
        self.calls.clear()


def test_race_calls_sides_alike_and_the_first_twice_when_run(speed: dict[str, ModuleType]) -> None:
    pool = np.arange(1000, dtype=np.int32)
    draw = speed["shapes"].draw_from({"a": np.zeros((3, 1), np.float32)}, {}, pool, 2)
    sides = [speed["record"].Side(engine=name, numeric="fp32") for name in ("one", "two", "three")]
    runners = [Recorder() for _ in sides]
    runnable = [speed["race"].Runnable(side, one, draw) for side, one in zip(sides, runners, strict=True)]
    spent = speed["race"].race(runnable, rows=2, tasks=1, turns=5)
    assert list(spent) == [*sides, None]
    assert {len(times) for times in spent.values()} == {5}
    assert [len(one.calls) for one in runners] == [2 * 16, 16, 16]
    drawn = [tuple(call) for one in runners for call in one.calls]
    assert len(set(drawn)) == len(drawn)


def test_timings_are_paired_with_the_first_side_when_recorded(speed: dict[str, ModuleType]) -> None:
    one, two = (speed["record"].Side(engine=name, numeric="int8") for name in ("one", "two"))
    spent = {one: np.array([1.0, 2.0, 4.0]), two: np.array([2.0, 6.0, 4.0]), None: np.array([1.0, 3.0, 4.0])}
    first, second = speed["race"].timings_of(spent, model="m", rows=8)
    assert (first.ratio, first.control, second.control) == (1.0, 1.5, 1.5)
    assert (second.baseline, second.median_ms, second.ratio) == (one, 4.0, 2.0)
    assert (second.ratio_low, second.ratio_high) == (1.5, 2.5)


def test_draw_gives_pair_values_of_the_same_rows_when_there_are_any(speed: dict[str, ModuleType]) -> None:
    pool = np.array([5, 6, 7, 8], np.int32)
    draw = speed["shapes"].draw_from({"a": np.arange(2)}, {}, pool, 2, {"p": np.arange(4)})
    batch = draw(3)
    assert batch.item_index.tolist() == [7, 8]
    assert np.asarray(batch.pair["p"]).tolist() == [2, 3]
    assert np.asarray(batch.request["a"]).tolist() == [1]


def test_fastest_form_counts_when_an_engine_has_several(speed: dict[str, ModuleType]) -> None:
    record = speed["record"]

    def timing(engine: str, numeric: str, median: float) -> Any:
        side = record.Side(engine=engine, numeric=numeric)
        others = dict.fromkeys(("low_ms", "high_ms", "ratio", "ratio_low", "ratio_high", "control"), 1.0)
        return record.Timing(model="m", side=side, baseline=side, rows=1, turns=1, median_ms=median, **others)

    timings = [
        timing("openvino", "fp32", 1.0),
        timing("openvino", "int8", 3.0),
        timing("openvino", "int8-nncf", 2.0),
        timing("native", "int8", 5.0),
        timing("native", "fp32", 4.0),
    ]
    assert [one.counts for one in speed["whole"].mark_counting(timings)] == [False, False, True, False, True]


def test_other_sections_stay_when_one_is_written(speed: dict[str, ModuleType], tmp_path: Path) -> None:
    record = speed["record"]
    section = record.Section(created="2026-11-21T10:00:00Z", environment={})
    later = record.Section(created="2026-11-22T10:00:00Z", environment={})
    file = tmp_path / "result.json"
    for name, one in (("whole", section), ("split", section), ("whole", later)):
        record.write_section(file, name, one)
    assert record.read_result(file).sections == {"whole": later, "split": section}
