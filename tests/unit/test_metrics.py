"""Metrics against brute force, scikit-learn and their invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from sklearn import metrics as oracle

from rankine.errors import DataError
from rankine.metrics import auc, calibration_ratio, log_loss, midranks, normalized_entropy, row_log_loss, sigmoid

Rows = list[tuple[bool, int]]

# Small integers: many ties, and increasing maps of them stay exact in floating point.
rows_of_both_classes = st.lists(st.tuples(st.booleans(), st.integers(-20, 20)), min_size=2, max_size=60).filter(
    lambda rows: 0 < sum(label for label, _ in rows) < len(rows)
)


def brute_force_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    above = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def split(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    return np.array([label for label, _ in rows], dtype=int), np.array([score for _, score in rows], dtype=float)


@given(rows=rows_of_both_classes)
def test_auc_equals_brute_force_when_scores_are_tied(rows: Rows) -> None:
    labels, scores = split(rows)
    assert auc(labels, scores) == pytest.approx(brute_force_auc(labels, scores), abs=1e-12)


@given(rows=rows_of_both_classes)
def test_auc_is_unchanged_when_scores_are_mapped_increasingly(rows: Rows) -> None:
    labels, scores = split(rows)
    assert auc(labels, scores) == auc(labels, scores**3 + 2 * scores - 5)


@given(rows=rows_of_both_classes)
def test_auc_is_mirrored_when_scores_or_labels_are_reversed(rows: Rows) -> None:
    labels, scores = split(rows)
    assert auc(labels, -scores) == pytest.approx(1 - auc(labels, scores), abs=1e-12)
    assert auc(1 - labels, scores) == pytest.approx(1 - auc(labels, scores), abs=1e-12)


@settings(max_examples=50)
@given(rows=rows_of_both_classes, seed=st.integers(0, 2**32 - 1))
def test_auc_is_unchanged_when_rows_are_shuffled(rows: Rows, seed: int) -> None:
    labels, scores = split(rows)
    order = np.random.default_rng(seed).permutation(len(labels))
    assert auc(labels[order], scores[order]) == auc(labels, scores)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 1], [0.0, 1.0], 1.0),
        ([0, 1], [1.0, 0.0], 0.0),
        ([0, 1], [2.0, 2.0], 0.5),
        ([1, 0, 1], [0.0, -0.0, 1.0], 0.75),
    ],
)
def test_auc_is_exact_when_worked_by_hand(labels: list[int], scores: list[float], expected: float) -> None:
    assert auc(labels, scores) == expected


def test_metrics_equal_scikit_learn_when_scores_are_rounded() -> None:
    rng = np.random.default_rng(3)
    logits = np.round(rng.normal(size=5000), 1)
    labels = rng.random(5000) < sigmoid(logits)
    assert auc(labels, logits) == pytest.approx(oracle.roc_auc_score(labels, logits), abs=1e-12)
    assert log_loss(labels, logits) == pytest.approx(oracle.log_loss(labels, sigmoid(logits)), abs=1e-12)


def test_midranks_share_their_mean_when_values_are_tied() -> None:
    assert midranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    assert midranks(np.array([])).tolist() == []


def test_log_loss_is_linear_when_logits_are_extreme() -> None:
    assert row_log_loss([1, 0, 1, 0], [800.0, -800.0, -800.0, 800.0]).tolist() == [0.0, 0.0, 800.0, 800.0]


def test_sigmoid_is_exact_when_logits_are_extreme() -> None:
    assert sigmoid([-1e4, 0.0, 1e4]).tolist() == [0.0, 0.5, 1.0]
    assert sigmoid(-40.0) == pytest.approx(math.exp(-40.0), rel=1e-12)


def test_normalized_entropy_is_one_when_the_base_rate_is_predicted() -> None:
    labels = np.array([1, 0, 0, 0])
    base_rate_logit = np.full(4, math.log(0.25 / 0.75))
    assert normalized_entropy(labels, base_rate_logit) == pytest.approx(1.0, abs=1e-12)
    assert normalized_entropy(labels, base_rate_logit + 1.0) > 1.0
    assert normalized_entropy(labels, base_rate_logit + 2.0 * labels) < 1.0


def test_calibration_ratio_is_predicted_over_observed_when_both_are_known() -> None:
    assert calibration_ratio([1, 0, 0, 0], [0.0, 0.0, 0.0, 0.0]) == pytest.approx(2.0)


@pytest.mark.parametrize("metric", [auc, log_loss, normalized_entropy, calibration_ratio])
@pytest.mark.parametrize(
    ("labels", "logits", "named"),
    [
        ([0, 1, 1], [0.0, 1.0], "logits"),
        ([0, 1], [0.0, float("nan")], "logits[1]"),
        ([0, 1], [float("-inf"), 0.0], "logits[0]"),
        ([0, 1, 2], [0.0, 1.0, 2.0], "labels[2]"),
        ([0, float("nan")], [0.0, 1.0], "labels[1]"),
        ([], [], "labels"),
        ([[0, 1]], [[0.0, 1.0]], "labels"),
        ([0, 1], ["a", "b"], "logits"),
    ],
)
def test_metric_refuses_and_names_the_place_when_rows_are_malformed(
    metric: object, labels: ArrayLike, logits: ArrayLike, named: str
) -> None:
    assert callable(metric)
    with pytest.raises(DataError) as refused:
        metric(labels, logits)
    assert refused.value.where == named


@pytest.mark.parametrize("metric", [auc, normalized_entropy])
@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_metric_refuses_when_one_class_is_missing(metric: object, labels: list[int]) -> None:
    assert callable(metric)
    with pytest.raises(DataError, match="both classes"):
        metric(labels, [0.0, 1.0])


def test_calibration_ratio_refuses_when_there_are_no_positives() -> None:
    with pytest.raises(DataError, match="positive row"):
        calibration_ratio([0, 0], [0.0, 1.0])
