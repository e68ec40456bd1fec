"""The studentized bootstrap by cluster, against theory, a jackknife and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rankine.bootstrap import Bootstrapped, bootstrap_t, log_product, relative_fall
from rankine.errors import DataError, UsageError
from rankine.stats import lower_bound, upper_bound


def two_columns(rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    first = rng.gamma(4.0, 0.2, rows)
    return np.stack([first, first + rng.normal(scale=0.1, size=rows) + 0.02], axis=1)


def test_estimate_is_the_relative_fall_of_sums_when_rows_are_given() -> None:
    columns = two_columns(300, 1)
    found = bootstrap_t(columns, relative_fall())
    assert found.estimate == pytest.approx(1 - columns[:, 1].mean() / columns[:, 0].mean())


def test_standard_error_agrees_with_a_jackknife_when_rows_are_independent() -> None:
    columns = two_columns(400, 2)
    for statistic in (relative_fall(), log_product((-1.0, 1.0))):
        left_out = statistic.value(columns.sum(axis=0) - columns)
        jackknife = math.sqrt(399 / 400 * np.square(left_out - left_out.mean()).sum())
        assert bootstrap_t(columns, statistic).se == pytest.approx(jackknife, rel=0.01)


def test_bounds_are_close_to_normal_ones_when_clusters_are_many() -> None:
    found = bootstrap_t(two_columns(6000, 3), relative_fall(), [np.arange(6000) % 2000])
    assert found.lower() == pytest.approx(lower_bound(found.estimate, found.se), abs=0.1 * found.se)
    assert found.upper() == pytest.approx(upper_bound(found.estimate, found.se), abs=0.1 * found.se)


def test_bounds_are_wider_than_normal_ones_when_clusters_are_few() -> None:
    found = bootstrap_t(two_columns(600, 4), relative_fall(), [np.arange(600) % 8])
    assert found.upper() - found.lower() > 1.1 * 2 * 1.645 * found.se


def test_bounds_and_p_values_agree_when_a_threshold_is_at_the_bound() -> None:
    found = bootstrap_t(two_columns(500, 5), relative_fall(), resamples=999)
    low, high, step = found.lower(), found.upper(), 1e-9
    assert found.p_at_most(low - step) <= 0.05 < found.p_at_most(low + step)
    assert found.p_at_least(high + step) <= 0.05 < found.p_at_least(high - step)
    assert found.p_at_most(found.estimate - 1e3) == pytest.approx(1 / 1000)


def test_bounds_are_the_same_when_the_seed_is() -> None:
    columns = two_columns(300, 6)
    first, again, other = (bootstrap_t(columns, relative_fall(), seed=seed) for seed in (1, 1, 2))
    assert first.lower() == again.lower() != other.lower()


def test_standard_error_is_two_way_and_both_dimensions_are_drawn_when_clusters_cross() -> None:
    rng = np.random.default_rng(7)
    users, items = (ids.ravel() for ids in np.indices((60, 20)))
    columns = 1 + 0.05 * rng.normal(size=(1200, 2)) + 0.05 * rng.normal(size=(20, 2))[items]
    crossed, by_user = (bootstrap_t(columns, relative_fall(), ids) for ids in ([users, items], [users]))
    assert (crossed.method, crossed.clusters) == ("two-way clustered", (60, 20))
    assert crossed.se > 1.5 * by_user.se
    half = len(crossed.pivots) // 2
    assert (crossed.pivots[:half] <= by_user.pivots[:half]).all()
    assert (crossed.pivots[half:] >= by_user.pivots[half:]).all()
    assert (crossed.pivots != by_user.pivots).any()


def test_variance_is_zero_when_columns_are_identical() -> None:
    column = np.random.default_rng(8).gamma(2.0, size=200)
    found = bootstrap_t(np.stack([column, column], axis=1), relative_fall())
    assert (found.estimate, found.se, found.lower(), found.upper()) == (0.0, 0.0, 0.0, 0.0)
    assert (found.p_at_most(-0.001), found.p_at_most(0.0), found.p_at_least(0.001)) == (0.0, 1.0, 0.0)


def test_bounds_are_finite_and_wide_when_one_cluster_has_all_the_weight() -> None:
    columns = np.full((40, 2), 1e-9)
    columns[0] = (1000.0, 1001.0)
    found = bootstrap_t(columns, relative_fall(), [np.arange(40)])
    assert np.isfinite([found.lower(), found.upper()]).all()
    assert np.isfinite(found.pivots).all()


def test_blocks_of_whole_clusters_are_drawn_when_clusters_are_many() -> None:
    rows = 20_000
    columns = two_columns(rows, 9)
    found = bootstrap_t(columns, relative_fall(), [np.arange(rows)], resamples=199)
    alone = bootstrap_t(columns, relative_fall(), resamples=199)
    assert found.se == pytest.approx(alone.se, rel=1e-3)
    assert found.upper() == pytest.approx(alone.upper(), abs=0.2 * alone.se)


def test_bounds_miss_less_often_than_normal_ones_when_clusters_are_few_and_skewed() -> None:
    rng = np.random.default_rng(10)
    missed = {"studentized": 0, "normal": 0}
    runs, clusters = 400, 15
    ids = np.repeat(np.arange(clusters), 4)
    for run in range(runs):
        effects = rng.lognormal(sigma=0.5, size=clusters)[ids]
        columns = np.stack([np.ones(60), 1 + 0.1 * (effects - math.exp(0.125))], axis=1)
        found = bootstrap_t(columns, relative_fall(), [ids], resamples=399, seed=run)
        missed["studentized"] += found.lower() > 0
        missed["normal"] += lower_bound(found.estimate, found.se) > 0
    assert missed["normal"] / runs > 0.12
    assert missed["studentized"] / runs < 0.09


def test_bootstrap_refuses_when_resamples_or_clusters_are_too_few() -> None:
    columns = two_columns(50, 11)
    with pytest.raises(UsageError, match="resamples"):
        bootstrap_t(columns, relative_fall(), resamples=20)
    with pytest.raises(DataError, match="two clusters"):
        bootstrap_t(columns, relative_fall(), [np.zeros(50)])


@pytest.mark.parametrize("confidence", [0.0, 1.0, 1.5])
def test_bound_refuses_when_confidence_is_no_probability(confidence: float) -> None:
    found = Bootstrapped(0.0, 1.0, "", (), np.sort(np.random.default_rng(0).normal(size=99)))
    with pytest.raises(UsageError, match="confidence"):
        found.lower(confidence)
