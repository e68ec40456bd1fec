"""Which variant and engine the gate lets through, over certificates of a real artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from e2e.small_served import ENGINE, certify_small, encoded_batch
from rankine.artifact import Artifact, Draft
from rankine.certification import certify_parity
from rankine.certification.plan import SERVED, parity_file, served_digest
from rankine.compilation.binding import Settings
from rankine.compilation.compile import compile_artifact
from rankine.demo.contest import contestant
from rankine.environment import instruction_set
from rankine.errors import ArtifactError, CertificateRequired, EngineMissing
from rankine.models.variant import BASELINE, Variant
from rankine.observation.timings import FORMS, EngineTiming
from rankine.serving import ServeConfig
from rankine.serving.gate import choose
from rankine.serving.model import open_model

pytestmark = pytest.mark.e2e
OTHER = "other"


def _with_other_engine(artifact: Artifact, path: Path, *, same_form: bool = True, noise: float = 0.0) -> Artifact:
    """A child that was also built for another engine, which has a parity certificate."""
    build = f"variants/{BASELINE}/builds/{ENGINE}/build.json"
    text = artifact.read_bytes(build).decode()
    draft = Draft("certify", parent=artifact)
    form = text if same_form else text.replace('"numeric_form": "', '"numeric_form": "own-')
    draft.put_bytes(f"variants/{BASELINE}/builds/{OTHER}/build.json", form.encode())
    built = draft.commit(path.with_name(f"{path.name}-built"))
    draft = Draft("certify", parent=built)
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 2000)
    logits = labels + random.normal(size=len(labels))
    certificate = certify_parity(
        labels, logits, logits + noise * random.normal(size=len(labels)), margin=0.001, variant=BASELINE, engine=OTHER,
        device="cpu", instruction_set=instruction_set(), reference_engine=ENGINE,
        provenance={SERVED: served_digest(built, BASELINE, OTHER)},
    )  # fmt: skip
    draft.put_json(parity_file(BASELINE, OTHER), certificate)
    return draft.commit(path)


def test_choose_follows_the_plan_when_nothing_is_named(artifact: Artifact) -> None:
    choice = choose(artifact)
    assert (choice.variant, choice.engine, choice.certified) == (BASELINE, ENGINE, True)
    assert choice.parity is None


def test_choose_takes_another_engine_when_its_parity_is_admitted(artifact: Artifact, tmp_path: Path) -> None:
    choice = choose(_with_other_engine(artifact, tmp_path / "a"), engine=OTHER)
    assert choice.certified
    assert choice.parity is not None
    assert choice.quality is not None
    assert choice.quality.engine == ENGINE


@pytest.mark.parametrize(
    ("same_form", "noise", "reason"), [(False, 0.0, "numeric form is another"), (True, 3.0, "is not admitted")]
)
def test_choose_refuses_another_engine_when_parity_does_not_cover_it(
    artifact: Artifact, tmp_path: Path, same_form: bool, noise: float, reason: str
) -> None:
    other = _with_other_engine(artifact, tmp_path / "a", same_form=same_form, noise=noise)
    with pytest.raises(CertificateRequired, match=reason):
        choose(other, engine=OTHER)


def test_choose_refuses_parity_when_the_variant_itself_did_not_pass(compiled: Artifact, tmp_path: Path) -> None:
    failed = certify_small(compiled, tmp_path / "failed", passed=False)
    with pytest.raises(CertificateRequired, match=f"no passed quality certificate on '{ENGINE}'"):
        choose(_with_other_engine(failed, tmp_path / "a"), engine=OTHER)


@pytest.mark.parametrize("prefix", ["builds/", "tables/", "graph.onnx", "checkpoint/"])
def test_choose_refuses_when_anything_that_was_certified_is_another(
    artifact: Artifact, tmp_path: Path, prefix: str
) -> None:
    for number, name in enumerate(artifact.names(f"variants/{BASELINE}/{prefix}")):
        draft = Draft("compile", parent=artifact)
        draft.put_bytes(name, artifact.read_bytes(name) + b"\n")
        with pytest.raises(CertificateRequired, match="neither a quality nor a parity"):
            choose(draft.commit(tmp_path / f"changed-{number}"))


def test_choose_reads_a_certificate_when_it_lies_beside_the_artifact(artifact: Artifact, tmp_path: Path) -> None:
    other = _with_other_engine(artifact, tmp_path / "a")
    name = parity_file(BASELINE, OTHER)
    raw = other.read_bytes(name)
    draft = Draft("certify", parent=other)
    draft.remove(name)
    bare = draft.commit(tmp_path / "bare")
    with pytest.raises(CertificateRequired):
        choose(bare, engine=OTHER)
    beside = bare.evidence() / name
    beside.parent.mkdir(parents=True)
    beside.write_bytes(raw)
    assert choose(bare, engine=OTHER).certified


def test_choose_serves_the_only_build_when_uncertified_is_allowed(compiled: Artifact) -> None:
    choice = choose(compiled, allow_uncertified=True)
    assert (choice.variant, choice.engine, choice.certified) == (BASELINE, ENGINE, False)


def test_opened_model_is_not_certified_when_something_that_may_run_is_not(
    compiled: Artifact, artifact: Artifact
) -> None:
    for served, certified in ((artifact, True), (compiled, False)):
        model = open_model(ServeConfig(artifact=served.path, allow_uncertified=True))
        model.runner.close()
        assert model.certified is certified
    remote = ServeConfig(artifact=artifact.path, remote=("http://127.0.0.1:1",), allow_uncertified=True)
    model = open_model(remote)
    model.runner.close()
    assert not model.certified, "another server may run anything then"


@pytest.mark.parametrize(("variant", "engine", "hint"), [("basline", None, "baseline"), (None, "onnxruntme", ENGINE)])
def test_choose_suggests_what_was_meant_when_a_name_is_wrong(
    artifact: Artifact, variant: str | None, engine: str | None, hint: str
) -> None:
    with pytest.raises(ArtifactError if engine is None else EngineMissing, match=f"Did you mean '{hint}'"):
        choose(artifact, variant=variant, engine=engine)


def test_choose_refuses_the_whole_graph_when_its_parts_were_certified_with_rounded_items(
    artifact: Artifact, compiled: Artifact, tmp_path: Path
) -> None:
    assert choose(artifact, split=False).certified
    rounded = Settings(storage="int8")
    built = compile_artifact(
        compiled, engines=[ENGINE], split=rounded, verify_batch=encoded_batch(200, 1), out=tmp_path / "built"
    )
    certified = certify_small(built, tmp_path / "certified")
    assert choose(certified).certified
    with pytest.raises(CertificateRequired, match="certificates of its parts, which round"):
        choose(certified, split=False)
    assert not choose(certified, split=False, allow_uncertified=True).certified


def test_choose_refuses_the_whole_graph_when_its_parts_were_certified_in_int8(
    compiled: Artifact, tmp_path: Path
) -> None:
    name = f"variants/{BASELINE}/variant.json"
    draft = Draft("compress", parent=compiled)
    draft.put_json(name, compiled.read_json(name, Variant).model_copy(update={"numeric": "int8"}))
    certified = certify_small(draft.commit(tmp_path / "int8"), tmp_path / "certified")
    assert choose(certified).certified
    with pytest.raises(CertificateRequired, match=r"which round.*compiled with --no-split"):
        choose(certified, split=False)
    assert not choose(certified, split=False, allow_uncertified=True).certified
    parts, whole = (EngineTiming(variant=BASELINE, engine=ENGINE, form=form, rows=512) for form in FORMS)
    assert contestant(certified, parts).certified
    assert not contestant(certified, whole).certified  # the demonstration serves it as not certified
