"""The result file of the serving proof, and the page that is rendered from it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rankine.errors import UsageError

CONTEST = {"model": "big", "traffic": "exponential", "candidates": "mlperf"}
WHERE = {"created": "2026-11-21T10:00:00Z", "environment": {"cpu": "x"}}
TURN = {
    "sustained_rps": 200.0,
    "failed_rps": 210.0,
    "goodput_rps": 199.0,
    "p50_ms": 8.0,
    "p99_ms": 40.0,
    "requests": 2000,
    "capped": False,
    "engine_ms": (3.0, 3.3),
    "attempts": [],
    "settings": {},
}
PEER = {**TURN, "sustained_rps": 100.0, "capped": True}
ORACLE = {"call_ms": 0.1, "row_us": 6.0, "request_ms": 1.0, "engine_rps": 400.0, "server_rps": 250.0}
OVERLOAD = {
    "factor": 2.0,
    "offered_rps": 400.0,
    "goodput_rps": 190.0,
    "goodput_share": 0.95,
    "requests": 1600,
    "refused": 800,
    "refusal_p99_ms": 3.0,
    "admitted_in_time_share": 0.995,
    "outcomes": {"200": 800},
    "generator_bound": False,
}
OWN = {**TURN, "oracle": ORACLE, "overload": OVERLOAD}
ROUND = {"contest": CONTEST, "number": 0, "slo_ms": 50, "effort": {"probe_s": 2.5}, **WHERE}
FRONT_END = {
    "case": {**CONTEST, "server": "rankine"},
    "requests": 1000,
    "client_p50_ms": 1.0,
    "client_p99_ms": 2.0,
    "run_p50_ms": 0.5,
    "added_ms": 0.5,
    "settings": {},
    **WHERE,
}


def test_record_replaces_a_row_when_the_same_case_is_measured_again(serving: Any) -> None:
    record = serving.record
    first = record.FrontEnd.model_validate(FRONT_END)
    other = first.model_copy(update={"case": first.case.model_copy(update={"model": "small"})})
    again = first.model_copy(update={"added_ms": 0.7})
    found = record.ServingProof()
    for row in (first, other, again):
        found = record.merged(found, "front_end", row)
    assert found.front_end == (again, other)
    assert found.simulator == ()


def test_record_reads_back_equal_when_written(tmp_path: Path, serving: Any) -> None:
    record = serving.record
    found = record.ServingProof.model_validate({"rounds": [{**ROUND, "turns": {"rankine": OWN}}]})
    serving.files.write_record(tmp_path / "x" / "result.json", found)
    assert record.read_result(tmp_path / "x" / "result.json") == found
    assert record.read_result(tmp_path / "none.json") == record.ServingProof()


def test_record_is_refused_when_it_is_of_another_version(tmp_path: Path, serving: Any) -> None:
    (tmp_path / "old.json").write_text(json.dumps({"schema_version": 1, "goodput": []}), encoding="utf-8")
    with pytest.raises(UsageError, match="another version"):
        serving.record.read_result(tmp_path / "old.json")


@pytest.fixture
def page(serving: Any) -> Iterator[ModuleType]:
    yield importlib.import_module("render_serving")
    sys.modules.pop("render_serving")


def test_page_is_what_the_results_say_when_rendered(page: ModuleType) -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render(page.read_result(page.RESULT))


def rendered(page: ModuleType) -> str:
    rounds = [
        {**ROUND, "turns": {"rankine": OWN, "triton": PEER}},
        {**ROUND, "number": 1, "turns": {"triton": PEER, "rankine": {**OWN, "sustained_rps": 240.0}}},
    ]
    titles = {"rankine": "Rankine", "triton": "Triton server", "bentoml": "BentoML", "window": "window"}
    given = {"rounds": rounds, "titles": titles, "missing": {"bentoml": "bentoml not installed"}}
    told: str = page.render(page.ServingProof.model_validate(given))
    return told


def test_page_shows_ratios_within_rounds_when_a_peer_was_measured(page: ModuleType) -> None:
    told = rendered(page)
    assert "Rounds: 2, with probes of 2.5 s, searched to 3%. The control moved by 10%" in told
    assert "| **Rankine** | **220** (200 to 240) |  | 8.0 | 40.0 | 210 |" in told
    assert "| Triton server | **100** (100 to 100) or more | **2.20** (2.00 to 2.40) |" in told
    assert "over Triton server **2.20** (2.00 to 2.40) times | met |" in told
    assert "* BentoML: bentoml not installed." in told
    assert "* Goodput, big, Exponential, MLPerf's numbers of candidates: window." in told


def test_page_shows_oracle_and_overload_of_the_same_rounds_when_there_are_some(page: ModuleType) -> None:
    told = rendered(page)
    assert "| 400 | 250 | **88%** (80% to 96%) | **55%** (50% to 60%) | 1.00 |" in told
    assert "| **Rankine** | 400 (2x) | **95%** (95% to 95%) | 50% | 3.0 | 99.5% | 2 |" in told
    assert "| of the oracle, big, exponential | >= 95% | **88%** (80% to 96%); 55% of one" in told


def test_page_says_so_when_there_are_no_results(page: ModuleType) -> None:
    assert "No results are committed yet." in page.render(page.ServingProof())
