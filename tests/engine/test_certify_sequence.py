"""Variants at margins of their own: what ``certify`` tests, keeps, records and plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.installed import installed_engine
from rankine.artifact import Artifact, Draft
from rankine.certification import CertifySettings, Margins, QualityCertificate, verdict_rows
from rankine.certification.certify import certify
from rankine.certification.ledger import read_uses
from rankine.certification.plan import PLAN_FILE, Plan, certified_pairs, parity_certificates, quality_certificates
from rankine.cli.inspect_ladder import print_ladder
from rankine.compilation.compile import compile_artifact
from rankine.data import Dataset
from rankine.errors import UsageError
from rankine.models.network import load_network, put_network
from rankine.models.tables import Table
from rankine.models.variant import BASELINE
from rankine.planning.ladder import read_ladder
from rankine.planning.optimize import verification_rows
from rankine.planning.write_ladder import write_ladder

pytestmark = pytest.mark.engine
LARGE, SMALL, TINY = (
    Margins(auc=margin, normalized_entropy=None, calibration=None, group_auc=None, ndcg_at_10=None)
    for margin in (0.1, 0.02, 1e-7)
)
NOISE = {"fine": 0.01, "coarse": 1.0, "bad": 8.0, "late": 0.01}
"""Of each variant's tables, by its name: the variants are the baseline with noisy tables."""
SEQUENCE = (
    ("fine", LARGE),
    ("coarse", LARGE),
    ("fine", SMALL),
    ("coarse", TINY),  # which stops the sequence
    ("bad", LARGE),
    ("bad", SMALL),
    ("late", LARGE),
)
OUTCOMES = {
    "fine": [(0.1, "pass"), (0.02, "pass")],
    "coarse": [(0.1, "pass"), (1e-7, "fail")],
    "bad": [(0.1, "fail"), (0.02, "fail")],
    "late": [(0.1, "inconclusive")],
}


@pytest.fixture(scope="module")
def compiled(baseline: Artifact, dataset: Dataset) -> Artifact:
    """The baseline and its noisy variants, built for two engines of one numeric form."""
    engines = ["onnxruntime", "openvino"]
    for name in engines:
        installed_engine(name)
    draft, random = Draft("compress", parent=baseline), np.random.default_rng(3)
    network = load_network(baseline, BASELINE)
    plain = {key: table for key, table in network.tables.items() if isinstance(table, Table)}
    for name, noise in NOISE.items():
        tables = {
            key: Table(
                table.rows
                + np.float32(noise * table.rows.std()) * random.normal(size=table.rows.shape).astype(np.float32)
            )
            for key, table in plain.items()
        }
        noisy = replace(network, tables=tables, module=None)
        put_network(draft, noisy, name=name, parent=BASELINE, steps=("noise",), validation_auc=None, details={})
    noisy_variants = draft.commit(baseline.path.with_name("noisy"))
    rows, out = verification_rows(noisy_variants, dataset), baseline.path.with_name("noisy-compiled")
    return compile_artifact(noisy_variants, engines=engines, verify_batch=rows, out=out)


@pytest.fixture(scope="module")
def certified(compiled: Artifact, dataset: Dataset) -> Artifact:
    out = compiled.path.with_name("noisy-certified")
    settings = CertifySettings(slices=False)
    return certify(compiled, dataset, margin=SMALL, sequence=SEQUENCE, settings=settings, out=out)


@pytest.fixture(scope="module")
def kept(certified: Artifact) -> dict[str, QualityCertificate]:
    """The certificate of each variant, which has one numeric form and so one."""
    return {variant: certificate for (variant, _), certificate in quality_certificates(certified).items()}


def test_variant_keeps_the_smallest_margin_that_it_passed_else_the_largest_when_tested_at_several(
    kept: dict[str, QualityCertificate],
) -> None:
    assert {name: (kept[name].margin, kept[name].verdict) for name in NOISE} == {
        "fine": (0.02, "pass"),
        "coarse": (0.1, "pass"),
        "bad": (0.1, "fail"),
        "late": (0.1, "inconclusive"),
    }


def test_variant_that_passes_alone_is_inconclusive_when_the_sequence_stopped_before_it(
    kept: dict[str, QualityCertificate],
) -> None:
    late = kept["late"]
    assert all(test.verdict == "pass" for test in late.judged)
    assert late.multiplicity is not None
    assert (late.multiplicity.position, late.multiplicity.passed) == (7, False)
    assert "one before it did not pass" in late.reason


def test_every_test_is_recorded_in_every_certificate_when_only_some_are_kept(
    kept: dict[str, QualityCertificate],
) -> None:
    for name in NOISE:
        taken = kept[name].multiplicity
        assert taken is not None
        assert [(each.variant, each.margin) for each in taken.outcomes] == [(name, at.auc) for name, at in SEQUENCE]
        for variant, expected in OUTCOMES.items():
            assert [(each.margin, each.verdict) for each in taken.outcomes if each.variant == variant] == expected
        assert {each.metric for each in taken.outcomes} == {"auc"}
        own = taken.outcomes[taken.position - 1]
        assert (own.ci_low, own.p_value, own.metric_margin) == (
            kept[name].ci_low,
            kept[name].p_value,
            kept[name].margin,
        )
    told = dict(verdict_rows(kept["fine"]))["several variants"]
    assert "coarse on" in told
    assert "at 1e-07 (fail)" in told


def test_parity_is_held_at_the_margin_of_the_kept_certificate_when_a_smaller_one_did_not_pass(
    certified: Artifact, kept: dict[str, QualityCertificate]
) -> None:
    parities = {variant: parity for (variant, _), parity in parity_certificates(certified).items()}
    assert {name: parity.margin for name, parity in parities.items()} == {
        name: certificate.margin for name, certificate in kept.items()
    }
    served = {variant for variant, _ in certified_pairs(certified)}
    assert served == {BASELINE, "fine", "coarse"}, "parity with an engine that did not pass certifies nothing"


def test_plan_is_of_a_pair_that_passed_at_the_margin_or_a_smaller_one_when_others_passed_at_larger_ones(
    certified: Artifact, kept: dict[str, QualityCertificate]
) -> None:
    plan = certified.read_json(PLAN_FILE, Plan)
    assert (kept[plan.variant].verdict, kept[plan.variant].margin <= SMALL.auc) == ("pass", True)


def test_margins_truly_tested_are_recorded_when_the_use_of_the_split_is_counted(certified: Artifact) -> None:
    uses = read_uses(certified)
    assert uses is not None
    use = uses.uses[-1]
    assert [
        (name.split(" on ")[0], margins["auc"]) for name, margins in zip(use.variants, use.margins, strict=True)
    ] == [(name, at.auc) for name, at in SEQUENCE]


def test_ladder_tells_every_test_of_a_variant_when_printed(
    certified: Artifact, dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = verification_rows(certified, dataset)
    ladder = read_ladder(write_ladder(certified, rows, SMALL.auc, out=tmp_path / "ladder", emit=print))
    assert ladder is not None
    steps = {step.variant: step for step in (*ladder.rungs, *ladder.others)}
    assert {name: [(test.margin, test.verdict) for test in steps[name].tests] for name in NOISE} == OUTCOMES
    capsys.readouterr()
    print_ladder(ladder)
    told = " ".join(capsys.readouterr().out.split())
    assert "Tested at 0.1: pass, at 0.02: pass." in told
    assert "not certified at 0.1: fail." in told
    assert "Tested at 0.1: fail, at 0.02: fail." in told


@pytest.mark.parametrize("name", ["fin", BASELINE])
def test_sequence_is_refused_before_any_test_when_it_names_no_compressed_variant(
    name: str, compiled: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no compressed variant.*bad, coarse, fine, late"):
        certify(compiled, dataset, sequence=[(name, LARGE)], out=tmp_path / "out")
