"""The benchmark of the device pool: what its section of the page says of a result."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from unit.rendered import ROOT


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    known = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "serving"}
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("serving.device_pool")
    for name in [name for name in sys.modules if name.split(".")[0] == "serving" and name not in known]:
        sys.modules.pop(name)


@pytest.mark.parametrize(
    ("pool_rps", "told"), [((120.0, 118.0), "never below 1: met"), ((99.0, 140.0), "never below 1: missed")]
)
def test_section_says_whether_the_bar_is_met_when_there_is_a_result(
    section: ModuleType, tmp_path: Path, pool_rps: tuple[float, float], told: str
) -> None:
    path = tmp_path / "result.json"
    found = [
        {"repeat": at, "fast_rps": 100.0, "pool_rps": rate_rps, "control_ms": (10.0, 10.5)}
        for at, rate_rps in enumerate(pool_rps)
    ]
    result = section.DevicePoolResult(
        model="a model",
        fast="native",
        slow="eager",
        slo_ms=50.0,
        fast_ms=10.0,
        slow_ms=30.0,
        slow_rps=0.0,
        loop_ms=0.5,
        found=found,
        probes=(),
        created="2026-01-01T00:00:00Z",
        environment={},
    )
    path.write_text(result.model_dump_json(), encoding="utf-8")
    page = "\n".join(section.device_pool_lines(path))
    assert told in page
    assert "3.0 times as slow" in page
    assert "together they have 1.33 times its capacity" in page
    assert "Controls (the fast engine alone) within 5%" in page
    assert "sustains no rate at all" in page


def test_section_is_left_out_when_nothing_was_measured(section: ModuleType, tmp_path: Path) -> None:
    assert section.device_pool_lines(tmp_path / "none.json") == []
