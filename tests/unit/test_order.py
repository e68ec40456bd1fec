"""Several variants on one test split: the order, and what a procedure makes of verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.artifact import Artifact, Draft
from rankine.certification import CertifySettings, Margins, QualityCertificate, certify_quality
from rankine.certification.evaluation import EvaluationRows
from rankine.certification.order import Outlook, apply_procedure, auc_change, order_of, outlook_of
from rankine.certification.trial import Trial
from rankine.config import parse
from rankine.errors import ConfigError
from rankine.metrics import sigmoid
from rankine.models.columns import Batch
from rankine.models.schema import Task

ROWS = 3000
MARGINS = Margins.of(0.02)
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


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """One that holds nothing: only its hash goes into certificates."""
    draft = Draft("compile", name="small")
    draft.put_bytes("content", b"")
    return draft.commit(tmp_path_factory.mktemp("order") / "small")


def on_validation(labels: np.ndarray, baseline: np.ndarray) -> Trial:
    """A trial of validation rows; both ``(rows, tasks)``."""
    index = np.arange(len(labels), dtype=np.int32)
    rows = EvaluationRows(
        batch=Batch(request={}, item={}, pair={}, request_index=index, item_index=index),
        labels=labels,
        tasks=tuple(Task(name=f"task{number}") for number in range(labels.shape[1])),
        clusters={"user": index % 100},
        digest="validation",
    )
    return Trial(rows=rows, baseline=baseline, settings=CertifySettings())


def test_order_is_by_the_chance_to_pass_when_validation_rows_tell_variants_apart() -> None:
    assert order_of({A: Outlook(0.2, 0.0), B: Outlook(0.001, -0.01), C: Outlook(0.01, 0.01)}) == [B, C, A]
    same = {A: Outlook(0.001, -0.01), B: Outlook(0.001, 0.001), C: Outlook(0.001, -0.002)}
    assert order_of(same) == [B, C, A], "by AUC where the p-value is the same"
    assert order_of(dict.fromkeys((C, A, B), Outlook(1.0, 0.0))) == [A, B, C], "then by name, so that it is fixed"


def test_badly_calibrated_variant_comes_last_when_its_auc_is_the_best(
    data: tuple[np.ndarray, np.ndarray], artifact: Artifact
) -> None:
    labels, logits = data[0][:, None], data[1][:, None]
    trial = on_validation(labels, logits)
    noise = np.random.default_rng(7).normal(size=logits.shape)
    scores = {A: logits + 0.4 + 0.001 * labels, B: logits + 0.1 * noise}
    outlooks = {pair: outlook_of(trial, artifact, pair, found, MARGINS) for pair, found in scores.items()}
    assert outlooks[A].auc_change > outlooks[B].auc_change
    assert (outlooks[A].p_value, outlooks[B].p_value < 0.05) == (1.0, True)
    assert order_of(outlooks) == [B, A]
    # What an order by AUC alone would have cost: the sequence stops at the first.
    alone = [trial.quality(artifact, pair, scores[pair], [MARGINS])[0] for pair in (A, B)]
    [lost] = apply_procedure(alone, "fixed-sequence")[1]
    assert lost.verdict == "inconclusive"


def test_outlook_is_that_of_the_worst_task_when_there_are_several(
    data: tuple[np.ndarray, np.ndarray], artifact: Artifact
) -> None:
    labels, logits = (np.stack([values, values], axis=1) for values in data)
    worse = logits + np.array([0.0, 1.0]) * np.random.default_rng(7).normal(size=logits.shape)
    trial = on_validation(labels, logits)
    found = outlook_of(trial, artifact, A, worse, MARGINS)
    alone = outlook_of(on_validation(labels[:, 1:], logits[:, 1:]), artifact, A, worse[:, 1:], MARGINS)
    assert found == alone
    assert found.p_value > outlook_of(trial, artifact, A, logits, MARGINS).p_value


@pytest.mark.parametrize("positives", [0, 1, 50])
def test_auc_alone_orders_when_validation_rows_are_too_few(
    positives: int, data: tuple[np.ndarray, np.ndarray], artifact: Artifact
) -> None:
    labels = np.concatenate([data[0], np.zeros_like(data[0])]).reshape(2, -1).T.copy()
    labels[:, 1] = np.arange(ROWS) < positives
    logits = np.stack([data[1], data[1]], axis=1)
    trial = on_validation(labels, logits)
    worse = logits + np.random.default_rng(7).normal(size=logits.shape)
    outlooks = {A: outlook_of(trial, artifact, A, worse, MARGINS), B: outlook_of(trial, artifact, B, logits, MARGINS)}
    assert [found.p_value for found in outlooks.values()] == [1.0, 1.0]
    assert order_of(outlooks) == [B, A]


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
    a, b, c = alone = [[certified(data, A, 0)], [certified(data, B, 3)], [certified(data, C, 0)]]
    assert [one.verdict for [one] in alone] == ["pass", "fail", "pass"]
    found = apply_procedure(alone, "fixed-sequence")
    assert [one.verdict for [one] in found] == ["pass", "fail", "inconclusive"]
    [last] = found[2]
    assert "one before it did not pass" in last.reason
    assert last.multiplicity is not None
    assert last.multiplicity.position == 3
    assert last.multiplicity.order == ("a on onnxruntime", "b on onnxruntime", "c on openvino")
    assert apply_procedure([a, c, b], "fixed-sequence")[1][0].passed


def test_smaller_margin_leaves_the_larger_one_when_a_variant_is_tested_at_both(
    data: tuple[np.ndarray, np.ndarray], artifact: Artifact
) -> None:
    labels, logits = data[0][:, None], data[1][:, None]
    worse = logits + 0.3 * np.random.default_rng(7).normal(size=logits.shape)
    steps = [Margins.of(margin) for margin in (0.05, 1e-6)]
    alone = on_validation(labels, logits).quality(artifact, A, worse, steps)
    large, small = apply_procedure(alone, "fixed-sequence")
    assert (large[0].verdict, small[0].passed) == ("pass", False)
    assert large[0].multiplicity is not None
    assert large[0].multiplicity.order == ("a on onnxruntime at 0.05", "a on onnxruntime at 1e-06")


def test_holm_goes_on_when_another_fails(data: tuple[np.ndarray, np.ndarray]) -> None:
    [a], [b] = apply_procedure([[certified(data, A, 3)], [certified(data, B, 0)]], "holm")
    assert (a.verdict, b.verdict) == ("fail", "pass")
    assert b.multiplicity is not None
    assert b.multiplicity.procedure == "holm"


def test_holm_takes_back_a_pass_when_there_are_many_variants(data: tuple[np.ndarray, np.ndarray]) -> None:
    one = certified(data, A, 0.3)
    assert one.passed
    assert one.p_value > 0.05 / 20
    alone = [[one.model_copy(update={"variant": f"v{number}"})] for number in range(20)]
    [found] = apply_procedure(alone, "holm")[0]
    assert found.verdict == "inconclusive"
    assert "not as one of 20 tests" in found.reason


def test_certificates_are_as_they_were_when_there_is_one_variant(data: tuple[np.ndarray, np.ndarray]) -> None:
    alone = [[certified(data, A, 0)]]
    assert apply_procedure(alone, "fixed-sequence") == alone


def test_task_that_passed_is_inconclusive_when_another_task_of_the_variant_did_not(
    data: tuple[np.ndarray, np.ndarray],
) -> None:
    alone = [[certified(data, A, 0, "click"), certified(data, A, 3, "buy")], [certified(data, B, 0)]]
    [click, buy], [after] = apply_procedure(alone, "fixed-sequence")
    assert (click.verdict, buy.verdict, after.verdict) == ("inconclusive", "fail", "inconclusive")
    assert "another task" in click.reason


def test_pass_is_refused_when_the_procedure_did_not_let_it(data: tuple[np.ndarray, np.ndarray]) -> None:
    [stopped] = apply_procedure([[certified(data, A, 3)], [certified(data, B, 0)]], "fixed-sequence")[1]
    with pytest.raises(ConfigError, match="does not follow"):
        parse(QualityCertificate, stopped.model_dump(mode="json") | {"verdict": "pass"})
