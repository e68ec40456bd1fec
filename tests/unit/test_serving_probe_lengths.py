"""How long a probe must be: the simulated queue, and its part of the page."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def lengths(serving: Any) -> Iterator[ModuleType]:
    yield importlib.import_module("serving_probe_lengths")
    sys.modules.pop("serving_probe_lengths")


def test_requests_wait_for_those_before_them_when_they_come_too_soon(lengths: ModuleType) -> None:
    waited_s = lengths.waited_s(np.array([0.0, 0.1, 0.2, 1.0]), np.array([0.3, 0.1, 0.1, 0.2]))
    assert waited_s == pytest.approx([0.3, 0.3, 0.3, 0.2])


def test_limit_is_lower_when_a_request_costs_more(lengths: ModuleType) -> None:
    cheap, dear = (lengths.limit_rps("exponential", 3.0, 0, service) for service in lengths.SERVERS["small"])
    assert 1.3 < cheap / dear < 1.9  # 0.516 ms and 0.816 ms of the processor each


def test_page_tells_by_how_much_probes_vary_when_there_is_a_result(
    lengths: ModuleType, serving: Any, tmp_path: Path
) -> None:
    one = {"traffic": "bursts", "like": "big", "probe_s": 6, "rate_rps": 110, "rate_spread": 0.1, "ratio_spread": 0.05}
    given = {"traces": 9, "found": [one], "created": "2026-11-21T10:00:00Z"}
    serving.files.write_record(tmp_path / "x.json", lengths.ProbeLengths.model_validate(given))
    told = serving.probe_lengths.probe_length_lines(tmp_path / "x.json")
    assert "| big | bursts | 6 | 110 | 10.0% | 5.0% |" in told
    assert serving.probe_lengths.probe_length_lines(tmp_path / "none.json") == []
