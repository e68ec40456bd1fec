"""Parity certificates: admission of another engine by a tenth of the margin."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from rankine.certification import Margins, ParityCertificate, certify_parity, parity_rows
from rankine.config import parse
from rankine.errors import ConfigError, DataError, UsageError
from rankine.metrics import auc, normalized_entropy, sigmoid

ROWS = 4000


@pytest.fixture(scope="module")
def primary() -> tuple[np.ndarray, np.ndarray]:
    """Labels and the primary engine's logits."""
    rng = np.random.default_rng(31)
    logits = rng.normal(size=ROWS)
    return rng.random(ROWS) < sigmoid(logits), logits


def check(
    labels: np.ndarray,
    logits: np.ndarray,
    scores: np.ndarray,
    margin: float | Margins = 0.001,
    minimum_positives: int = 100,
    groups: np.ndarray | None = None,
    link: Literal["sigmoid", "identity"] = "sigmoid",
) -> ParityCertificate:
    return certify_parity(
        labels,
        logits,
        scores,
        margin=margin,
        variant="student-int8",
        engine="openvino",
        device="cpu",
        instruction_set="avx512_vnni",
        reference_engine="onnxruntime",
        provenance={"artifact": "sha256:0"},
        minimum_positives=minimum_positives,
        groups=groups,
        links=[link],
    )


def test_engine_is_admitted_when_scores_differ_by_rounding(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    found = check(labels, logits, logits.astype(np.float32))
    assert found.admitted
    assert 0 < found.score_difference_p99 <= found.score_difference_max < 1e-6
    assert abs(found.auc_difference) < 1e-4
    assert found.rows == ROWS


def test_engine_is_not_admitted_when_ranks_are_noisy(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    found = check(labels, logits, logits + np.random.default_rng(32).normal(size=ROWS))
    assert not found.admitted
    assert found.auc_difference == pytest.approx(
        auc(labels, logits + np.random.default_rng(32).normal(size=ROWS)) - auc(labels, logits)
    )
    assert "not under" in found.reason


@pytest.mark.parametrize(("factor", "admitted"), [(10.01, True), (10.0, False), (9.9, False)])
def test_engine_is_admitted_only_when_auc_differs_by_less_than_a_tenth_of_the_margin(
    primary: tuple[np.ndarray, np.ndarray], factor: float, admitted: bool
) -> None:
    labels, logits = primary
    scores = np.round(logits, 1)
    difference = abs(auc(labels, scores) - auc(labels, logits))
    margins = Margins(auc=factor * difference, normalized_entropy=None, calibration=None)
    assert check(labels, logits, scores, margins).admitted is admitted


def test_engine_is_not_admitted_when_it_keeps_the_order_and_spoils_the_probabilities(
    primary: tuple[np.ndarray, np.ndarray],
) -> None:
    labels, logits = primary
    found = check(labels, logits, logits + 0.2)
    assert (found.auc_difference, found.admitted) == (0.0, False)
    assert found.reason.startswith("calibration differs by +")
    assert found.metrics["calibration"] == pytest.approx(np.log(sigmoid(logits + 0.2).mean() / sigmoid(logits).mean()))
    assert found.metrics["normalized_entropy"] == pytest.approx(
        normalized_entropy(labels, logits + 0.2) / normalized_entropy(labels, logits) - 1
    )
    assert check(labels, logits, logits + 0.2, link="identity").admitted, "there are no probabilities"
    assert check(labels, logits, logits + 0.2, Margins(normalized_entropy=None, calibration=None)).admitted


def test_engine_is_not_admitted_when_it_spoils_the_lists_of_users(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    users = np.arange(ROWS) % 50
    # The best row of each list goes to its end: the AUC over all rows hardly moves.
    scores = logits.copy()
    for user in range(50):
        rows = np.flatnonzero((users == user) & labels)
        scores[rows[logits[rows].argmax()]] = logits.min() - 1
    loose = Margins(auc=0.9, normalized_entropy=None, calibration=None)
    assert check(labels, logits, scores, loose).admitted
    found = check(labels, logits, scores, loose, groups=users)
    assert not found.admitted
    assert "NDCG@10 differs by -" in found.reason or "group AUC differs by -" in found.reason
    assert check(labels, logits, scores, loose, groups=np.arange(ROWS) % 20).admitted, "too few lists to judge"


def test_reason_names_every_metric_when_the_engine_is_admitted(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    found = check(labels, logits, logits.astype(np.float32), groups=np.arange(ROWS) % 50)
    assert list(found.metrics) == ["normalized_entropy", "calibration", "group_auc", "ndcg_at_10"]
    assert found.reason.endswith("so do normalized entropy, calibration, group AUC, NDCG@10 with theirs.")
    assert float(dict(parity_rows(found))["calibration, change"]) == pytest.approx(
        found.metrics["calibration"], rel=0.01
    )


def test_metric_is_left_out_when_it_has_no_margin(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    margins = Margins(normalized_entropy=None, group_auc=None)
    found = check(labels, logits, logits.astype(np.float32), margins, groups=np.arange(ROWS) % 50)
    assert found.margins == {"calibration": margins.calibration, "ndcg_at_10": margins.ndcg_at_10}
    assert found.metrics.keys() == found.margins.keys()


def test_engine_is_not_admitted_when_its_auc_is_higher_by_too_much(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    found = check(labels, logits, logits + 0.1 * labels)
    assert found.auc_difference > 0
    assert not found.admitted


def test_engine_is_not_admitted_when_there_is_too_little_data(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    found = check(labels, logits, logits, minimum_positives=ROWS)
    assert not found.admitted
    assert found.reason.startswith("Too little data")


def test_p99_is_below_the_maximum_when_one_score_is_far_off(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    scores = logits.copy()
    scores[5] += 2.0
    found = check(labels, logits, scores)
    assert found.score_difference_max == pytest.approx(2.0)
    assert found.score_difference_p99 == 0.0


def test_certificate_is_equal_when_read_back_from_json(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    found = check(labels, logits, np.round(logits, 3))
    assert ParityCertificate.model_validate_json(found.model_dump_json()) == found


def test_certificate_is_refused_when_admission_was_edited(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    values = check(labels, logits, -logits).model_dump(mode="json")
    with pytest.raises(ConfigError, match="does not follow"):
        parse(ParityCertificate, values | {"admitted": True})
    values = check(labels, logits, logits + 0.2).model_dump(mode="json")
    with pytest.raises(ConfigError, match="does not follow"):
        parse(ParityCertificate, values | {"admitted": True})
    with pytest.raises(ConfigError, match="has a margin"):
        parse(ParityCertificate, values | {"admitted": True, "margins": {}})


def test_rows_of_the_table_show_the_engine_when_rendered(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    rows = dict(parity_rows(check(labels, logits, logits)))
    assert rows["engine"] == "openvino on cpu (avx512_vnni)"
    assert (rows["admitted"], rows["rows"]) == ("yes", "4,000")


def test_parity_refuses_and_names_the_engine_when_its_logits_are_not_finite(
    primary: tuple[np.ndarray, np.ndarray],
) -> None:
    labels, logits = primary
    scores = logits.copy()
    scores[3] = np.nan
    with pytest.raises(DataError) as refused:
        check(labels, logits, scores)
    assert refused.value.where == "logits of openvino[3]"


def test_parity_refuses_when_the_margin_is_zero(primary: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = primary
    with pytest.raises(UsageError, match="margin"):
        check(labels, logits, logits, margin=0.0)
