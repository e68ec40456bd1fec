"""Procedures over several variants, alone and on certificates."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rankine.certification import QualityCertificate, certify_quality
from rankine.certification.family import under_procedure
from rankine.certification.multiplicity import Multiplicity, fixed_sequence, holm
from rankine.config import parse
from rankine.errors import ConfigError, UsageError
from rankine.metrics import sigmoid


def test_fixed_sequence_stops_at_the_first_failure_when_later_ones_would_pass() -> None:
    found = fixed_sequence([0.01, 0.04, 0.2, 0.001])
    assert found.passed == (True, True, False, False)
    assert found.p_adjusted == (0.01, 0.04, 0.2, 0.2)


def test_holm_equals_the_textbook_when_p_values_are_out_of_order() -> None:
    found = holm([0.01, 0.04, 0.03, 0.005])
    assert found.p_adjusted == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert found.passed == (True, False, False, True)


def test_holm_equals_its_step_down_definition_when_compared_at_random() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        p_values = (rng.random(6) ** 3).tolist()
        expected = [False] * 6
        for rank, place in enumerate(np.argsort(p_values).tolist()):
            if p_values[place] > 0.05 / (6 - rank):
                break
            expected[place] = True
        assert list(holm(p_values).passed) == expected


def test_any_false_pass_is_rare_when_all_nulls_are_true() -> None:
    rng = np.random.default_rng(2)
    p_values = rng.random((4000, 5)).tolist()
    for procedure in (fixed_sequence, holm):
        assert np.mean([any(procedure(one).passed) for one in p_values]) < 0.065
    assert np.mean([min(one) <= 0.05 for one in p_values]) > 0.2


def test_holm_does_not_depend_on_the_order_when_p_values_are_permuted() -> None:
    p_values = (0.012, 0.3, 0.02, 0.001)
    expected = dict(zip(p_values, holm(p_values).p_adjusted, strict=True))
    for order in itertools.permutations(p_values):
        assert dict(zip(order, holm(order).p_adjusted, strict=True)) == expected


def test_procedures_agree_with_the_single_test_when_there_is_one_variant() -> None:
    for procedure in (fixed_sequence, holm):
        assert procedure([0.05]).passed == (True,)
        assert procedure([0.051]).passed == (False,)
        assert procedure([]).passed == ()


@pytest.mark.parametrize("procedure", [fixed_sequence, holm])
def test_procedures_refuse_when_a_p_value_is_no_probability(procedure) -> None:
    for bad in ([1.2], [float("nan")]):
        with pytest.raises(UsageError) as refused:
            procedure(bad)
        assert refused.value.where == "p_values[0]"
    with pytest.raises(UsageError, match="alpha"):
        procedure([0.1], alpha=0.0)


@pytest.fixture(scope="module")
def certificates() -> dict[str, QualityCertificate]:
    """One that passes clearly, one that narrowly does, one that fails."""
    rng = np.random.default_rng(5)
    baseline = rng.normal(size=6000)
    labels = rng.random(6000) < sigmoid(baseline)
    users, noise = rng.integers(0, 300, 6000), rng.normal(size=6000)

    def certify(scale: float, name: str) -> QualityCertificate:
        return certify_quality(
            labels,
            baseline,
            baseline + scale * noise,
            margin=0.005,
            clusters={"user": users},
            variant=name,
            engine="onnxruntime",
            provenance={},
            resamples=399,
        )

    found = {name: certify(scale, name) for name, scale in (("large", 0.01), ("middle", 0.1), ("small", 1.0))}
    assert [one.verdict for one in found.values()] == ["pass", "pass", "fail"]
    return found


def test_variant_is_inconclusive_with_the_reason_when_the_sequence_stopped_before_it(certificates) -> None:
    order = ("small", "large", "middle")
    found = under_procedure({name: [certificates[name]] for name in order}, "fixed-sequence")
    assert [found[name][0].verdict for name in order] == ["fail", "inconclusive", "inconclusive"]
    stopped = found["middle"][0]
    assert "the fixed sequence stopped before it" in stopped.reason
    assert stopped.multiplicity is not None
    assert (stopped.multiplicity.position, stopped.multiplicity.order) == (3, order)
    assert stopped.multiplicity.p_adjusted == certificates["small"].p_value
    assert stopped.metrics == certificates["middle"].metrics


def test_variants_pass_when_the_sequence_reaches_them(certificates) -> None:
    found = under_procedure({name: [one] for name, one in certificates.items()}, "fixed-sequence")
    assert [found[name][0].verdict for name in certificates] == ["pass", "pass", "fail"]
    assert found["large"][0].reason == certificates["large"].reason


def test_holm_lets_both_pass_when_the_third_fails(certificates) -> None:
    found = under_procedure({name: [certificates[name]] for name in ("small", "large", "middle")}, "holm")
    assert [found[name][0].verdict for name in certificates] == ["pass", "pass", "fail"]
    multiplicity = found["large"][0].multiplicity
    assert multiplicity is not None
    assert multiplicity.p_adjusted >= multiplicity.p_value


def test_all_tasks_decide_when_a_variant_has_several(certificates) -> None:
    found = under_procedure({"both": [certificates["large"], certificates["small"]]}, "holm")
    assert [one.verdict for one in found["both"]] == ["inconclusive", "fail"]
    assert "another task" in found["both"][0].reason


def test_pass_is_refused_when_the_procedure_did_not_let_it(certificates) -> None:
    order = ("small", "large")
    stopped = under_procedure({name: [certificates[name]] for name in order}, "fixed-sequence")["large"][0]
    with pytest.raises(ConfigError, match="does not follow"):
        parse(QualityCertificate, stopped.model_dump(mode="json") | {"verdict": "pass"})


def test_record_is_refused_when_it_contradicts_itself() -> None:
    values = {"procedure": "holm", "order": ["a"], "position": 1, "p_value": 0.04, "p_adjusted": 0.04}
    assert parse(Multiplicity, values).passed
    for wrong in ({"position": 2}, {"p_adjusted": 0.01}):
        with pytest.raises(ConfigError):
            parse(Multiplicity, values | wrong)
