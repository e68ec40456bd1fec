"""Certificates as text: the verdict first, harm before everything else, every metric with its bounds."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.certification import (
    Margins,
    QualityCertificate,
    certify_quality,
    fact_rows,
    metric_table,
    slice_table,
    summary,
    verdict_rows,
)
from rankine.certification.multiplicity import Multiplicity
from rankine.certification.slices import Slice
from rankine.cli.certificate import print_certificate
from rankine.metrics import sigmoid

ROWS = 6000


@pytest.fixture(scope="module")
def harmed() -> QualityCertificate:
    """Good on the whole, and useless for one value of a field."""
    random = np.random.default_rng(11)
    logits = 2 * random.normal(size=ROWS)
    labels = random.random(ROWS) < sigmoid(logits)
    few = np.arange(ROWS) % 20 == 0
    nobody = np.arange(ROWS) == 1
    scores = np.where(few, -logits, logits)
    user = np.arange(ROWS) % 150
    return certify_quality(
        labels,
        logits,
        scores,
        margin=Margins(auc=0.2, normalized_entropy=None, calibration=0.5, group_auc=0.5, ndcg_at_10=0.5),
        clusters={"user": user},
        groups=user,
        slices=[Slice("kind=rest", ~few), Slice("kind=few", few), Slice("kind=nobody", nobody)],
        variant="small",
        engine="onnxruntime",
        provenance={},
        split_uses=3,
    )


def test_harm_comes_right_after_the_verdict_when_there_is_any(harmed: QualityCertificate) -> None:
    (first, verdict), (second, harm), *_ = verdict_rows(harmed)
    assert (first, verdict) == ("verdict", "pass")
    assert second == "harmed"
    assert harm.startswith("kind=few: AUC change -")
    assert "300 rows" in harm


def test_every_metric_has_a_row_when_shown(harmed: QualityCertificate) -> None:
    table = metric_table(harmed)
    assert [row[0] for row in table.rows] == ["AUC", "normalized entropy", "calibration", "group AUC", "NDCG@10"]
    auc, entropy = (
        dict(zip(table.header, table.rows[0], strict=True)),
        dict(zip(table.header, table.rows[1], strict=True)),
    )
    assert auc["baseline"] == f"{harmed.baseline_value:.5f}"
    assert auc["lower bound"] == f"{harmed.ci_low:+.5f}"
    assert (auc["margin"], auc["verdict"]) == ("0.2", "pass")
    assert (entropy["margin"], entropy["verdict"], entropy["power"]) == ("", "not judged", "")


def test_slices_are_listed_with_what_was_found_when_tested(harmed: QualityCertificate) -> None:
    table = slice_table(harmed)
    assert table is not None
    assert [(row[0], row[-1].split(":")[0]) for row in table.rows] == [
        ("kind=few", "HARMED"),
        ("kind=rest", "no harm shown"),
        ("kind=nobody", "not tested"),
    ]
    assert slice_table(harmed.model_copy(update={"slices": ()})) is None


def test_uses_of_the_test_split_are_told_when_there_were_several(harmed: QualityCertificate) -> None:
    assert "used at least 3 times by now" in dict(verdict_rows(harmed))["test split"]
    once = harmed.model_copy(update={"split_uses": 1})
    assert dict(verdict_rows(once))["test split"] == "no earlier use of it is known"
    assert "test split used 3 times" in summary(harmed)
    assert "used" not in summary(once)


def test_procedure_is_told_when_there_were_several_variants(harmed: QualityCertificate) -> None:
    taken = Multiplicity(
        procedure="fixed-sequence", order=("a on x", "small on x"), position=2, p_value=0, p_adjusted=0
    )
    told = dict(verdict_rows(harmed.model_copy(update={"multiplicity": taken})))["several variants"]
    assert told == "2 of 2 in an order fixed on validation rows; adjusted p 0.000; the others: a on x"
    holm = dict(
        verdict_rows(harmed.model_copy(update={"multiplicity": taken.model_copy(update={"procedure": "holm"})}))
    )
    assert "Holm" in holm["several variants"]
    assert "several variants" not in dict(verdict_rows(harmed))


def test_summary_tells_more_than_auc_when_more_was_judged(harmed: QualityCertificate) -> None:
    told = summary(harmed)
    assert told.startswith(f"pass: AUC change {harmed.delta:+.5f}")
    assert "calibration pass, group AUC pass, NDCG@10 pass" in told
    assert "normalized entropy" not in told
    assert "harmed: kind=few" in told


def test_facts_tell_rows_clusters_and_seed_when_shown(harmed: QualityCertificate) -> None:
    facts = dict(fact_rows(harmed))
    assert facts["clusters"] == "150 by user"
    assert facts["bootstrap"] == "2,000 resamples, seed 0"
    assert facts["top-10 overlap"].endswith("of the ten best rows of a user are the same")


def test_verdict_is_printed_first_when_shown(harmed: QualityCertificate, capsys: pytest.CaptureFixture[str]) -> None:
    print_certificate(harmed)
    printed = capsys.readouterr().out
    places = [printed.index(text) for text in ("verdict", "harmed", "reason", "NDCG@10  ", "kind=rest", "clusters")]
    assert places == sorted(places)
