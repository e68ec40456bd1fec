"""Paired statistics against direct double loops, against known facts, and by simulation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rankine.clusters import clustered_variance, two_way, variance_of_sums
from rankine.errors import DataError, UsageError
from rankine.metrics import auc, sigmoid
from rankine.stats import (
    lower_bound,
    median_spread,
    minimum_detectable,
    p_value_below,
    paired_delong,
    percentile,
    percentiles,
    power_at_zero,
    upper_bound,
)


def tied_scores(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, two scores with ties, and user and item ids."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=rows)
    labels = (rng.random(rows) < sigmoid(signal)).astype(int)
    a, b = (np.round(signal + rng.normal(size=rows), 1) for _ in range(2))
    return labels, a, b, rng.integers(0, 11, rows), rng.integers(0, 7, rows)


def kernel_influence(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The influence of each row on the AUC difference, from all pairs of a positive and a negative row."""

    def kernel(scores: np.ndarray) -> np.ndarray:
        above = scores[labels == 1][:, None] - scores[labels == 0][None, :]
        return np.where(above > 0, 1.0, np.where(above == 0, 0.5, 0.0))

    difference = kernel(b) - kernel(a)
    influence = np.zeros(len(labels))
    influence[labels == 1] = (difference.mean(axis=1) - difference.mean()) / difference.shape[0]
    influence[labels == 0] = (difference.mean(axis=0) - difference.mean()) / difference.shape[1]
    return influence


def double_loop_variance(influence: np.ndarray, ids: Sequence[object]) -> float:
    """The jackknife's: over all pairs of rows of one cluster, each raised by its cluster's share, times (G-1)/G."""
    count, sizes = len(set(ids)), Counter(ids)
    raised = [value / (1 - sizes[one] / len(ids)) for value, one in zip(influence.tolist(), ids, strict=True)]
    total = sum(raised[i] * raised[j] for i in range(len(ids)) for j in range(len(ids)) if ids[i] == ids[j])
    return float(total) * (count - 1) / count


def test_delong_equals_covariance_of_placements_when_rows_are_independent() -> None:
    labels, a, b, _, _ = tied_scores(300, 1)
    placements = []
    for scores in (a, b):
        above = scores[labels == 1][:, None] - scores[labels == 0][None, :]
        kernel = (above > 0) + 0.5 * (above == 0)
        placements.append((kernel.mean(axis=1), kernel.mean(axis=0)))
    # DeLong's own form: the contrast (-1, 1) on S10/m + S01/n, covariances with n-1 in the denominator.
    s10 = np.cov([placements[0][0], placements[1][0]])
    s01 = np.cov([placements[0][1], placements[1][1]])
    contrast = np.array([-1.0, 1.0])
    variance = contrast @ (s10 / (labels == 1).sum() + s01 / (labels == 0).sum()) @ contrast
    found = paired_delong(labels, a, b)
    assert found.se == pytest.approx(math.sqrt(variance), rel=1e-10)
    assert found.auc_a == pytest.approx(roc_auc_score(labels, a), abs=1e-12)
    assert found.auc_b == pytest.approx(roc_auc_score(labels, b), abs=1e-12)
    assert found.delta == pytest.approx(found.auc_b - found.auc_a, abs=1e-15)
    assert (found.method, found.clusters) == ("row-wise", ())


def test_delong_equals_double_loop_when_rows_are_clustered_one_way() -> None:
    labels, a, b, users, _ = tied_scores(150, 2)
    found = paired_delong(labels, a, b, [users])
    expected = double_loop_variance(kernel_influence(labels, a, b), users.tolist())
    assert found.se == pytest.approx(math.sqrt(expected), rel=1e-10)
    assert (found.method, found.clusters) == ("clustered", (11,))


def test_delong_equals_double_loop_when_rows_are_clustered_two_way() -> None:
    labels, a, b, users, items = tied_scores(150, 4)
    influence = kernel_influence(labels, a, b)
    both = list(zip(users.tolist(), items.tolist(), strict=True))
    expected = (
        double_loop_variance(influence, users.tolist())
        + double_loop_variance(influence, items.tolist())
        - double_loop_variance(influence, both)
    )
    assert expected > 0
    found = paired_delong(labels, a, b, [users, items])
    assert found.se == pytest.approx(math.sqrt(expected), rel=1e-10)
    assert (found.method, found.clusters) == ("two-way clustered", (11, 7))


def test_delong_is_the_same_when_cluster_ids_are_strings() -> None:
    labels, a, b, users, items = tied_scores(150, 5)
    named = [f"user {user}" for user in users], [f"item {item}" for item in items]
    assert paired_delong(labels, a, b, named).se == pytest.approx(paired_delong(labels, a, b, [users, items]).se)


def test_variance_falls_back_to_the_larger_one_way_when_two_way_is_not_positive() -> None:
    # Within each user and each item the differences cancel, so both one-way variances are below the row-wise one.
    differences = np.array([1.0, -1.0, -1.0, 1.0, 0.5])
    users, items = [0, 0, 1, 1, 2], [0, 1, 0, 1, 2]
    influence = differences - differences.mean()
    found = clustered_variance(influence, [users, items], 0.0)
    one_way = [clustered_variance(influence, [ids], 0.0).variance for ids in (users, items)]
    assert max(one_way) < float(np.square(influence).sum())
    assert (found.method, found.clusters) == ("larger of two one-way clustered", (3, 3))
    assert found.variance == max(one_way) > 0


def test_delong_standard_error_is_zero_when_ranks_are_identical() -> None:
    labels, a, _, users, items = tied_scores(200, 6)
    found = paired_delong(labels, a, 2 * a + 1, [users, items])
    assert (found.delta, found.se) == (0.0, 0.0)


def test_delong_changes_sign_only_when_models_are_swapped() -> None:
    labels, a, b, users, items = tied_scores(200, 7)
    forward, backward = paired_delong(labels, a, b, [users, items]), paired_delong(labels, b, a, [users, items])
    assert forward.delta == -backward.delta != 0
    assert forward.se == pytest.approx(backward.se, rel=1e-12)


def test_delong_agrees_with_a_bootstrap_of_users_when_rows_are_clustered() -> None:
    rng = np.random.default_rng(8)
    labels, a, b, users = clustered_comparison(rng, users=150, rows_per_user=10)
    rows_of = [np.flatnonzero(users == user) for user in range(150)]
    deltas = []
    for _ in range(300):
        rows = np.concatenate([rows_of[user] for user in rng.integers(0, 150, 150)])
        deltas.append(auc(labels[rows], b[rows]) - auc(labels[rows], a[rows]))
    assert paired_delong(labels, a, b, [users]).se == pytest.approx(np.std(deltas), rel=0.15)


def test_delong_answers_when_there_are_100_thousand_rows() -> None:
    rng = np.random.default_rng(9)
    signal = rng.normal(size=100_000)
    labels = rng.random(100_000) < sigmoid(signal)
    clusters = rng.integers(0, 6000, 100_000), rng.integers(0, 3700, 100_000)
    found = paired_delong(labels, signal, signal + 0.05 * rng.normal(size=100_000), clusters)
    assert found.clusters == (6000, 3700)
    assert -0.002 < found.delta < 0
    assert 1e-5 < found.se < 1e-3


def clustered_comparison(
    rng: np.random.Generator, users: int, rows_per_user: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two equally good models, each wrong in its own way about every user, whose rates of positives differ."""
    ids = np.repeat(np.arange(users), rows_per_user)
    taste, error_a, error_b = rng.normal(size=(3, users))
    signal = rng.normal(size=len(ids))
    labels = rng.random(len(ids)) < sigmoid(signal + taste[ids])
    return labels, signal + error_a[ids], signal + error_b[ids], ids


def share_of_missed_bounds(differences: np.ndarray, errors: np.ndarray) -> float:
    """How often a one-sided 95 % bound misses the true difference of zero, mean of both sides."""
    low, high = lower_bound(0.0, 1.0), upper_bound(0.0, 1.0)
    ratio = differences / errors
    return float(((ratio < low).mean() + (ratio > high).mean()) / 2)


def test_type_one_error_is_nominal_only_when_clusters_are_given() -> None:
    rng = np.random.default_rng(10)
    found = []
    for _ in range(600):
        labels, a, b, users = clustered_comparison(rng, users=100, rows_per_user=20)
        clustered = paired_delong(labels, a, b, [users])
        found.append((clustered.delta, paired_delong(labels, a, b).se, clustered.se))
    deltas, row_wise, clustered_se = np.array(found).T
    assert share_of_missed_bounds(deltas, row_wise) > 0.15
    assert 0.025 < share_of_missed_bounds(deltas, clustered_se) < 0.08


def test_type_one_error_is_nominal_only_when_both_dimensions_are_given() -> None:
    rng = np.random.default_rng(11)
    users, items = (ids.ravel() for ids in np.indices((60, 40)))
    found = []
    for _ in range(600):
        differences = rng.normal(size=60)[users] + rng.normal(size=40)[items] + rng.normal(size=len(users))
        influence = (differences - differences.mean()) / len(differences)
        errors = [math.sqrt(clustered_variance(influence, ids, 0.0).variance) for ids in ([users], [users, items])]
        found.append((differences.mean(), *errors))
    means, one_way_se, two_way_se = np.array(found).T
    assert share_of_missed_bounds(means, one_way_se) > 0.1
    assert 0.025 < share_of_missed_bounds(means, two_way_se) < 0.08


def test_variance_equals_that_of_the_mean_of_clusters_when_clusters_are_of_one_size() -> None:
    differences = np.array([1.0, 3.0, -1.0, 0.0, 2.0, 4.0])
    means = differences.reshape(3, 2).mean(axis=1)
    influence = (differences - differences.mean()) / 6
    found = clustered_variance(influence, [[0, 0, 1, 1, 2, 2]], 0.0)
    assert found.variance == pytest.approx(means.var(ddof=1) / 3)


def test_variance_is_that_of_leaving_clusters_out_when_clusters_differ_in_size() -> None:
    rng = np.random.default_rng(15)
    ids = np.repeat(np.arange(12), np.arange(1, 13))
    values = rng.normal(size=len(ids)) + rng.normal(size=12)[ids]
    left_out = np.array([values[ids != one].mean() for one in range(12)]) - values.mean()
    found = clustered_variance((values - values.mean()) / len(ids), [ids], 0.0)
    assert found.variance == pytest.approx(11 / 12 * np.square(left_out).sum())


def test_degrees_of_freedom_are_fewer_when_some_clusters_dominate() -> None:
    rng = np.random.default_rng(16)
    sums, shares = rng.normal(size=400), np.full(400, 1 / 400)
    even, uneven = variance_of_sums(sums, shares)[1], variance_of_sums(sums * np.exp(rng.normal(size=400)), shares)[1]
    assert 300 < even <= 399
    assert 5 < uneven < 150
    assert variance_of_sums(np.eye(400)[0], shares)[1] == pytest.approx(2, rel=0.01)
    assert variance_of_sums(np.where(np.arange(400) % 2, 1.0, -1.0), shares)[1] == 399


def test_two_way_freedom_lies_between_when_both_dimensions_count() -> None:
    assert two_way((1.0, 10.0), (1.0, 10.0), 0.0) == (2.0, pytest.approx(20.0))
    assert two_way((1.0, 10.0), (0.0, 5.0), 0.0) == (1.0, pytest.approx(10.0))
    assert two_way((1.0, 10.0), (1.0, 10.0), 2.0) is None


def test_p_value_is_the_level_when_the_bound_meets_the_threshold() -> None:
    assert p_value_below(0.3, 0.1, lower_bound(0.3, 0.1)) == pytest.approx(0.05)
    assert p_value_below(0.3, 0.1, 0.3) == pytest.approx(0.5)


def test_p_value_is_certain_when_there_is_no_error() -> None:
    assert (p_value_below(0.0, 0.0, -0.001), p_value_below(-0.001, 0.0, -0.001)) == (0.0, 1.0)


def test_bounds_leave_five_percent_outside_when_confidence_is_the_default() -> None:
    assert lower_bound(1.0, 2.0) == pytest.approx(1.0 - 2 * 1.6448536, abs=1e-6)
    assert upper_bound(1.0, 2.0) == pytest.approx(1.0 + 2 * 1.6448536, abs=1e-6)


def test_power_equals_the_target_when_the_margin_is_the_minimum_detectable() -> None:
    assert power_at_zero(0.0004, minimum_detectable(0.0004, power=0.8)) == pytest.approx(0.8)
    assert power_at_zero(0.0004, minimum_detectable(0.0004, power=0.95)) == pytest.approx(0.95)


def test_power_equals_the_share_of_passes_when_simulated() -> None:
    estimates = np.random.default_rng(14).normal(scale=0.0005, size=20_000)
    passes = np.mean([lower_bound(estimate, 0.0005) > -0.001 for estimate in estimates.tolist()])
    assert power_at_zero(0.0005, 0.001) == pytest.approx(passes, abs=0.01)


def test_power_is_one_when_there_is_no_error() -> None:
    assert power_at_zero(0.0, 0.001) == 1.0


def test_percentile_is_an_observed_value_when_ranks_fall_between() -> None:
    timings = [4.0, 1.0, 3.0, 2.0]
    assert [percentile(timings, percent) for percent in (0, 25, 50, 51, 99, 100)] == [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]


def test_percentiles_are_named_when_percents_are_fractions() -> None:
    assert percentiles(range(1, 1001), (50, 99, 99.9)) == {"p50": 500.0, "p99": 990.0, "p99.9": 999.0}


def test_median_spread_interpolates_when_count_is_even() -> None:
    found = median_spread([4.0, 1.0, 3.0, 2.0])
    assert (found.quartile_low, found.median, found.quartile_high, found.count) == (1.75, 2.5, 3.25, 4)


@pytest.mark.parametrize(
    ("clusters", "where"),
    [
        ([[0, 1, 2]], "clusters[0]"),
        ([[0, 1, 0, 1], [0, 0, 0, 0]], "clusters[1]"),
        ([[0.0, 1.0, float("nan"), 1.0]], "clusters[0]"),
        ([np.array(["u", None, "v", "w"], dtype=object)], "clusters[0]"),
    ],
)
def test_delong_refuses_and_names_the_dimension_when_clusters_are_malformed(
    clusters: Sequence[np.ndarray], where: str
) -> None:
    with pytest.raises(DataError) as refused:
        paired_delong([0, 1, 0, 1], [0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 2.0, 3.0], clusters)
    assert refused.value.where == where


def test_delong_refuses_when_there_are_three_cluster_dimensions() -> None:
    with pytest.raises(UsageError, match="dimensions"):
        paired_delong([0, 1, 0, 1], [0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 2.0, 3.0], [[0, 1, 0, 1]] * 3)


def test_delong_refuses_when_a_class_has_one_row() -> None:
    with pytest.raises(DataError, match="two rows of each class"):
        paired_delong([0, 0, 1], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0])


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")]])
def test_summaries_refuse_when_values_are_missing(bad: list[float]) -> None:
    for summary in (median_spread, lambda values: percentile(values, 50)):
        with pytest.raises(DataError):
            summary(bad)


def test_helpers_refuse_when_arguments_are_out_of_range() -> None:
    with pytest.raises(UsageError, match="percentage"):
        percentile([1.0], 101)
    with pytest.raises(UsageError, match="probability"):
        lower_bound(0.0, 1.0, confidence=1.0)
