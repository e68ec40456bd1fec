"""The whole line in one command: a demonstration on little data leaves a result, a report and a servable artifact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rankine.artifact import Artifact
from rankine.certification.plan import certified_pairs, quality_certificates
from rankine.observation.result import DemoResult
from rankine.serving.config import ServeConfig
from rankine.serving.model import open_model

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that a demonstration wrote, and what it printed."""
    root = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "RANKINE_CACHE": str(root / "cache")}
    command = [sys.executable, "-m", "rankine", "demo", "--quick", "--out", str(root / "out")]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert finished.returncode == 0, finished.stderr[-4000:]
    return root / "out", finished.stdout


def test_demo_writes_a_result_with_both_sides_when_done(demo: tuple[Path, str]) -> None:
    values = json.loads((demo[0] / "result.json").read_text())
    result = DemoResult.model_validate(values)
    needed = {"auc", "engine", "engine_p50_ms", "http_p50_ms", "http_p99_ms", "goodput_rps", "size_bytes"}
    for role in ("baseline", "best", "bare_engine"):
        assert needed <= set(values[role])
        assert set(values[role]["engine_p50_ms"]) == {"1", "64", "512"}
        assert values[role]["http_p50_ms"] > 0
    assert {role: values[role]["form"] for role in ("baseline", "bare_engine", "best")} == {
        "baseline": "whole", "bare_engine": "whole", "best": "parts",
    }  # fmt: skip
    assert result.baseline.engine == "eager"
    assert result.ratios.latency_512 == pytest.approx(
        result.best.engine_p50_ms["512"] / result.baseline.engine_p50_ms["512"]
    )
    assert result.certificate is not None
    assert result.certificate.verdict == "pass"
    assert result.certificate.ci_low > -result.certificate.margin


def test_demo_says_what_the_split_alone_gives_when_the_best_variant_has_parts(demo: tuple[Path, str]) -> None:
    result = DemoResult.model_validate_json((demo[0] / "result.json").read_text())
    assert result.split is not None
    assert result.split.parts_p50_ms == result.best.engine_p50_ms
    whole = {
        str(timing.rows): timing.p50_ms
        for timing in result.engines
        if (timing.variant, timing.engine, timing.form) == (result.best.variant, result.best.engine, "whole")
    }
    assert result.split.whole_p50_ms == whole
    assert set(result.split.ratios) == {"1", "64", "512"}
    for rows, ratio in result.split.ratios.items():
        assert ratio == result.split.parts_p50_ms[rows] / result.split.whole_p50_ms[rows]
    assert 0 < result.split.macs_per_row < 1
    assert result.split.stored_bytes > 0
    assert "split alone" in demo[1]
    assert "What the split alone gives" in (demo[0] / "report.html").read_text()


def test_demo_draws_the_bare_engine_as_it_was_served_when_it_has_parts_too(demo: tuple[Path, str]) -> None:
    result = DemoResult.model_validate_json((demo[0] / "result.json").read_text())
    bare = result.bare_engine
    assert bare is not None
    [point] = [p for p in result.points if (p.variant, p.engine, p.form) == (bare.variant, bare.engine, "whole")]
    assert point.p50_ms_512 == bare.engine_p50_ms["512"]
    assert {p.engine for p in result.points if p.form == "whole" and p != point} == {"eager"}  # which has no parts


def test_demo_leaves_a_catalog_with_all_that_is_served_when_done(demo: tuple[Path, str]) -> None:
    model = open_model(ServeConfig(artifact=demo[0] / "artifact"))
    assert model.rungs[0].form == "parts"
    assert model.catalog is not None
    assert model.catalog.computed_bytes == 0  # else the server warns at every start


def test_demo_shows_table_and_paths_when_done(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    for text in ("test AUC", "engine p50, 512 rows, ms", "certificate", "result.json", "report.html"):
        assert text in printed
    assert (folder / "report.html").stat().st_size > 10_000


def test_demo_leaves_an_artifact_that_may_be_served_when_certified(demo: tuple[Path, str]) -> None:
    artifact = Artifact.open(demo[0] / "artifact")
    artifact.verify()
    result = DemoResult.model_validate_json((demo[0] / "result.json").read_text())
    assert (result.best.variant, result.best.engine) in certified_pairs(artifact)
    certificate = quality_certificates(artifact)[result.best.variant, result.best.engine]
    assert certificate.variant_value == result.best.auc


def test_demo_refuses_a_folder_when_it_exists(demo: tuple[Path, str]) -> None:
    command = [sys.executable, "-m", "rankine", "demo", "--quick", "--out", str(demo[0])]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert "already there" in finished.stderr
