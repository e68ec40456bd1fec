"""Several variants on one test split: the order, and what a procedure makes of verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.certification import QualityCertificate, certify_quality
from rankine.certification.order import apply_procedure, auc_change, order_of
from rankine.metrics import sigmoid

ROWS = 3000
A, B, C = (("a", "onnxruntime"), ("b", "onnxruntime"), ("c", "openvino"))


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Labels and the baseline's logits."""
    random = np.random.default_rng(3)
    logits = random.normal(size=ROWS)
    return (random.random(ROWS) < sigmoid(logits)).astype(np.float32), logits


def certified(
    data: tuple[np.ndarray, np.ndarray], pair: tuple[str, str], noise: float, task: str = "label"
) -> QualityCertificate:
    """A certificate of a variant that is worse the more noise it has: 0 passes, 3 fails at the margin of 0.02."""
    labels, logits = data
    scores = logits + noise * np.random.default_rng(7).normal(size=ROWS)
    return certify_quality(
        labels,
        logits,
        scores,
        margin=0.02,
        clusters={"user": np.arange(ROWS) % 100},
        variant=pair[0],
        engine=pair[1],
        task=task,
        provenance={},
    )


def test_order_is_by_what_validation_rows_lose_when_they_differ() -> None:
    assert order_of({A: -0.01, B: 0.001, C: -0.002}) == [B, C, A]
    assert order_of({C: 0.0, A: 0.0, B: 0.0}) == [A, B, C], "by name where it is the same, so that it is fixed"


def test_change_is_that_of_the_worst_task_when_there_are_several(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = data
    two = np.stack([labels, labels], axis=1)
    baseline = np.stack([logits, logits], axis=1)
    worse = np.stack([logits, -logits], axis=1)
    assert auc_change(two, baseline, worse) == pytest.approx(
        auc_change(labels[:, None], logits[:, None], -logits[:, None])
    )
    assert auc_change(two, baseline, worse) < -0.3
    assert auc_change(two, baseline, baseline) == 0
    assert auc_change(np.zeros_like(two), baseline, worse) == 0, "one class says nothing"


def test_sequence_stops_when_one_before_does_not_pass(data: tuple[np.ndarray, np.ndarray]) -> None:
    alone = {A: [certified(data, A, 0)], B: [certified(data, B, 3)], C: [certified(data, C, 0)]}
    assert [alone[pair][0].verdict for pair in (A, B, C)] == ["pass", "fail", "pass"]
    found = apply_procedure(alone, "fixed-sequence", [A, B, C])
    assert [found[pair][0].verdict for pair in (A, B, C)] == ["pass", "fail", "inconclusive"]
    [last] = found[C]
    assert "one before it did not pass" in last.reason
    assert last.multiplicity is not None
    assert last.multiplicity.position == 3
    assert last.multiplicity.order == ("a on onnxruntime", "b on onnxruntime", "c on openvino")
    assert apply_procedure(alone, "fixed-sequence", [A, C, B])[C][0].passed


def test_holm_goes_on_when_another_fails(data: tuple[np.ndarray, np.ndarray]) -> None:
    alone = {A: [certified(data, A, 3)], B: [certified(data, B, 0)]}
    found = apply_procedure(alone, "holm", [A, B])
    assert [found[pair][0].verdict for pair in (A, B)] == ["fail", "pass"]
    assert found[B][0].multiplicity is not None
    assert found[B][0].multiplicity.procedure == "holm"


def test_holm_takes_back_a_pass_when_there_are_many_variants(data: tuple[np.ndarray, np.ndarray]) -> None:
    one = certified(data, A, 0.3)
    assert one.passed
    assert one.p_value > 0.05 / 20
    names = [(f"v{number}", "onnxruntime") for number in range(20)]
    alone = {pair: [one.model_copy(update={"variant": pair[0]})] for pair in names}
    [found] = apply_procedure(alone, "holm", names)[names[0]]
    assert found.verdict == "inconclusive"
    assert "not as one of 20 variants" in found.reason


def test_certificates_are_as_they_were_when_there_is_one_variant(data: tuple[np.ndarray, np.ndarray]) -> None:
    alone = {A: [certified(data, A, 0)]}
    assert apply_procedure(alone, "fixed-sequence", [A]) == alone


def test_task_that_passed_is_inconclusive_when_another_task_of_the_variant_did_not(
    data: tuple[np.ndarray, np.ndarray],
) -> None:
    alone = {A: [certified(data, A, 0, "click"), certified(data, A, 3, "buy")], B: [certified(data, B, 0)]}
    found = apply_procedure(alone, "fixed-sequence", [A, B])
    click, buy = found[A]
    assert (click.verdict, buy.verdict, found[B][0].verdict) == ("inconclusive", "fail", "inconclusive")
    assert "another task" in click.reason
