"""A CPU and a simulated accelerator in one pool, in simulated time: from which number of rows on a request goes to the
accelerator, found online by the server's own policies."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rankine.compilation.engines.simulated import SimulatedCost
from rankine.planning.simulate_server import SimulatedServer
from rankine.planning.simulate_setup import Setup, SimulatedDevice
from rankine.planning.simulate_traffic import Traffic, draw_trace
from rankine.policy.cost import CostModel
from rankine.policy.placement import Device, place

CPU = SimulatedCost(launch_us=50, rows_per_ms=100)
ACCELERATOR = SimulatedCost(launch_us=2950, transfer_us=0.5, rows_per_ms=2000)
OPTIMUM = (2950 - 50) / (10 - 1)
"""Rows at which both take the same time."""
ROWS = (1, 512, 2048)
"""Of the warm-up of a server."""
REQUESTS = 1000


def crossover(costs: Sequence[CostModel]) -> int:
    """The fewest rows that the policy gives to the accelerator while both are idle."""
    devices = [Device("cpu", costs[0]), Device("accelerator", costs[1])]
    return next(rows for rows in range(1, 10**6) if place(rows, 1, devices, 0.0).parts[0].device == 1)


def profile(cost: SimulatedCost, factor: float = 1.0) -> tuple[tuple[int, float], ...]:
    return tuple((rows, factor * cost.seconds(rows)) for rows in ROWS)


def learned(rate_rps: float, cpu: tuple[tuple[int, float], ...], accelerator: tuple[tuple[int, float], ...]) -> float:
    """The crossover over the optimum at the end, from what is believed at first."""
    devices = (
        SimulatedDevice("cpu", profile(CPU), believed=cpu),
        SimulatedDevice("accelerator", profile(ACCELERATOR), believed=accelerator),
    )
    duration_s = REQUESTS / rate_rps
    traffic = Traffic(rate_rps=rate_rps, duration_s=duration_s, candidates="lognormal", deadline_ms=200, seed=3)
    return crossover(SimulatedServer(draw_trace(traffic), Setup(devices, seed=3)).run().learned) / OPTIMUM


@pytest.mark.parametrize("rate_rps", [20, 300])
@pytest.mark.parametrize(("cpu", "accelerator"), [(1, 1 / 3), (1, 1 / 2), (1, 2), (1, 3), (1 / 3, 1), (3, 1)])
def test_crossover_is_within_a_tenth_of_the_optimum_when_the_profile_was_wrong(
    rate_rps: float, cpu: float, accelerator: float
) -> None:
    believed = profile(CPU, cpu), profile(ACCELERATOR, accelerator)
    wrong = crossover([CostModel(each) for each in believed]) / OPTIMUM
    assert not 0.55 < wrong < 1.8
    assert learned(rate_rps, *believed) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("rate_rps", [20, 100])
def test_crossover_is_found_when_the_accelerator_was_believed_slower_than_the_cpu_on_all_that_comes(
    rate_rps: float,
) -> None:
    """Only trials can tell: requests seldom queue at these rates."""
    believed = profile(CPU), profile(ACCELERATOR, 5.0)
    assert crossover([CostModel(each) for each in believed]) > 2048
    assert learned(rate_rps, *believed) == pytest.approx(1, abs=0.1)


def test_crossover_is_found_when_the_launch_was_taken_for_a_third() -> None:
    believed = profile(ACCELERATOR.model_copy(update={"launch_us": 1000.0}))
    assert crossover([CostModel(profile(CPU)), CostModel(believed)]) / OPTIMUM < 0.5
    assert learned(100, profile(CPU), believed) == pytest.approx(1, abs=0.1)


def test_crossover_stays_at_the_optimum_when_the_profile_was_right() -> None:
    assert learned(100, profile(CPU), profile(ACCELERATOR)) == pytest.approx(1, abs=0.1)
