"""The simulation of the certificate, small: what it draws, that it goes on where it was, and what it finds."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankine.metrics import auc, calibration_ratio, log_loss

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("certificate_simulation", "render_certificate_simulation", "simulated_rows")


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import certificate_simulation

    yield certificate_simulation
    for name in MODULES:
        sys.modules.pop(name, None)


def test_false_passes_are_rare_only_when_clusters_are_heeded(simulation, tmp_path: Path) -> None:
    models = simulation.models_of(simulation.WORLD, simulation.LOSS)
    runs = 50
    found = simulation.outcomes(tmp_path, models, runs, [1], 199)
    auc_loss = simulation.exact_auc(simulation.WORLD, 1.6) - simulation.exact_auc(simulation.WORLD, 1.0)
    losses = (
        simulation.exact_log_loss(simulation.WORLD, 1.0, models.intercept_a),
        simulation.exact_log_loss(simulation.WORLD, 1.6, models.intercept_b),
    )
    highest = 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    truths = (auc_loss, 1 - losses[1] / losses[0], -0.03)
    rates = [float((found[:, place, 2] > truth).mean()) for place, truth in enumerate(truths)]
    assert all(rate < highest for rate in rates)
    assert float((found[:, 2, 3] > -0.03).mean()) > highest


def test_chunks_are_read_back_and_remade_alike_when_some_are_there(simulation, tmp_path: Path) -> None:
    models = simulation.models_of(simulation.WORLD, simulation.AWAY)
    simulation.CHUNK = 5
    first = simulation.outcomes(tmp_path, models, 8, [2], 99, only="calibration")
    assert first.shape == (8, 1, 5)
    (tmp_path / "5.npy").unlink()
    kept = (tmp_path / "0.npy").stat().st_mtime_ns
    assert np.array_equal(simulation.outcomes(tmp_path, models, 8, [2], 99, only="calibration"), first)
    assert (tmp_path / "0.npy").stat().st_mtime_ns == kept


def test_truth_by_quadrature_agrees_with_a_large_sample_when_drawn(simulation) -> None:
    world = simulation.WORLD
    models = simulation.models_of(world, simulation.LOSS)
    rows = simulation.draw_population(world, models, 12_000, np.random.default_rng(3))
    assert auc(rows.positive, rows.b) == pytest.approx(simulation.exact_auc(world, 1.6), abs=0.003)
    found = log_loss(rows.positive, rows.b)
    assert found == pytest.approx(simulation.exact_log_loss(world, 1.6, models.intercept_b), abs=0.003)
    assert calibration_ratio(rows.positive, rows.b) == pytest.approx(math.exp(0.03), abs=0.01)


def test_no_user_has_an_item_twice_when_rows_are_drawn(simulation) -> None:
    world = simulation.WORLD
    rows = simulation.draw(world, simulation.models_of(world, simulation.EQUAL), np.random.default_rng(4))
    pairs = np.asarray(rows.clusters["user"]) * world.items + np.asarray(rows.clusters["item"])
    assert len(np.unique(pairs)) == len(pairs)
    assert len(np.unique(rows.clusters["user"])) == world.users


def test_page_is_what_the_result_says_when_rendered(simulation) -> None:
    import render_certificate_simulation as page

    result = page.read_result()
    assert page.PAGE.read_text(encoding="utf-8") == page.render(result)
    assert simulation.CertificateSimulation.model_validate(result).world == simulation.WORLD


def test_committed_result_keeps_its_promise_when_read(simulation) -> None:
    import render_certificate_simulation as page

    result = simulation.CertificateSimulation.model_validate(page.read_result())
    assert {level.metric for level in result.levels} == set(simulation.NAMES)
    for level in result.levels:
        assert level.runs >= 2000
        assert level.rate <= 0.05 + 2 * level.rate_se
    for power in result.powers:
        assert power.rate > power.predicted - 4 * math.sqrt(0.25 / power.runs)
