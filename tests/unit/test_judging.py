"""The tests of a certificate's metrics: what each compares, and how they behave on hostile rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rankine.certification.judging import (
    PairedRows,
    judge,
    measure,
    measure_auc,
    measure_calibration,
    measure_entropy,
    measure_groups,
)
from rankine.certification.margins import Margins
from rankine.certification.metric_tests import MetricTest
from rankine.errors import UsageError
from rankine.metrics import calibration_ratio, normalized_entropy, sigmoid

ROWS = 6000
RESAMPLES = 399


def comparison(noise: float = 0.1, shift: float = 0.0, seed: int = 21) -> PairedRows:
    """A calibrated baseline and a variant of it: 200 users, 80 items."""
    rng = np.random.default_rng(seed)
    baseline = rng.normal(size=ROWS)
    positive = rng.random(ROWS) < sigmoid(baseline)
    variant = baseline + noise * rng.normal(size=ROWS) + shift
    users, items = rng.integers(0, 200, ROWS), rng.integers(0, 80, ROWS)
    return PairedRows(positive, baseline, variant, {"user": users, "item": items}, users)


def judged(rows: PairedRows, margin: float = 0.01) -> dict[str, MetricTest]:
    tests = judge(measure(rows, probabilities=True, resamples=RESAMPLES), Margins.of(margin))
    return {test.name: test for test in tests}


def test_all_metrics_pass_when_models_are_identical() -> None:
    found = judged(comparison(noise=0.0))
    assert list(found) == ["auc", "normalized_entropy", "calibration", "group_auc", "ndcg_at_10"]
    for test in found.values():
        assert (test.delta, test.se, test.ci_low, test.ci_high) == (0.0, 0.0, 0.0, 0.0)
        assert (test.verdict, test.p_value, test.power) == ("pass", 0.0, 1.0)


def test_differences_are_positive_when_the_variant_is_better() -> None:
    worse = comparison(noise=1.0, shift=0.3)
    better = PairedRows(worse.positive, worse.b, worse.a, worse.clusters, worse.groups)
    for metric, test in judged(worse).items():
        assert test.delta < 0 < judged(better)[metric].delta
        assert test.verdict == "fail"
        assert judged(better)[metric].verdict == "pass"


def test_entropy_is_the_relative_difference_when_worked_directly() -> None:
    rows = comparison(noise=0.5)
    entropies = [normalized_entropy(rows.positive, scores) for scores in (rows.a, rows.b)]
    found = measure_entropy(rows, resamples=RESAMPLES).at(0.003)
    assert (found.baseline, found.variant) == tuple(entropies)
    assert found.delta == pytest.approx((entropies[0] - entropies[1]) / entropies[0], abs=1e-9)
    assert found.method == "studentized bootstrap, two-way clustered by user and item"


def test_calibration_is_the_change_of_the_absolute_log_when_worked_directly() -> None:
    for shift in (-0.4, -0.02, 0.02, 0.4):
        rows = comparison(shift=shift)
        logs = [math.log(calibration_ratio(rows.positive, scores)) for scores in (rows.a, rows.b)]
        found = measure_calibration(rows, resamples=RESAMPLES).at(0.01)
        assert found.delta == pytest.approx(abs(logs[0]) - abs(logs[1]), abs=1e-8)
        assert found.ci_low <= found.delta <= found.ci_high


def test_calibration_passes_when_a_biased_baseline_is_corrected() -> None:
    rows = comparison(shift=0.4)
    corrected = PairedRows(rows.positive, rows.b, rows.a, rows.clusters)
    assert measure_calibration(rows, resamples=RESAMPLES).at(0.01).verdict == "fail"
    found = measure_calibration(corrected, resamples=RESAMPLES).at(0.01)
    assert (found.verdict, found.delta > 0.1) == ("pass", True)


def test_calibration_holds_its_level_when_the_baseline_is_at_the_kink() -> None:
    """True ratios 1 and 1 + margin: of 300 runs at most about 5 % may pass."""
    passed, runs, margin = 0, 300, 0.03
    for run in range(runs):
        rng = np.random.default_rng([5, run])
        users = np.repeat(np.arange(60), 20)
        rate = np.clip(0.5 + 0.1 * rng.normal(size=60)[users], 0.02, 0.9)
        positive = rng.random(len(users)) < rate
        first = np.log(rate / (1 - rate))
        second = np.clip(rate * np.exp(margin + 0.05 * rng.normal(size=60)[users]), 0.001, 0.999)
        rows = PairedRows(positive, first, np.log(second / (1 - second)), {"user": users})
        passed += measure_calibration(rows, resamples=199, seed=run).at(margin).verdict == "pass"
    assert passed / runs < 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_calibration_and_p_value_agree_when_judged_at_many_margins() -> None:
    measured = measure_calibration(comparison(shift=0.03), resamples=RESAMPLES)
    for margin in np.linspace(0.005, 0.08, 20).tolist():
        found = measured.at(margin)
        assert found.p_value is not None
        assert (found.p_value <= 0.05) == (found.verdict == "pass")


def test_auc_and_p_value_agree_when_judged_at_many_margins() -> None:
    measured = measure_auc(comparison(noise=0.5))
    for margin in np.linspace(0.001, 0.03, 20).tolist():
        found = measured.at(margin)
        assert found.p_value is not None
        assert (found.p_value <= 0.05) == (found.verdict == "pass")


def test_metric_is_reported_and_not_judged_when_its_margin_is_none() -> None:
    margins = Margins(auc=0.001, normalized_entropy=None, calibration=None, group_auc=None, ndcg_at_10=None)
    tests = judge(measure(comparison(noise=1.0), probabilities=True, resamples=RESAMPLES), margins)
    assert [test.judged for test in tests] == [True, False, False, False, False]
    assert all((test.verdict, test.p_value, test.power) == (None, None, None) for test in tests[1:])
    assert all(test.delta < 0 and not test.note for test in tests[1:])


def test_probability_metrics_are_absent_when_scores_are_no_logits() -> None:
    tests = judge(measure(comparison(), probabilities=False), Margins())
    assert [test.name for test in tests] == ["auc", "group_auc", "ndcg_at_10"]


def test_group_metrics_are_not_judged_and_say_why_when_groups_are_few() -> None:
    rows = comparison()
    few = PairedRows(rows.positive, rows.a, rows.b, rows.clusters, np.asarray(rows.groups) % 12)
    for test in judge(measure_groups(few), Margins()):
        assert (test.groups, test.verdict) == (12, None)
        assert test.note == "not judged: 12 groups with both classes (minimum 30)"
    assert judge(measure_groups(PairedRows(rows.positive, rows.a, rows.b, {})), Margins()) == []


def test_group_metrics_cross_items_only_when_they_are_not_the_groups() -> None:
    rows = comparison(noise=1.0)
    methods = {test.method for test in judge(measure_groups(rows), Margins())}
    assert methods <= {"two-way clustered by group and item", "clustered by group"}
    by_user = PairedRows(rows.positive, rows.a, rows.b, {"user": rows.groups}, rows.groups)
    assert {test.method for test in judge(measure_groups(by_user), Margins())} == {"clustered by group"}


@pytest.mark.parametrize("scale", [1e3, 1e30, 1e300])
def test_bounds_are_finite_when_logits_are_huge(scale: float) -> None:
    rows = comparison(noise=1.0)
    huge = PairedRows(rows.positive, rows.a, rows.b * scale, rows.clusters, rows.groups)
    found = judged(huge)
    assert all(np.isfinite([test.delta, test.se, test.ci_low, test.ci_high]).all() for test in found.values())
    assert found["normalized_entropy"].delta < -10
    assert found["normalized_entropy"].verdict != "pass"


def test_calibration_fails_when_all_predictions_underflow() -> None:
    rows = comparison()
    dead = PairedRows(rows.positive, rows.a, rows.a - 1000.0, rows.clusters)
    found = measure_calibration(dead, resamples=RESAMPLES).at(0.01)
    assert (found.variant, found.verdict) == (0.0, "fail")
    assert found.delta < -20


def test_entropy_is_comparable_when_the_baseline_is_never_wrong() -> None:
    rows = comparison()
    sure = np.where(rows.positive, 1e4, -1e4)
    equal = measure_entropy(PairedRows(rows.positive, sure, sure, rows.clusters), resamples=RESAMPLES).at(0.003)
    assert (equal.delta, equal.verdict) == (0.0, "pass")
    worse = measure_entropy(PairedRows(rows.positive, sure, rows.a, rows.clusters), resamples=RESAMPLES).at(0.003)
    assert worse.verdict == "fail"


def test_nothing_passes_when_a_variant_scores_all_rows_alike() -> None:
    rows = comparison()
    constant = PairedRows(rows.positive, rows.a, np.zeros(ROWS), rows.clusters, rows.groups)
    found = judged(constant)
    assert found["auc"].variant == 0.5
    assert found["group_auc"].variant == 0.5
    assert all(found[name].verdict == "fail" for name in ("auc", "normalized_entropy", "group_auc", "ndcg_at_10"))


def test_scores_with_ties_only_lose_what_ranking_loses_when_rounded() -> None:
    rows = comparison(noise=0.0)
    rounded = PairedRows(rows.positive, rows.a, np.round(rows.a, 1), rows.clusters, rows.groups)
    found = judged(rounded)
    assert all(test.verdict == "pass" for test in found.values())
    assert 0 < abs(found["auc"].delta) < 0.002


def test_verdict_is_not_a_pass_when_one_user_has_almost_all_rows() -> None:
    rows = comparison(noise=0.2)
    lone = np.where(np.arange(ROWS) < ROWS - 40, 0, np.arange(ROWS) - ROWS + 41)
    found = measure_entropy(PairedRows(rows.positive, rows.a, rows.b, {"user": lone}), resamples=RESAMPLES).at(0.003)
    assert np.isfinite([found.ci_low, found.ci_high]).all()
    assert found.verdict != "pass"


def test_margins_scale_with_that_of_auc_when_derived_from_it() -> None:
    margins = Margins.of(0.002)
    assert margins.model_dump() == pytest.approx(
        {"auc": 0.002, "normalized_entropy": 0.006, "calibration": 0.01, "group_auc": 0.006, "ndcg_at_10": 0.006}
    )
    assert Margins.of(0.001) == Margins()


def test_margins_name_only_what_decides_when_a_metric_has_none() -> None:
    margins = Margins(auc=0.002, normalized_entropy=None, group_auc=None)
    assert margins.judged == {"auc": 0.002, "calibration": 0.01, "ndcg_at_10": 0.003}


@pytest.mark.parametrize("margin", [0.0, -1.0, 1.1, float("nan")])
def test_margins_refuse_when_that_of_auc_is_out_of_range(margin: float) -> None:
    with pytest.raises(UsageError, match="margin"):
        Margins.of(margin)


def test_bounds_are_as_wide_as_few_rows_ask_for_when_only_those_differ() -> None:
    rng = np.random.default_rng(1)
    logits = 1.5 * rng.normal(size=400)
    positive = rng.random(400) < sigmoid(logits)
    ruined = np.where(np.arange(400) % 100 == 0, -logits - 3 * np.sign(logits), logits)
    found = measure_auc(PairedRows(positive, logits, ruined, {})).at(0.01)
    # Four rows say less of a variance than 400: with 399 degrees of freedom a loss at the margin passes twice as often.
    assert found.freedom is not None
    assert 1 <= found.freedom < 10
    alone = measure_auc(PairedRows(positive, logits, ruined, {"user": np.arange(400)})).at(0.01)
    assert found.freedom == pytest.approx(alone.freedom, rel=0.05), "rows are clusters of one"
    assert found.ci_low == pytest.approx(alone.ci_low, rel=0.02)
