"""The cost model: what it predicts, what it learns, and what it does not fall for."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankine.errors import UsageError
from rankine.policy.cost import CostModel
from rankine.policy.isotonic import non_decreasing
from unit.policy_requests import big, costs

PROFILE = [(1, 0.001), (101, 0.011), (1001, 0.051)]


def test_mean_is_that_of_the_profile_when_nothing_was_observed() -> None:
    cost = CostModel(PROFILE, per_request_s=0.0002)
    assert cost.mean_s(101) == pytest.approx(0.011)
    assert cost.mean_s(51) == pytest.approx(0.006)
    assert cost.mean_s(2001) == pytest.approx(0.051 + 1000 * 0.040 / 900)
    assert cost.mean_s(101, 3) == pytest.approx(0.0114)
    assert CostModel([(100, 0.01)]).mean_s(150) == pytest.approx(0.015)


@pytest.mark.parametrize("profile", [[], [(0, 0.1)], [(1, 0.1), (1, 0.2)], [(1, 0.0)], [(1, math.nan)]])
def test_cost_model_refuses_when_the_profile_is_none(profile: list[tuple[int, float]]) -> None:
    with pytest.raises(UsageError, match="profile"):
        CostModel(profile)


@given(
    costs(),
    st.lists(
        st.tuples(st.integers(1, 5000), st.integers(1, 64), st.integers(0, 20), st.floats(1e-6, 10.0)), max_size=60
    ),
)
def test_predictions_never_fall_when_rows_requests_or_co_running_grow(
    cost: CostModel, observations: list[tuple[int, int, int, float]]
) -> None:
    for observation in observations:
        cost.observe(*observation)
    means = [cost.mean_s(rows) for rows in range(1, 5000, 13)]
    assert all(later >= sooner > 0 for sooner, later in pairwise(means))
    for rows in (1, 700):
        by_requests = [cost.mean_s(rows, requests) for requests in range(1, 40)]
        by_neighbors = [cost.mean_s(rows, 2, others) for others in range(20)]
        assert by_requests == sorted(by_requests)
        assert by_neighbors == sorted(by_neighbors)
        assert cost.predict(rows).p99_s >= cost.predict(rows).mean_s


@given(costs(), st.floats(1e-5, 1.0))
def test_rows_within_are_the_most_that_fit_when_asked_for_a_time(cost: CostModel, seconds: float) -> None:
    rows = cost.rows_within(seconds)
    assert rows == 0 or cost.mean_s(rows) <= seconds * (1 + 1e-9)
    if rows < 1 << 40:
        assert cost.mean_s(rows + 1) >= seconds * (1 - 1e-9) or rows == 0


def _serve(cost: CostModel, truth: CostModel, batches: int, factor: float = 1.0, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    for _ in range(batches):
        rows, requests = int(random.integers(1, 2000)), int(random.integers(1, 5))
        seconds = factor * truth.mean_s(rows, requests) * float(random.lognormal(0.0, 0.05))
        cost.observe(rows, requests, 0, seconds)


def test_mean_follows_when_times_double_and_when_they_return() -> None:
    cost, truth = big(), big()
    for factor in (2.0, 1.0):
        _serve(cost, truth, 200, factor)
        for rows in (50, 300, 1500):
            assert cost.mean_s(rows) == pytest.approx(factor * truth.mean_s(rows), rel=0.08)


def test_mean_hardly_moves_when_one_batch_takes_ten_times_as_long() -> None:
    cost, truth = big(), big()
    _serve(cost, truth, 300)
    before = cost.mean_s(300)
    cost.observe(300, 1, 0, 10 * truth.mean_s(300))
    assert cost.mean_s(300) == pytest.approx(before, rel=0.05)


def test_curve_bends_when_only_large_batches_are_slower_than_the_profile() -> None:
    cost, truth = big(), CostModel([(1, 0.0006), (64, 0.0019), (512, 0.0108), (2048, 0.083)])
    random = np.random.default_rng(1)
    for _ in range(1500):
        rows = int(random.choice([1, 40, 64, 300, 512, 1800, 2048]))
        cost.observe(rows, 1, 0, truth.mean_s(rows))
    for rows in (64, 512, 2048):
        assert cost.mean_s(rows) == pytest.approx(truth.mean_s(rows), rel=0.12)


def test_p99_covers_99_of_100_batches_when_noise_is_steady() -> None:
    cost, truth = big(), big()
    random = np.random.default_rng(2)
    over = 0
    for batch in range(6000):
        seconds = truth.mean_s(400) * float(random.lognormal(0.0, 0.1))
        over += batch >= 2000 and seconds > cost.predict(400).p99_s
        cost.observe(400, 1, 0, seconds)
    assert 0.002 <= over / 4000 <= 0.02


def test_term_per_request_is_learned_when_floods_cost_more_than_guessed() -> None:
    cost = CostModel([(1, 0.0006), (512, 0.0108)], per_request_s=5e-6)
    truth = CostModel([(1, 0.0006), (512, 0.0108)], per_request_s=50e-6)
    random = np.random.default_rng(3)
    for _ in range(4000):
        requests = int(random.choice([1, 1, 64]))
        cost.observe(512, requests, 0, truth.mean_s(512, requests))
    assert cost.mean_s(512, 64) == pytest.approx(truth.mean_s(512, 64), rel=0.1)


def test_factor_of_co_running_is_learned_when_neighbors_slow_down() -> None:
    cost, truth = big(), big()
    for at in range(600):
        others = at % 2
        cost.observe(300, 1, others, truth.mean_s(300) * (1.5 if others else 1.0))
    assert cost.mean_s(300) == pytest.approx(truth.mean_s(300), rel=0.08)
    assert cost.mean_s(300, 1, 1) == pytest.approx(1.5 * truth.mean_s(300), rel=0.08)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_observation_is_ignored_when_it_is_no_time(seconds: float) -> None:
    cost = big()
    cost.observe(100, 1, 0, seconds)
    assert cost.observed == 0


@given(st.lists(st.floats(-100, 100), max_size=30))
def test_non_decreasing_is_monotone_keeps_the_sum_and_what_fits_when_values_are_any(values: list[float]) -> None:
    fitted = non_decreasing(values)
    assert all(later >= sooner - 1e-9 for sooner, later in pairwise(fitted))
    assert math.fsum(fitted) == pytest.approx(math.fsum(values), abs=1e-6)
    assert non_decreasing(sorted(values)) == sorted(values)
