"""What the serving proof reads off long runs: the ladder's way back, growth in a soak, recovery from faults."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankine.observation.load.answer import Answer


def test_back_up_counts_from_the_fall_of_the_load_when_a_cheaper_rung_answered_last(serving: Any) -> None:
    ladder = serving.ladder
    answers = [Answer(one, one, one + 0.01, "200", True, 1) for one in (9.0, 10.5, 11.0, 12.0)]
    by = ladder.named([answers[0], Answer(9, 9, 9.1, "503", False, 1), *answers[1:]], ["low", "low", "low", "best"])
    assert ladder.back_up_s(by, 10.0, "best") == pytest.approx(1.01)
    assert ladder.back_up_s(by[:1], 10.0, "best") == 0.0


def test_load_falls_when_its_time_has_come(serving: Any) -> None:
    due_s = serving.ladder.two_loads(1000.0, 100.0, 9.0, seed=0)
    assert (np.diff(due_s) > 0).all()
    assert (due_s < 10.0).sum() == pytest.approx(10_000, rel=0.05)
    assert (due_s >= 10.0).sum() == pytest.approx(100 * serving.ladder.CALM_S, rel=0.15)


def test_growth_is_that_of_the_whole_time_when_there_is_a_spike(serving: Any) -> None:
    soak = importlib.import_module("serving_soak")
    sample = serving.endurance.Sample
    flat = [sample(5.0 * at, 100 + 90 * (at == 30), 20 + at % 2, 7) for at in range(60)]
    leaks = [sample(5.0 * at, 100 + at, 20 + at, 7) for at in range(60)]
    assert soak.growths(flat, 60.0) == pytest.approx((0.0, 0.0, 0.0))
    memory, descriptors, threads = soak.growths(leaks, 60.0)
    assert memory == pytest.approx(47 / 113, rel=0.01)
    assert (descriptors, threads) == (47, 0)
    sys.modules.pop("serving_soak")


def test_server_is_well_when_two_windows_in_a_row_are(serving: Any) -> None:
    bad = {0.0, 0.2, 0.6}  # windows in which requests were late
    answers = [Answer(5 + at, 5 + at, 5 + at + (0.3 if at in bad else 0.01), "200", True, 1) for at in
               (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)]  # fmt: skip
    assert serving.faults.well_after_s(answers, 4.999, 50.0, 7.0) == pytest.approx(0.8)
    assert serving.faults.well_after_s(answers[:4], 4.999, 50.0, 5.7) is None


SOAK = {
    "model": "small",
    "rate_rps": 700.0,
    "duration_s": 900.0,
    "warmup_s": 120.0,
    "requests": 630_000,
    "outcomes": {"200": 630_000},
    "p99_ms": 9.0,
    "memory_growth": 0.03,
    "descriptors_growth": 0.0,
    "threads_growth": 0.0,
    "samples": [(5.0, 2**30, 20, 7)],
    "created": "2026-11-21T10:00:00Z",
    "environment": {},
}
FAULT = {
    "name": "terminate",
    "title": "SIGTERM",
    "rate_rps": 200.0,
    "requests": 1800,
    "outcomes": {"200": 1797, "503": 3},
    "recovery_s": 0.4,
    "ends": False,
    "lost": 0,
    "refused": 3,
}


@pytest.mark.parametrize(("growth", "verdict"), [(0.03, "**missed**"), (0.01, "met")])
def test_page_tells_of_a_soak_when_there_is_a_result(growth: float, verdict: str, tmp_path: Path, serving: Any) -> None:
    endurance = serving.endurance
    soak = endurance.Soak.model_validate(SOAK | {"memory_growth": growth})
    serving.files.write_record(tmp_path / "soak.json", soak)
    told = "".join(endurance.soak_lines(tmp_path / "soak.json"))
    assert f"{growth:+.2%} of 1,024 MiB | +0.0 | +0.0 | memory < 2%, no more descriptors | {verdict} |" in told
    assert endurance.soak_lines(tmp_path / "none.json") == []


@pytest.mark.parametrize(
    ("recovery_s", "told"), [(0.4, "0.4 | 0 | 3 of 1,800 | < 2 s | met |"), (2.0, "2.0 | 0 | 3 of 1,800 | < 2 s | **m")]
)
def test_page_tells_of_faults_when_there_are_results(
    recovery_s: float, told: str, tmp_path: Path, serving: Any
) -> None:
    endurance = serving.endurance
    given = {"runs": [FAULT | {"recovery_s": recovery_s}], "created": SOAK["created"], "environment": {}}
    serving.files.write_record(tmp_path / "faults.json", endurance.Faults.model_validate(given))
    assert f"| SIGTERM | 200 | {told}" in "".join(endurance.fault_lines(tmp_path / "faults.json"))
    assert endurance.fault_lines(tmp_path / "none.json") == []


def test_frozen_processes_stay_so_for_a_while_when_faults_strike(serving: Any) -> None:
    faults = serving.faults
    lasting = {fault.name: (fault.lasts_s, fault.from_end) for fault in faults.FAULTS.values() if fault.lasts_s}
    assert lasting == {"freeze": (faults.FROZEN_S, True), "freeze_worker": (faults.FROZEN_S, False)}
