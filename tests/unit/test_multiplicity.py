"""Procedures over several variants, on p-values; on certificates they are tested with the order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rankine.certification.multiplicity import Multiplicity, fixed_sequence, holm
from rankine.config import parse
from rankine.errors import ConfigError, UsageError


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


def test_record_is_refused_when_it_contradicts_itself() -> None:
    values = {"procedure": "holm", "order": ["a"], "position": 1, "p_value": 0.04, "p_adjusted": 0.04}
    assert parse(Multiplicity, values).passed
    outcome = {"variant": "a", "engine": "x", "margin": 0.001, "verdict": "pass", "p_value": 0.04, "task": "label"}
    outcome |= {"metric": "auc", "metric_margin": 0.001, "ci_low": -0.0005}
    assert parse(Multiplicity, values | {"outcomes": [outcome]}).outcomes[0].metric == "auc"
    other = outcome | {"p_value": 0.01}
    for wrong in ({"position": 2}, {"p_adjusted": 0.01}, {"outcomes": [outcome] * 2}, {"outcomes": [other]}):
        with pytest.raises(ConfigError):
            parse(Multiplicity, values | wrong)
