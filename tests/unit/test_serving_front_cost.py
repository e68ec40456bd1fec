"""What goes into the simulator beside the server: costs regressed on what ran, and medians of several measurements."""

from __future__ import annotations

from typing import Any

import pytest


def _spent(serving: Any, requests: float, rows: float, batches: float, cost: tuple[float, float, float]) -> Any:
    ran = serving.ran.Ran(batches, requests, rows, run_s=0.25)
    beside_s = requests * cost[0] + rows * cost[1] + batches * cost[2]
    return serving.front_cost.Spent(ran.run_s + beside_s, ran)


LOADS = ((4000, 256_000, 300), (3000, 600_000, 700), (2000, 800_000, 1200), (900, 630_000, 600))


def test_costs_are_found_when_loads_join_few_and_many_requests(serving: Any) -> None:
    cost = (80e-6, 0.05e-6, 150e-6)
    found = serving.front_cost.regressed([_spent(serving, *load, cost) for load in LOADS])
    assert found == pytest.approx(cost)


def test_no_cost_is_negative_when_it_would_fit_better(serving: Any) -> None:
    request_s, row_s, batch_s = serving.front_cost.regressed(
        [_spent(serving, *load, (80e-6, -0.02e-6, 150e-6)) for load in LOADS]
    )
    assert row_s == 0.0
    assert request_s == pytest.approx(75e-6, rel=0.1)
    assert batch_s > 0.0


def test_simulator_gets_the_middle_when_inputs_were_measured_several_times(serving: Any) -> None:
    profiles = [serving.simulated.Profile(((1, one), (64, 2 * one)), ((1, one),), one / 10) for one in (1.0, 3.0, 2.0)]
    assert serving.simulated._middle(profiles) == serving.simulated.Profile(
        ((1.0, 2.0), (64.0, 4.0)), ((1.0, 2.0),), 0.2
    )


def test_processor_time_of_a_process_is_told_finely_when_the_system_counts_it(serving: Any) -> None:
    process = serving.processes.psutil.Process()
    before_s = serving.processes.cpu_s(process)
    total = sum(range(200_000))
    spent_s = serving.processes.cpu_s(process) - before_s
    assert total
    assert 0 < spent_s < 1.0
