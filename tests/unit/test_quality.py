"""Quality certificates: verdicts and what they rest on."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rankine.certification import Margins, QualityCertificate, certify_quality, verdict_of
from rankine.certification.judging import PairedRows, measure_auc, measure_calibration
from rankine.certification.metric_tests import MetricTest
from rankine.certification.reasons import reason_of
from rankine.certification.slices import Slice
from rankine.config import parse
from rankine.errors import ConfigError
from rankine.metrics import auc
from rankine.stats import paired_delong
from unit.held_out import ROWS, HeldOut


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return HeldOut()


def test_verdict_is_pass_when_scores_are_identical(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline)
    assert (found.verdict, found.passed) == ("pass", True)
    assert (found.delta, found.se, found.ci_low, found.power) == (0.0, 0.0, 0.0, 1.0)
    assert (found.score_difference_max, found.identical_score_share) == (0.0, 1.0)
    assert "AUC does not get worse" in found.reason


def test_verdict_is_pass_when_the_change_is_small_against_the_margin(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline + 0.01 * held_out.noise)
    assert found.verdict == "pass"
    assert -0.001 < found.ci_low < found.delta < found.ci_high
    assert found.power > 0.9


def test_reason_names_a_bound_that_holds_when_the_change_is_tiny(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline + 1e-5 * held_out.noise)
    assert -1e-5 < found.ci_low < 0
    assert "falls by less than 0.00001" in found.reason


def test_verdict_is_fail_when_the_variant_is_clearly_worse(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline + held_out.noise)
    assert (found.verdict, found.passed) == ("fail", False)
    assert found.ci_high < -0.001
    assert "falls by more than" in found.reason


def test_verdict_is_inconclusive_when_the_margin_lies_between_the_bounds(held_out: HeldOut) -> None:
    variant = held_out.baseline + 0.1 * held_out.noise
    found = held_out.certify(variant, margin=abs(held_out.certify(variant).delta))
    assert found.verdict == "inconclusive"
    assert found.ci_low < -found.margin < found.ci_high
    assert "both sides of the margin" in found.reason


@pytest.mark.parametrize(
    ("ci_low", "ci_high", "expected"),
    [
        (-0.0009, 0.002, "pass"),
        (-0.001, 0.002, "inconclusive"),
        (-0.0011, -0.0009, "inconclusive"),
        (-0.003, -0.001, "inconclusive"),
        (-0.003, -0.0011, "fail"),
    ],
)
def test_verdict_is_strict_when_a_bound_meets_the_margin(ci_low: float, ci_high: float, expected: str) -> None:
    assert verdict_of(ci_low, ci_high, 0.001) == expected


def test_certificate_records_the_paired_statistics_when_clusters_are_given(held_out: HeldOut) -> None:
    variant = held_out.baseline + 0.1 * held_out.noise
    found = held_out.certify(variant)
    dimensions = tuple(held_out.clusters.values())
    paired = paired_delong(held_out.labels, held_out.baseline, variant, dimensions)
    assert (found.delta, found.se) == (paired.delta, paired.se)
    assert found.baseline_value == pytest.approx(auc(held_out.labels, held_out.baseline), abs=1e-12)
    assert found.variant_value == pytest.approx(auc(held_out.labels, variant), abs=1e-12)
    assert found.clusters == {"user": 200, "item": 80}
    assert found.auc.method == "paired DeLong, two-way clustered by user and item"
    assert found.rows == found.positives + found.negatives == ROWS
    assert found.positives == int(held_out.labels.sum())
    assert found.score_difference_max == pytest.approx(float(np.abs(0.1 * held_out.noise).max()))


def test_method_is_row_wise_when_there_are_no_clusters(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline + 0.1 * held_out.noise, clusters={})
    assert (found.auc.method, found.clusters) == ("paired DeLong, row-wise", {})


def test_verdict_is_inconclusive_when_there_are_too_few_positives(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline, minimum_positives=ROWS)
    assert found.verdict == "inconclusive"
    assert found.reason == f"Too little data for a verdict: {found.positives} positive rows (minimum {ROWS})."


def test_verdict_is_inconclusive_when_there_are_too_few_clusters(held_out: HeldOut) -> None:
    few = {"user": held_out.clusters["user"] % 29}
    found = held_out.certify(held_out.baseline, clusters=few)
    assert found.verdict == "inconclusive"
    assert "29 clusters by user (minimum 30)" in found.reason
    assert held_out.certify(held_out.baseline, clusters={"user": held_out.clusters["user"] % 30}).passed


def test_bounds_are_trivial_when_there_is_one_cluster(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline + held_out.noise, clusters={"user": np.zeros(ROWS, dtype=int)})
    assert found.verdict == "inconclusive"
    assert (found.ci_low, found.ci_high, found.se) == (-1.0, 1.0, 1.0)
    assert QualityCertificate.model_validate_json(found.model_dump_json()) == found


def test_verdict_is_fail_when_ranking_is_kept_and_probabilities_are_not(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline + 0.5)
    assert (found.delta, found.auc.verdict) == (0.0, "pass")
    assert found.verdict == "fail"
    assert {test.name: test.verdict for test in found.judged}["calibration"] == "fail"
    calibration = found.metric_test("calibration")
    assert calibration is not None
    assert calibration.variant == pytest.approx(1.2, abs=0.05)


def test_p_value_is_the_largest_when_metrics_are_several(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline + 0.1 * held_out.noise)
    assert found.p_value == max(test.p_value or 0.0 for test in found.judged) > 0
    assert held_out.certify(held_out.baseline, minimum_positives=ROWS).p_value == 1.0


def test_nothing_is_refuted_when_a_figure_is_missing(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline)
    blind = found.auc.model_copy(update={"p_value": None, "margin": None})
    without = found.model_copy(update={"metrics": (blind, *found.metrics[1:])})
    assert (found.p_value, without.margin) == (0.0, np.inf)
    metrics = (*found.metrics[:-1], found.metrics[-1].model_copy(update={"p_value": None}))
    assert found.model_copy(update={"metrics": metrics}).p_value == 1.0


def test_smallest_margin_is_where_the_verdict_changes_when_judged_again(held_out: HeldOut) -> None:
    variant = held_out.baseline + 0.05 * held_out.noise
    least = held_out.certify(variant, margin=0.01).smallest_margin
    assert least is not None
    assert least > 0
    assert held_out.certify(variant, margin=1.001 * least).passed
    assert not held_out.certify(variant, margin=0.999 * least).passed
    assert held_out.certify(held_out.baseline).smallest_margin == 0.0


def test_smallest_margin_is_none_when_no_margin_of_auc_can_help(held_out: HeldOut) -> None:
    assert held_out.certify(held_out.baseline + 0.5).smallest_margin is None
    assert held_out.certify(held_out.baseline, minimum_positives=ROWS).smallest_margin is None


def test_harmed_slice_fails_the_certificate_only_when_asked_for(held_out: HeldOut) -> None:
    few = np.arange(ROWS) < 500
    variant = held_out.baseline + 3 * held_out.noise * few
    found_at = [
        certify_quality(
            held_out.labels,
            held_out.baseline,
            variant,
            margin=Margins(auc=margin, normalized_entropy=None, calibration=None),
            clusters=held_out.clusters,
            slices=[Slice("early", few), Slice("late", ~few)],
            fail_on_harm=fail,
            variant="v",
            engine="e",
            provenance={},
        )
        for margin, fail in ((0.05, False), (0.05, True), (0.2, True))
    ]
    *both, larger = found_at
    assert [found.verdict for found in found_at] == ["pass", "fail", "pass"]
    assert larger.smallest_margin is None  # it passes here, and fails at 0.05, where its bound would let it pass
    assert [test.name for test in both[1].harmed] == ["early"]
    assert both[1].reason == "The variant harms early: AUC falls there by more than the margin of 0.05."
    assert both[1].smallest_margin is None
    values = both[1].model_dump(mode="json")
    with pytest.raises(ConfigError, match="does not follow"):
        parse(QualityCertificate, values | {"verdict": "pass"})


def test_metrics_within_groups_are_judged_when_groups_are_given(held_out: HeldOut) -> None:
    found = certify_quality(
        held_out.labels,
        held_out.baseline,
        held_out.baseline + 0.05 * held_out.noise,
        margin=0.01,
        clusters=held_out.clusters,
        groups=held_out.clusters["user"],
        variant="v",
        engine="e",
        provenance={},
        split_uses=3,
        seed=5,
        resamples=500,
    )
    assert [test.name for test in found.judged][3:] == ["group_auc", "ndcg_at_10"]
    assert found.metrics[3].groups == 200
    assert found.top_10_overlap is not None
    assert 0.8 < found.top_10_overlap < 1.0
    assert (found.split_uses, found.seed, found.resamples) == (3, 5, 500)
    assert parse(QualityCertificate, found.model_dump(mode="json")) == found


def test_entropy_and_calibration_are_absent_when_the_link_is_the_identity(held_out: HeldOut) -> None:
    found = certify_quality(
        held_out.labels,
        held_out.baseline,
        held_out.baseline + 0.5,
        clusters=held_out.clusters,
        variant="v",
        engine="e",
        link="identity",
        provenance={},
    )
    assert [test.name for test in found.metrics] == ["auc"]
    assert found.passed


def test_certificate_is_made_when_there_is_one_group_and_one_cluster(held_out: HeldOut) -> None:
    one = np.zeros(ROWS, dtype=int)
    found = certify_quality(
        held_out.labels,
        held_out.baseline,
        held_out.baseline,
        clusters={"user": one},
        groups=one,
        slices=[Slice("early", np.arange(ROWS) < 100)],
        variant="v",
        engine="e",
        provenance={},
    )
    assert (found.verdict, [test.name for test in found.metrics]) == ("inconclusive", ["auc"])
    assert found.top_10_overlap == 1.0
    assert found.slices == ()


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_verdict_is_inconclusive_when_the_sample_is_tiny(rows: int) -> None:
    labels = np.arange(rows) % 2
    found = certify_quality(
        labels,
        np.arange(rows) * 1.0,
        -np.arange(rows) * 1.0,
        clusters={"user": np.arange(rows)},
        groups=np.arange(rows) // 2,
        variant="v",
        engine="e",
        provenance={},
    )
    assert found.verdict == "inconclusive"
    assert len(found.shortfalls) == 3
    assert parse(QualityCertificate, found.model_dump(mode="json")) == found


def test_margin_that_the_reason_names_is_shown_with_the_power_it_says_when_rows_cannot_tell(
    held_out: HeldOut,
) -> None:
    few = {"user": held_out.clusters["user"] % 30}
    found = held_out.certify(held_out.baseline + 0.1 * held_out.noise, margin=1e-6, clusters=few)
    shown = re.findall(r"bounds of (.+?), .+?show a margin of ([0-9.]+) ", found.reason)
    named = {name: float(value) for name, value in shown}
    assert named.keys() == {"AUC", "normalized entropy"}
    rows = PairedRows(held_out.labels == 1, held_out.baseline, held_out.baseline + 0.1 * held_out.noise, few)
    assert measure_auc(rows).at(named["AUC"]).power == pytest.approx(0.8, abs=0.02), "by Student's t, as the test is"
    # Calibration is tested at half the level, twice.
    narrow = Margins(calibration=0.001, normalized_entropy=None, auc=0.1)
    [(_, margin)] = re.findall(
        r"bounds of (calibration), .+?show a margin of ([0-9.]+) ",
        held_out.certify(held_out.baseline + 0.1 * held_out.noise, margin=narrow, clusters=few).reason,
    )
    assert measure_calibration(rows).at(float(margin)).power == pytest.approx(0.8, abs=0.01)


def test_bounds_in_a_reason_still_hold_when_they_are_rounded() -> None:
    def test(ci_low: float, ci_high: float) -> MetricTest:
        verdict = verdict_of(ci_low, ci_high, 0.001)
        return MetricTest(
            name="auc", baseline=0.8, variant=0.8, delta=0.0, se=0.001, ci_low=ci_low, ci_high=ci_high, margin=0.001,
            verdict=verdict, p_value=0.5, power=0.5, method="by hand",
        )  # fmt: skip

    assert "by more than 0.00123," in reason_of("fail", [test(-0.009, -0.001239)], ())
    assert "by less than 0.00013," in reason_of("pass", [test(-0.000121, 0.001)], ())
