"""Parity for every engine, device and instruction set: made on a new machine, asked for by the gate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankine.artifact import Artifact, Draft
from rankine.certification.certify import certify
from rankine.certification.evaluation import held_out_rows
from rankine.certification.parity_here import MOST_ROWS, certify_parity_here, kept_rows
from rankine.certification.place import Place
from rankine.certification.plan import (
    SERVED,
    certified_pairs,
    parity_certificates,
    parity_file,
    quality_certificates,
    scores_file,
    served_digest,
)
from rankine.cli import main
from rankine.compilation.compile import build_names, compile_artifact
from rankine.compilation.engine import Capabilities
from rankine.compilation.engines import load_engine
from rankine.data import Dataset, load_dataset
from rankine.environment import instruction_set
from rankine.errors import CertificateRequired, DataError, EngineMissing, UsageError
from rankine.models.variant import BASELINE
from rankine.planning.optimize import verification_rows
from rankine.serving.gate import choose

pytestmark = pytest.mark.engine

ENGINES = ["native", "onnxruntime", "eager"]
ELSEWHERE = "avx2"


@pytest.fixture(scope="module")
def certified(baseline: Artifact, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("parity")
    rows = verification_rows(baseline, dataset)
    compiled = compile_artifact(baseline, engines=ENGINES, verify_batch=rows, out=folder / "compiled")
    return certify(compiled, dataset, margin=0.2, out=folder / "certified")


@pytest.fixture
def artifact(certified: Artifact, tmp_path: Path) -> Artifact:
    """With nothing kept beside it."""
    return Draft("certify", parent=certified).commit(tmp_path / "artifact")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As on a processor with another instruction set."""
    with monkeypatch.context() as patch:
        patch.setattr("rankine.environment._CHOSEN_BY", (ELSEWHERE,))
        patch.setattr("rankine.environment.processor", lambda _: ("another", [ELSEWHERE]))
        assert instruction_set() == ELSEWHERE
        yield patch


def test_certificates_say_where_they_were_taken_when_certified(certified: Artifact, dataset: Dataset) -> None:
    here = Place()
    assert here.instruction_set == instruction_set() != ELSEWHERE
    [((variant, primary), quality)] = quality_certificates(certified).items()
    assert here.is_of(quality.environment)
    assert {engine for _, engine in parity_certificates(certified)} == set(ENGINES) - {primary}
    for parity in parity_certificates(certified).values():
        assert (parity.device, parity.instruction_set) == ("cpu", here.instruction_set)
    assert {engine for _, engine in certified_pairs(certified)} == set(ENGINES)
    _, test = held_out_rows(certified, dataset)
    assert certified.array(scores_file(variant, primary)).shape == test.labels.shape


def test_gate_refuses_every_engine_on_another_instruction_set_until_parity_is_certified(
    artifact: Artifact, dataset: Dataset, elsewhere: pytest.MonkeyPatch
) -> None:
    assert certified_pairs(artifact) == set()
    for engine in ENGINES:
        with pytest.raises(CertificateRequired, match=rf"{ELSEWHERE}.*--parity.*seconds"):
            choose(artifact, variant=BASELINE, engine=engine)
    report = certify_parity_here(artifact, dataset)
    assert {one.engine for one in report.certificates} == set(ENGINES)
    assert report.admitted
    assert report.instruction_set == ELSEWHERE
    [(_, primary)] = quality_certificates(artifact)
    for engine in ENGINES:
        choice = choose(artifact, variant=BASELINE, engine=engine)
        assert choice.certified
        assert choice.parity is not None
        assert (choice.parity.reference_engine, choice.parity.instruction_set) == (primary, ELSEWHERE)
    elsewhere.undo()
    assert choose(artifact, variant=BASELINE, engine=primary).parity is None, "here its own certificate speaks"


def test_gate_refuses_another_device_when_parity_is_of_the_cpu(artifact: Artifact) -> None:
    [(_, primary)] = quality_certificates(artifact)
    with pytest.raises(CertificateRequired, match="no parity certificate of gpu"):
        choose(artifact, variant=BASELINE, engine=primary, device="gpu")


def test_no_evidence_counts_when_the_device_chooses_where_it_computes(
    artifact: Artifact, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Choosing:
        def capabilities(self) -> Capabilities:
            return native.capabilities().model_copy(update={"devices": ("cpu", "auto")})

    native = load_engine("native")
    monkeypatch.setattr("rankine.compilation.engines.native.engine", Choosing)
    report = certify_parity_here(artifact, dataset, engines=["native"])
    assert [one.device for one in report.left_out if "name the device" in one.reason] == ["auto"]
    assert not certify_parity_here(artifact, dataset, engines=["native"], devices=["auto"]).admitted
    evidence = artifact.evidence() / parity_file(BASELINE, "native", Place("auto"))
    evidence.parent.mkdir(parents=True, exist_ok=True)
    parity = next(iter(parity_certificates(artifact).values()))
    taken = parity.model_copy(
        update={
            "device": "auto",
            "engine": "native",
            "provenance": {SERVED: served_digest(artifact, BASELINE, "native")},
        }
    )
    evidence.write_text(taken.model_dump_json())
    with pytest.raises(CertificateRequired, match=r"'auto', which chooses.*Name the device"):
        choose(artifact, variant=BASELINE, engine="native", device="auto")
    assert not choose(artifact, variant=BASELINE, engine="native", device="auto", allow_uncertified=True).certified


def test_parity_leaves_out_what_has_a_quality_certificate_when_made_here(artifact: Artifact, dataset: Dataset) -> None:
    report = certify_parity_here(artifact, dataset)
    [(_, primary)] = quality_certificates(artifact)
    assert [one.engine for one in report.left_out] == [primary]
    assert {one.engine for one in report.certificates} == set(build_names(artifact, BASELINE)) - {primary}
    assert [one.engine for one in certify_parity_here(artifact, dataset, engines=[primary]).left_out] == [primary]


def test_parity_is_not_admitted_when_scores_are_not_those_that_were_certified(
    artifact: Artifact, dataset: Dataset, tmp_path: Path, elsewhere: pytest.MonkeyPatch
) -> None:
    [pair] = quality_certificates(artifact)
    draft = Draft("certify", parent=artifact)
    scores = artifact.array(scores_file(*pair))
    draft.put_array(scores_file(*pair), np.random.default_rng(1).normal(size=scores.shape).astype(np.float32))
    spoilt = draft.commit(tmp_path / "spoilt")
    report = certify_parity_here(spoilt, dataset)
    assert not report.admitted
    assert not any(one.admitted for one in report.certificates)
    assert certified_pairs(spoilt) == set()
    with pytest.raises(CertificateRequired, match="not admitted"):
        choose(spoilt, variant=BASELINE, engine=pair[1])


def test_parity_asks_for_a_new_certificate_when_the_logits_were_not_kept(
    artifact: Artifact, dataset: Dataset, tmp_path: Path, elsewhere: pytest.MonkeyPatch
) -> None:
    draft = Draft("certify", parent=artifact)
    [pair] = quality_certificates(artifact)
    draft.remove(scores_file(*pair))
    report = certify_parity_here(draft.commit(tmp_path / "older"), dataset)
    assert report.certificates == ()
    assert all(one.failed and "Certify it again" in one.reason for one in report.left_out)


def test_parity_tells_the_reason_when_an_engine_is_missing(
    artifact: Artifact, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rankine.compilation.engines.eager", None)
    report = certify_parity_here(artifact, dataset)
    left_out = {one.engine: one for one in report.left_out}
    assert "pip install" in left_out["eager"].reason
    assert not left_out["eager"].failed
    assert report.admitted
    named = certify_parity_here(artifact, dataset, engines=["eager"])
    assert [(one.engine, one.failed) for one in named.left_out] == [("eager", True)]
    assert not named.admitted


def test_parity_goes_on_when_an_engine_raises_an_error_of_its_own(
    artifact: Artifact, dataset: Dataset, elsewhere: pytest.MonkeyPatch
) -> None:
    class Broken:
        capabilities = load_engine("eager").capabilities

        def open(self, *_: object, **__: object) -> None:
            raise RuntimeError("driver mismatch")

    elsewhere.setattr("rankine.compilation.engines.eager.engine", Broken)
    report = certify_parity_here(artifact, dataset)
    [left_out] = report.left_out
    assert (left_out.engine, left_out.failed, left_out.reason) == ("eager", True, "RuntimeError: driver mismatch")
    assert {one.engine for one in report.certificates} == set(ENGINES) - {"eager"}


def test_parity_refuses_a_device_that_no_chosen_engine_has(
    artifact: Artifact, dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"no chosen engine has this device.*got cpuu; allowed: cpu.*rankine doctor"):
        certify_parity_here(artifact, dataset, devices=["cpu", "cpuu"])
    options = ["--data", "synthetic", "--rows", "20000", "--parity", "--engine", "native", "--device", "gpu.7"]
    with pytest.raises(SystemExit) as ended:
        main(["certify", str(artifact.path), *options])
    assert ended.value.code == 2
    assert "rankine doctor" in capsys.readouterr().err


def test_parity_refuses_when_data_are_others_or_nothing_was_certified(artifact: Artifact, dataset: Dataset) -> None:
    with pytest.raises(DataError):
        certify_parity_here(artifact, load_dataset("synthetic", rows=20_000, seed=1))
    with pytest.raises(EngineMissing, match="Did you mean 'native'"):
        certify_parity_here(artifact, dataset, engines=["natve"])
    bare = Artifact.open(artifact.path)
    draft = Draft("certify", parent=bare)
    draft.remove(f"variants/{BASELINE}/certificates/")
    with pytest.raises(CertificateRequired, match="no variant has a quality certificate"):
        certify_parity_here(draft.commit(artifact.path.with_name("bare")), dataset)


def test_command_writes_parity_beside_the_artifact_when_asked(
    artifact: Artifact, tmp_path: Path, elsewhere: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parity.json"
    options = ["--data", "synthetic", "--rows", "20000", "--parity", "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main(["certify", str(artifact.path), *options])
    assert not ended.value.code
    report = json.loads(out.read_text())
    assert {one["instruction_set"] for one in report["certificates"]} == {ELSEWHERE}
    shown = capsys.readouterr().out
    assert all(engine in shown for engine in ENGINES)
    kept = sorted(path.name for path in artifact.evidence().rglob("parity-*.json"))
    assert kept == sorted(f"parity-{engine}.cpu.{ELSEWHERE}.json" for engine in ENGINES)


@pytest.mark.parametrize("option", [["--margin", "0.1"], ["--no-slices"], ["--procedure", "holm"]])
def test_command_refuses_options_that_parity_would_ignore(
    artifact: Artifact, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["certify", str(artifact.path), "--parity", *option])
    assert ended.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_kept_rows_are_spread_over_all_when_there_are_many() -> None:
    assert kept_rows(7).tolist() == list(range(7))
    many = kept_rows(3 * MOST_ROWS)
    assert len(many) == MOST_ROWS
    assert (many[0], many[-1]) == (0, 3 * MOST_ROWS - 1)
    assert set(np.diff(many)) <= {2, 3, 4}
