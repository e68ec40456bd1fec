"""Metrics within groups against loops, against scikit-learn, and their errors by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from rankine.errors import DataError
from rankine.grouped import paired_group_auc, paired_ndcg, top_overlap


def lists(rows: int, groups: int, seed: int, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, two scores with ties, and group ids out of order."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=rows)
    labels = rng.random(rows) < 1 / (1 + np.exp(-signal))
    a, b = (np.round(signal + rng.normal(size=rows), digits) for _ in range(2))
    return labels, a, b, rng.integers(0, groups, rows)


def test_group_auc_equals_a_loop_over_groups_when_scores_are_tied() -> None:
    labels, a, b, groups = lists(600, 60, 1)
    aucs, weights = [], []
    for group in np.unique(groups):
        mine = groups == group
        if 0 < labels[mine].sum() < mine.sum():
            aucs.append([roc_auc_score(labels[mine], scores[mine]) for scores in (a, b)])
            weights.append(mine.sum())
    expected = np.average(aucs, axis=0, weights=weights)
    found = paired_group_auc(labels, a, b, groups)
    assert (found.mean_a, found.mean_b) == pytest.approx(tuple(expected), abs=1e-12)
    assert found.delta == pytest.approx(expected[1] - expected[0], abs=1e-12)
    assert found.groups == len(weights)


def test_ndcg_equals_scikit_learn_when_scores_are_tied() -> None:
    labels, a, b, groups = lists(800, 40, 2)
    expected = []
    for group in np.unique(groups):
        mine = groups == group
        if 0 < labels[mine].sum() < mine.sum():
            expected.append([ndcg_score([labels[mine].astype(int)], [scores[mine]], k=10) for scores in (a, b)])
    found = paired_ndcg(labels, a, b, groups)
    assert (found.mean_a, found.mean_b) == pytest.approx(tuple(np.mean(expected, axis=0)), abs=1e-12)


def test_metrics_are_those_of_chance_when_scores_are_constant() -> None:
    labels, a, _, groups = lists(800, 40, 3)
    constant = np.zeros(800)
    assert paired_group_auc(labels, a, constant, groups).mean_b == pytest.approx(0.5)
    rng = np.random.default_rng(4)
    shuffled = [paired_ndcg(labels, a, rng.normal(size=800), groups).mean_b for _ in range(200)]
    assert paired_ndcg(labels, a, constant, groups).mean_b == pytest.approx(np.mean(shuffled), abs=0.005)


def test_nothing_changes_when_one_model_is_a_monotone_map_of_the_other() -> None:
    labels, a, _, groups = lists(500, 30, 5)
    items = np.arange(500) % 17
    for metric in (paired_group_auc, paired_ndcg):
        found = metric(labels, a, 3 * a + 1, groups, [items])
        assert (found.delta, found.se) == (0.0, 0.0)


def test_groups_of_one_class_are_left_out_when_present() -> None:
    labels, a, b, groups = lists(400, 20, 6)
    more = np.concatenate
    with_one_class = (more([labels, [True] * 5]), more([a, np.arange(5.0)]), more([b, -np.arange(5.0)]))
    ids = more([groups, [99] * 5])
    for metric in (paired_group_auc, paired_ndcg):
        assert metric(*with_one_class, ids) == metric(labels, a, b, groups)


def test_result_is_empty_when_no_group_has_both_classes() -> None:
    labels = np.array([True, True, False, False])
    for metric in (paired_group_auc, paired_ndcg):
        found = metric(labels, np.arange(4.0), np.arange(4.0), [0, 0, 1, 1])
        assert (found.groups, found.delta, found.se) == (0, 0.0, 0.0)


def test_standard_error_is_zero_and_said_to_be_none_when_there_is_one_group() -> None:
    labels, a, b, _ = lists(100, 1, 7)
    found = paired_group_auc(labels, a, b, np.zeros(100, dtype=int))
    assert (found.groups, found.se, found.method) == (1, 0.0, "none: one group")


def test_standard_error_is_that_of_the_mean_when_groups_are_of_one_size() -> None:
    rng = np.random.default_rng(8)
    groups = np.repeat(np.arange(50), 8)
    labels = np.tile([True, False], 200)
    a, b = rng.normal(size=400), rng.normal(size=400)
    aucs = [
        [roc_auc_score(labels[groups == group], scores[groups == group]) for scores in (a, b)] for group in range(50)
    ]
    expected = np.diff(aucs, axis=1).std(ddof=1) / math.sqrt(50)
    assert paired_group_auc(labels, a, b, groups).se == pytest.approx(expected)


def test_errors_agree_with_the_spread_only_when_items_are_given() -> None:
    """A variant that is wrong by item is wrong in every list: 150 data sets of 80 users and 30 items."""
    found: dict[str, list[tuple[float, float, float]]] = {"auc": [], "ndcg": []}
    for run in range(150):
        rng = np.random.default_rng([9, run])
        users, items = (ids.ravel() for ids in np.indices((80, 30)))
        signal = rng.normal(size=len(users))
        labels = rng.random(len(users)) < 1 / (1 + np.exp(-signal))
        b = signal + 0.8 * rng.normal(size=30)[items]
        for name, metric in (("auc", paired_group_auc), ("ndcg", paired_ndcg)):
            crossed, alone = metric(labels, signal, b, users, [items]), metric(labels, signal, b, users)
            found[name].append((crossed.delta, crossed.se, alone.se))
    for values in found.values():
        deltas, crossed_se, alone_se = np.array(values).T
        assert np.sqrt(np.square(crossed_se).mean()) == pytest.approx(deltas.std(), rel=0.15)
        assert np.sqrt(np.square(alone_se).mean()) < 0.85 * deltas.std()


def test_overlap_is_of_the_ten_best_when_groups_are_larger() -> None:
    groups = np.repeat([0, 1, 2], [20, 20, 10])
    a = np.arange(50.0)
    b = a.copy()
    b[[15, 16]] = -1.0  # two of group 0's best fall out
    assert top_overlap(a, b, groups) == pytest.approx((0.8 + 1.0) / 2)
    assert top_overlap(a, a, groups) == 1.0
    assert top_overlap(np.zeros(50), np.zeros(50), groups) == 1.0
    assert top_overlap(a, b, np.arange(50)) is None


def test_groups_are_refused_and_named_when_malformed() -> None:
    labels, a, b, groups = lists(50, 5, 10)
    for ids in (groups[:-1], np.where(groups == 0, np.nan, groups)):
        with pytest.raises(DataError) as refused:
            paired_group_auc(labels, a, b, ids)
        assert refused.value.where == "groups"
