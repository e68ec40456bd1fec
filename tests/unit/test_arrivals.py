"""The arrival process, and the distribution of the number of candidates."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.errors import UsageError
from rankine.observation.load.arrivals import schedule
from rankine.observation.load.candidates import parse_candidates, stratified


def test_gaps_are_exponential_when_arrivals_are_random() -> None:
    due = schedule(200, 100, seed=3)
    gaps = np.sort(np.diff(due))
    observed = (np.arange(len(gaps)) + 0.5) / len(gaps)
    distance = np.abs(observed - (1 - np.exp(-200 * gaps))).max()
    # Kolmogorov-Smirnov: 1.63 / sqrt(n) is the 1 % critical value; gaps drawn in whole milliseconds are far above it.
    assert distance < 1.63 / np.sqrt(len(gaps))
    whole_ms = np.sort(np.random.default_rng(3).poisson(5, len(gaps)) / 1e3)
    assert np.abs(observed - (1 - np.exp(-200 * whole_ms))).max() > 10 * distance


def test_number_of_arrivals_has_poisson_spread_when_seeds_differ() -> None:
    counts = np.array([len(schedule(50, 2, seed=seed)) for seed in range(400)])
    assert counts.mean() == pytest.approx(100, abs=2)
    assert counts.var() == pytest.approx(100, rel=0.3)


def test_schedule_repeats_when_seed_is_the_same() -> None:
    assert np.array_equal(schedule(10, 5, seed=1), schedule(10, 5, seed=1))
    assert not np.array_equal(schedule(10, 5, seed=1)[:10], schedule(10, 5, seed=2)[:10])


def test_schedule_stays_in_order_and_in_time_when_drawn() -> None:
    due = schedule(1000, 3, seed=0)
    assert (np.diff(due) >= 0).all()
    assert due[0] >= 0
    assert due[-1] < 3


def test_gaps_are_equal_when_arrivals_are_fixed() -> None:
    assert schedule(4, 1, seed=0, arrivals="fixed").tolist() == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("rate_rps", [0, -1, float("nan"), float("inf")])
def test_schedule_is_refused_when_rate_is_not_positive(rate_rps: float) -> None:
    with pytest.raises(UsageError, match="rate_rps"):
        schedule(rate_rps, 1, seed=0)


def test_pool_has_mean_of_mlperf_when_stratified() -> None:
    counts = stratified(parse_candidates("mlperf"), 240, seed=0)
    assert counts.mean() == 270
    assert (counts == 200).mean() == 0.6
    assert sorted(set(counts.tolist())) == [100, 200, 300, 400, 500, 600, 700]


def test_pool_has_median_and_sigma_when_log_normal() -> None:
    candidates = parse_candidates("lognormal:200:0.8")
    counts = stratified(candidates, 2000, seed=0)
    assert np.median(counts) == pytest.approx(200, rel=0.01)
    assert np.log(counts).std() == pytest.approx(0.8, rel=0.02)
    assert counts.max() <= candidates.largest == 3200


def test_counts_are_cut_when_log_normal_has_maximum() -> None:
    counts = stratified(parse_candidates("LogNormal:200:2:256"), 500, seed=0)
    assert counts.max() == 256
    assert counts.min() >= 1


def test_order_depends_on_seed_when_pool_is_the_same() -> None:
    first, second = (stratified(parse_candidates("mlperf"), 240, seed=seed) for seed in (0, 1))
    assert first.tolist() != second.tolist()
    assert sorted(first.tolist()) == sorted(second.tolist())


def test_every_request_is_equal_when_count_is_fixed() -> None:
    assert set(stratified(parse_candidates(" 512 "), 20, seed=0).tolist()) == {512}


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "1.5", "nan", "inf", "uniform:1:2", "lognormal:200", "lognormal:x:1", "lognormal:200:1:100"]
)
def test_distribution_is_refused_when_text_is_no_known_form(text: str) -> None:
    with pytest.raises(UsageError, match="mlperf"):
        parse_candidates(text)
