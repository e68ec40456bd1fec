"""Quality certificates: what they keep, and what is refused as one."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from pydantic import ValidationError

from rankine.certification import QualityCertificate, certify_quality
from rankine.certification.multiplicity import Multiplicity
from rankine.config import parse
from rankine.errors import ConfigError, DataError, UsageError
from unit.held_out import ROWS, WHEN, HeldOut


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return HeldOut()


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


def test_certificate_is_refused_when_one_metric_of_a_pass_was_made_to_fail(held_out: HeldOut) -> None:
    values = held_out.certify(held_out.baseline).model_dump(mode="json")
    values["metrics"][1] |= {"ci_low": -0.5, "ci_high": -0.4, "verdict": "fail"}
    with pytest.raises(ConfigError, match="does not follow"):
        parse(QualityCertificate, values)
    assert parse(QualityCertificate, values | {"verdict": "fail"}).verdict == "fail"


def test_certificate_is_refused_when_auc_is_not_judged_or_not_first(held_out: HeldOut) -> None:
    values = held_out.certify(held_out.baseline).model_dump(mode="json")
    silent = values["metrics"][0] | {"margin": None, "verdict": None}
    for metrics in ([silent, *values["metrics"][1:]], values["metrics"][::-1]):
        with pytest.raises(ConfigError, match="first metric must be AUC"):
            parse(QualityCertificate, values | {"metrics": metrics})


def test_certificate_is_refused_when_it_passes_in_spite_of_too_little_data(held_out: HeldOut) -> None:
    values = held_out.certify(held_out.baseline, minimum_positives=ROWS).model_dump(mode="json")
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


def test_certificate_is_refused_when_its_p_values_were_taken_out_or_lowered(held_out: HeldOut) -> None:
    found = held_out.certify(held_out.baseline + 0.1 * held_out.noise)
    values = found.model_dump(mode="json")
    values["metrics"][0]["p_value"] = None
    with pytest.raises(ConfigError, match="has a p-value"):
        parse(QualityCertificate, values)
    lowered = Multiplicity(procedure="holm", order=("a", "b"), position=1, p_value=0.0, p_adjusted=0.0)
    with pytest.raises(ConfigError, match="cannot be below"):
        parse(QualityCertificate, found.model_dump(mode="json") | {"multiplicity": lowered.model_dump(mode="json")})
