"""Which certificate of a pair is kept, and what is served."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rankine.certification import Margins, QualityCertificate
from rankine.certification.measurement import Measurement, measure_quality
from rankine.certification.order import apply_procedure
from rankine.certification.planned import PairTest, fastest_certified, kept_tests
from unit.held_out import HeldOut

A, B = ("a", "onnxruntime"), ("b", "onnxruntime")
TIMINGS = {"a": {"onnxruntime": 2.0}, "b": {"onnxruntime": 1.0}}


@pytest.fixture(scope="module")
def measured() -> dict[str, Measurement]:
    """By pair: ``a`` loses little, ``b`` much."""
    held_out = HeldOut()
    return {
        name: measure_quality(
            held_out.labels, held_out.baseline, held_out.baseline + noise * held_out.noise, clusters=held_out.clusters
        )
        for name, noise in {"a": 0.1, "b": 1.0}.items()
    }


def certificates(measured: dict[str, Measurement], tests: Sequence[PairTest]) -> list[list[QualityCertificate]]:
    """Those of each test, with the procedure over them."""
    found = [
        [measured[variant].certificate(test.margins, variant=variant, engine=engine, provenance={})]
        for test in tests
        for variant, engine in [test.pair]
    ]
    return apply_procedure(found, "fixed-sequence")


def planned(*tests: tuple[tuple[str, str], float]) -> list[PairTest]:
    margins = {at: Margins.of(at).model_copy(update={"calibration": None}) for _, at in tests}
    return [PairTest(pair, margins[at]) for pair, at in tests]


def test_smallest_margin_that_passed_is_kept_when_smaller_ones_did_not(measured: dict[str, Measurement]) -> None:
    tests = planned((A, 0.2), (A, 0.05), (A, 1e-6))
    found = dict(zip(tests, certificates(measured, tests), strict=True))
    assert [certificate.verdict for [certificate] in found.values()] == ["pass", "pass", "inconclusive"]
    assert kept_tests(found) == {A: tests[1]}


@pytest.mark.parametrize("margins", [(0.01, 0.005, 0.001), (0.001, 0.01, 0.005)])
def test_largest_margin_is_kept_when_none_passed_in_whichever_order(
    measured: dict[str, Measurement], margins: tuple[float, ...]
) -> None:
    tests = planned(*((B, at) for at in margins))
    found = dict(zip(tests, certificates(measured, tests), strict=True))
    assert kept_tests(found)[B].margins.auc == 0.01


def test_each_pair_keeps_its_own_when_tests_of_several_are_mixed(measured: dict[str, Measurement]) -> None:
    tests = planned((A, 0.2), (B, 0.2), (A, 0.05), (B, 0.01))
    found = dict(zip(tests, certificates(measured, tests), strict=True))
    assert kept_tests(found) == {A: tests[2], B: tests[1]}


@pytest.mark.parametrize(("margin", "served"), [(0.2, "b"), (0.1, "a"), (0.05, "a"), (0.01, None)])
def test_fastest_is_served_when_it_passed_at_the_margin_or_a_smaller_one(
    measured: dict[str, Measurement], margin: float, served: str | None
) -> None:
    tests = planned((A, 0.05), (B, 0.2))
    kept = dict(zip(tests, certificates(measured, tests), strict=True))
    plan = fastest_certified(kept, TIMINGS, Margins.of(margin))
    assert (plan and plan.variant) == served


def test_nothing_is_served_when_the_sequence_stopped_before_what_passes_alone(
    measured: dict[str, Measurement],
) -> None:
    tests = planned((B, 1e-6), (A, 0.2))
    kept = dict(zip(tests, certificates(measured, tests), strict=True))
    assert fastest_certified(kept, TIMINGS, Margins.of(0.2)) is None


def test_outcome_names_the_metric_and_bound_that_decide_when_recorded(measured: dict[str, Measurement]) -> None:
    tests = planned((A, 0.2), (B, 0.01))
    [a], [b] = certificates(measured, tests)
    assert a.multiplicity is not None
    assert b.multiplicity is not None
    assert a.multiplicity.outcomes == b.multiplicity.outcomes
    for certificate, outcome in zip((a, b), a.multiplicity.outcomes, strict=True):
        worst = max(certificate.judged, key=lambda test: np.inf if test.p_value is None else test.p_value)
        assert (outcome.metric, outcome.ci_low, outcome.metric_margin) == (worst.name, worst.ci_low, worst.margin)
        assert (outcome.variant, outcome.task, outcome.verdict) == (certificate.variant, "label", certificate.verdict)
        assert outcome.p_value == certificate.p_value
