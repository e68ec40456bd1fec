"""One measurement, judged at several margins: the same certificates, without the work done again."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.artifact import Artifact, Draft
from rankine.certification import CertifySettings, Margins, certify_quality
from rankine.certification.evaluation import EvaluationRows
from rankine.certification.measurement import Measurement, measure_quality
from rankine.certification.slices import Slice
from rankine.certification.trial import Trial
from rankine.models.columns import Batch
from rankine.models.schema import Task
from unit.counted import counted
from unit.held_out import ROWS, WHEN, HeldOut

STEPS = [
    Margins.of(0.2),
    Margins.of(0.02),
    Margins.of(0.0005),
    Margins(auc=0.01, normalized_entropy=None, group_auc=None),
]
EARLY = np.arange(ROWS) < 500
SLICES = [Slice("early", EARLY), Slice("late", ~EARLY), Slice("first", np.arange(ROWS) < 9)]
RESAMPLES = 199
OF_SLICES = "rankine.certification.slices.paired_delong"
STATISTICS = (
    "rankine.certification.judging.paired_delong",
    "rankine.certification.judging.bootstrap_t",
    "rankine.certification.judging.bootstrap_all",
    "rankine.certification.judging.paired_group_auc",
    "rankine.certification.judging.paired_ndcg",
    "rankine.certification.measurement.top_overlap",
)


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return HeldOut()


def variant_of(held_out: HeldOut) -> np.ndarray:
    """Worse everywhere by a little, and by much in the early rows."""
    return held_out.baseline + held_out.noise * np.where(EARLY, 1.5, 0.02)


def measured(held_out: HeldOut, **given: object) -> Measurement:
    values = {"clusters": held_out.clusters, "groups": held_out.clusters["user"], "slices": SLICES} | given
    return measure_quality(
        held_out.labels, held_out.baseline, variant_of(held_out), resamples=RESAMPLES, seed=3, **values
    )


@pytest.mark.parametrize("fail_on_harm", [False, True])
@pytest.mark.parametrize("margins", STEPS, ids=lambda margins: f"{margins.auc:g}")
def test_certificate_is_the_same_to_the_last_bit_when_margins_share_a_measurement(
    held_out: HeldOut, margins: Margins, fail_on_harm: bool
) -> None:
    names = {"variant": "v", "engine": "e", "provenance": {}, "fail_on_harm": fail_on_harm, "created": WHEN}
    shared = measured(held_out)
    for other in STEPS:
        shared.certificate(other, **names)
    alone = certify_quality(
        held_out.labels,
        held_out.baseline,
        variant_of(held_out),
        margin=margins,
        clusters=held_out.clusters,
        groups=held_out.clusters["user"],
        slices=SLICES,
        resamples=RESAMPLES,
        seed=3,
        **names,
    )
    assert shared.certificate(margins, **names).model_dump_json() == alone.model_dump_json()


def test_slice_is_harmed_only_at_the_margins_that_it_loses_more_than(held_out: HeldOut) -> None:
    shared = measured(held_out)
    found = [shared.certificate(margins, variant="v", engine="e", provenance={}) for margins in STEPS]
    assert [[test.name for test in certificate.harmed] for certificate in found] == [
        [],
        ["early"],
        ["early"],
        ["early"],
    ]
    p_values = [next(test.p_value for test in certificate.slices if test.name == "early") for certificate in found]
    assert len(set(p_values)) > 2, "the null hypothesis is of the margin"


@pytest.mark.parametrize("groups", [0, 20])
def test_same_is_reported_and_not_judged_when_rows_are_too_few_at_every_margin(held_out: HeldOut, groups: int) -> None:
    users = np.zeros(ROWS, dtype=int) if groups == 0 else held_out.clusters["user"] % groups
    shared = measured(held_out, clusters={"user": users}, groups=users)
    for margins in STEPS:
        found = shared.certificate(margins, variant="v", engine="e", provenance={})
        assert found.verdict == "inconclusive"
        assert {test.name for test in found.judged} <= {"auc", "normalized_entropy", "calibration"}


def test_statistics_are_computed_once_when_a_pair_is_tested_at_several_margins(
    held_out: HeldOut, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draft = Draft("compile", name="small")
    draft.put_bytes("content", b"")
    artifact: Artifact = draft.commit(tmp_path_factory.mktemp("margins") / "small")
    index = np.arange(ROWS, dtype=np.int32)
    rows = EvaluationRows(
        batch=Batch(request={}, item={}, pair={}, request_index=index, item_index=index),
        labels=held_out.labels[:, None].astype(np.float32),
        tasks=(Task(name="click"),),
        clusters=held_out.clusters,
        digest="test",
    )
    trial = Trial(rows=rows, baseline=held_out.baseline[:, None], settings=CertifySettings(), slices=SLICES[:2])
    with counted(*STATISTICS, OF_SLICES) as calls:
        found = trial.quality(artifact, ("v", "e"), variant_of(held_out)[:, None], STEPS)
    assert [certificate.auc.margin for [certificate] in found] == [margins.auc for margins in STEPS]
    assert calls == dict.fromkeys(STATISTICS, 1) | {OF_SLICES: 2}, "there are two slices"
