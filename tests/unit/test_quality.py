"""Quality certificates: verdicts, what they record, what they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import pytest
from pydantic import ValidationError

from rankine.certification import QualityCertificate, certify_quality, verdict_of
from rankine.config import parse
from rankine.errors import ConfigError, DataError, UsageError
from rankine.metrics import auc, sigmoid
from rankine.stats import paired_delong

ROWS = 6000
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class HeldOut:
    """Held-out rows with a good baseline: 200 users, 80 items."""

    def __init__(self) -> None:
        rng = np.random.default_rng(21)
        self.baseline = rng.normal(size=ROWS)
        self.labels = rng.random(ROWS) < sigmoid(self.baseline)
        self.noise = rng.normal(size=ROWS)
        self.clusters = {"user": rng.integers(0, 200, ROWS), "item": rng.integers(0, 80, ROWS)}

    def certify(
        self,
        variant: np.ndarray,
        margin: float = 0.001,
        clusters: Mapping[str, np.ndarray] | None = None,
        rows: slice = slice(None),
        minimum_positives: int = 100,
    ) -> QualityCertificate:
        chosen = self.clusters if clusters is None else clusters
        return certify_quality(
            self.labels[rows],
            self.baseline[rows],
            variant[rows],
            margin=margin,
            clusters={name: ids[rows] for name, ids in chosen.items()},
            variant="student-int8",
            engine="onnxruntime",
            provenance={"model": "sha256:0", "split": "sha256:1", "recipe": "sha256:2", "seed": "7"},
            minimum_positives=minimum_positives,
            created=WHEN,
            environment={"python": "3.11", "cores": 2, "memory_gib": 7.5},
        )


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


def test_certificate_is_equal_when_read_back_from_json(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline + 0.1 * held_out.noise)
    again = QualityCertificate.model_validate_json(found.model_dump_json())
    assert again == found
    assert parse(QualityCertificate, found.model_dump(mode="json")) == found
    assert (again.schema_version, again.created, again.environment) == (
        2,
        WHEN,
        {"python": "3.11", "cores": 2, "memory_gib": 7.5},
    )
    assert again.provenance["recipe"] == "sha256:2"


def test_certificate_is_refused_when_its_verdict_was_edited(held_out: HeldOut) -> None:
    values = held_out.certify(held_out.baseline + held_out.noise).model_dump(mode="json")
    with pytest.raises(ConfigError, match="does not follow"):
        parse(QualityCertificate, values | {"verdict": "pass"})


def test_certificate_is_refused_when_its_version_is_unknown(held_out: HeldOut) -> None:
    values = held_out.certify(held_out.baseline).model_dump(mode="json")
    with pytest.raises(ConfigError, match="schema_version"):
        parse(QualityCertificate, values | {"schema_version": 99})


def test_certificate_is_refused_when_a_field_is_assigned(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline + held_out.noise)
    field = "verdict"
    with pytest.raises(ValidationError):
        setattr(found, field, "pass")


def test_certificate_states_time_and_environment_when_none_are_passed(held_out: HeldOut) -> None:
    before = datetime.now(UTC)
    found = certify_quality(
        held_out.labels, held_out.baseline, held_out.baseline, clusters={}, variant="v", engine="e", provenance={}
    )
    assert before <= found.created <= datetime.now(UTC)
    assert found.environment["numpy"] == np.__version__
    assert found.margin == 0.001


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_certify_refuses_when_variant_logits_are_not_finite(held_out: HeldOut, bad: float) -> None:
    variant = held_out.baseline.copy()
    variant[17] = bad
    with pytest.raises(DataError) as refused:
        held_out.certify(variant)
    assert refused.value.where == "variant logits[17]"


@pytest.mark.parametrize("margin", [0.0, -0.001, 1.5, float("nan")])
def test_certify_refuses_when_the_margin_is_out_of_range(held_out: HeldOut, margin: float) -> None:
    with pytest.raises(UsageError, match="margin"):
        held_out.certify(held_out.baseline, margin=margin)


def test_certify_refuses_when_only_one_class_is_present(held_out: HeldOut) -> None:
    with pytest.raises(DataError, match="both classes"):
        certify_quality(np.ones(5), np.arange(5.0), np.arange(5.0), clusters={}, variant="v", engine="e", provenance={})


def test_certify_refuses_when_clusters_are_malformed(held_out: HeldOut) -> None:
    ids = held_out.clusters["user"]
    with pytest.raises(UsageError, match="too many cluster dimensions"):
        held_out.certify(held_out.baseline, clusters={"user": ids, "item": ids, "day": ids})
    with pytest.raises(DataError) as refused:
        held_out.certify(held_out.baseline, clusters={"user": ids[:-1]})
    assert refused.value.where == "clusters.user"


def test_certify_refuses_when_the_time_has_no_zone(held_out: HeldOut) -> None:
    with pytest.raises(UsageError, match="time zone"):
        certify_quality(
            held_out.labels,
            held_out.baseline,
            held_out.baseline,
            clusters={},
            variant="v",
            engine="e",
            provenance={},
            created=datetime(2026, 1, 2),  # noqa: DTZ001 - the naive time is what is tested
        )
