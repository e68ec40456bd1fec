"""Train, compress, compile and certify on little data: what each stage leaves to the next."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.trained_model import FIT
from rankine.artifact import Artifact, Draft
from rankine.certification import CertifySettings
from rankine.certification.certify import certify
from rankine.certification.compare import Comparison, compare_artifacts
from rankine.certification.ledger import read_uses
from rankine.certification.margins import Margins
from rankine.certification.named import named
from rankine.certification.plan import (
    PLAN_FILE,
    Plan,
    certified_pairs,
    parity_certificates,
    parity_file,
    quality_certificates,
    quality_file,
    served_digest,
    task_certificates,
)
from rankine.cli import main
from rankine.cli.inspect import require_pass, view_of
from rankine.compilation.compile import build_names, compile_artifact
from rankine.compression.compress import compress
from rankine.compression.recipe import Distill, Prune, Quantize, Recipe
from rankine.data import Dataset, load_dataset
from rankine.errors import ArtifactError, CertificateRequired, DataError, QualityGateFailed, UsageError
from rankine.events import Event
from rankine.models.schema import Schema, Task
from rankine.models.variant import BASELINE, read_variant, variant_names
from rankine.planning.ladder import read_ladder
from rankine.planning.optimize import optimize, verification_rows
from rankine.serving.gate import choose
from rankine.training.record import TRAINING_FILE, TrainingRecord
from rankine.training.train import train

pytestmark = pytest.mark.engine
RECIPE = Recipe(passes=(Distill(hidden=(8,), fit=FIT), Quantize(calibration_rows=512)))


@pytest.fixture(scope="module")
def optimized(baseline: Artifact, dataset: Dataset) -> Artifact:
    return optimize(baseline, (RECIPE,), dataset, margin=0.2, out=baseline.path.with_name("optimized"))


def test_training_record_names_data_and_splits_when_trained(baseline: Artifact, dataset: Dataset) -> None:
    record = baseline.read_json(TRAINING_FILE, TrainingRecord)
    assert record.rows == {"train": 16_000, "validation": 2_000, "test": 2_000}
    assert dict(record.provenance) == dict(dataset.provenance)
    assert record.best_auc == dataset.best_auc


def test_optimize_certifies_every_variant_on_one_engine_and_plans_a_pair(optimized: Artifact) -> None:
    assert variant_names(optimized) == [BASELINE, "small-fp32", "small-int8"]
    qualities, parities = quality_certificates(optimized), parity_certificates(optimized)
    for variant in variant_names(optimized):
        engines = set(build_names(optimized, variant))
        certified = {engine for name, engine in qualities if name == variant}
        assert len(certified) == 1
        assert {engine for name, engine in parities if name == variant} == engines - certified
    choice = choose(optimized)
    assert choice.certified
    assert (choice.variant, choice.engine) in certified_pairs(optimized)


def test_plan_is_the_rung_of_the_ladder_when_optimized(optimized: Artifact) -> None:
    ladder, plan = read_ladder(optimized), optimized.read_json(PLAN_FILE, Plan)
    rung = ladder.at(0.2) if ladder else None
    assert rung is not None
    assert (plan.variant, plan.engine) in {(rung.variant, rung.engine), (BASELINE, plan.engine)}


def test_recipe_is_refused_before_any_pass_when_a_student_comes_too_late(baseline: Artifact, dataset: Dataset) -> None:
    recipe = Recipe(passes=(Prune(), Distill()))
    told: list[Event] = []
    out = baseline.path.with_name("too-late")
    with pytest.raises(UsageError, match=r"'distill' needs a reference model, and 'prune' .*Put 'distill' first"):
        compress(baseline, recipe, dataset, out=out, emit=told.append)
    assert told == []
    assert not out.exists()


def test_baseline_certificate_shows_no_change_when_engines_agree(optimized: Artifact) -> None:
    certificate = next(found for (name, _), found in quality_certificates(optimized).items() if name == BASELINE)
    assert abs(certificate.delta) < 1e-5
    assert certificate.passed


def test_variants_are_tested_in_one_order_when_there_are_two(optimized: Artifact) -> None:
    found = {pair: c.multiplicity for pair, c in quality_certificates(optimized).items()}
    taken = {pair: multiplicity for pair, multiplicity in found.items() if multiplicity is not None}
    assert {variant for variant, _ in taken} == {"small-fp32", "small-int8"}, "the baseline is no part of it"
    [order] = {multiplicity.order for multiplicity in taken.values()}
    assert sorted(order) == sorted(f"{variant} on {engine}" for variant, engine in taken)
    assert sorted(multiplicity.position for multiplicity in taken.values()) == [1, 2]
    assert {multiplicity.procedure for multiplicity in taken.values()} == {"fixed-sequence"}


def test_certificate_names_what_it_was_taken_on_when_made(optimized: Artifact) -> None:
    certificate = next(c for (variant, _), c in quality_certificates(optimized).items() if variant == "small-int8")
    files = optimized.manifest.files
    provenance = certificate.provenance
    assert provenance["graph"] == files["variants/small-int8/graph.onnx"].sha256
    assert provenance["baseline_graph"] == files["variants/baseline/graph.onnx"].sha256
    assert provenance["recipe"] == files["recipe.json"].sha256
    assert provenance["baseline_served"] == served_digest(optimized, BASELINE, provenance["baseline_engine"])
    assert {"rows", "tables", "split", "baseline_tables", "baseline_engine", "data.seed"} <= provenance.keys()
    assert any(test.name.startswith("device=") and test.tested for test in certificate.slices)
    assert any(test.name.startswith("user rare") for test in certificate.slices)


def test_certificates_name_the_recipe_of_their_own_variant_when_there_are_two(
    baseline: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    recipes = [
        Recipe(name=name, passes=(Quantize(calibration_rows=512, tables=form),))
        for name, form in (("wide", "int8"), ("narrow", "int4"))
    ]
    found = optimize(baseline, recipes, dataset, margin=0.2, out=tmp_path / "two", engines=["onnxruntime", "eager"])
    named_recipes = {
        variant: certificate.provenance["recipe"]
        for (variant, _), certificate in quality_certificates(found).items()
        if variant != BASELINE
    }
    files = found.manifest.files
    assert named_recipes == {
        name: files[f"variants/{name}/recipe.json"].sha256 for name in ("wide-int8", "narrow-int8")
    }
    assert len(set(named_recipes.values())) == 2
    kept = [found.read_json(f"variants/{one.name}-int8/recipe.json", Recipe) for one in recipes]
    assert kept == recipes


def test_uses_of_the_test_split_are_counted_and_carried_when_certified_again(
    optimized: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    before = read_uses(optimized)
    again = certify(optimized, dataset, margin=0.2, settings=CertifySettings(slices=False), out=tmp_path / "again")
    after = read_uses(again)
    assert before is not None
    assert after is not None
    assert after.count > before.count
    assert after.uses[:-1] == before.uses
    assert after.uses[-1].artifact == optimized.digest
    certificates = quality_certificates(again).values()
    assert {certificate.split_uses for certificate in certificates} == {after.count}
    assert all(certificate.slices == () for certificate in certificates)


def test_older_certificate_is_refused_with_the_next_step_when_read(optimized: Artifact, tmp_path: Path) -> None:
    pair, certificate = next(iter(quality_certificates(optimized).items()))
    values = certificate.model_dump(mode="json") | {"schema_version": 1}
    draft = Draft("older", parent=optimized)
    draft.put_bytes(quality_file(*pair, certificate.task), json.dumps(values).encode())
    with pytest.raises(ArtifactError, match=r"older version.*Certify again: `rankine certify"):
        quality_certificates(draft.commit(tmp_path / "older"))


def test_variant_is_held_against_another_when_two_are_named(optimized: Artifact, dataset: Dataset) -> None:
    # Which variant is served is decided by timings: where it is the baseline itself, its name means the plan's engine.
    plan = optimized.read_json(PLAN_FILE, Plan)
    a, b = named(f"{optimized.path}:{BASELINE}"), named(f"{optimized.path}:small-int8")
    assert a.engine == (plan.engine if plan.variant == BASELINE else "eager")
    a = replace(a, engine="eager")
    found = compare_artifacts(a, b, dataset, margin=0.2, settings=CertifySettings(slice_fields=("device",)))
    [certificate] = found.certificates
    inside = {v: c for (v, _), c in quality_certificates(optimized).items()}["small-int8"]
    assert found.verdict == "pass"
    assert certificate.auc.baseline == inside.auc.baseline
    assert certificate.auc.variant == pytest.approx(inside.auc.variant, abs=1e-4)
    assert {test.name.split("=")[0] for test in certificate.slices} >= {"device"}
    assert certificate.provenance["baseline_graph"] == inside.provenance["baseline_graph"]


@pytest.mark.parametrize(("margin", "status"), [("0.2", 0), ("1e-9", 3)])
def test_command_holds_a_variant_against_another_when_two_are_named(
    margin: str, status: int, optimized: Artifact, tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    models = [f"{optimized.path}:{variant}" for variant in (BASELINE, "small-int8")]
    given = ["certify", *models, "--data", "synthetic", "--rows", "20000", "--margin", margin, "--no-slices"]
    with pytest.raises(SystemExit) as ended:
        main([*given, "--out", str(out)])
    assert (ended.value.code or 0) == status
    result = Comparison.model_validate_json(out.read_text())
    [certificate] = result.certificates
    inside = {variant: found for (variant, _), found in quality_certificates(optimized).items()}["small-int8"]
    assert (result.verdict == "pass") == (status == 0)
    assert certificate.margin == float(margin)
    # Not to the last bit: where timings made the baseline the plan's variant, it is scored on the plan's engine.
    assert certificate.auc.baseline == pytest.approx(inside.auc.baseline, abs=1e-5)
    assert certificate.auc.delta == pytest.approx(inside.auc.delta, abs=1e-4)


def test_name_is_the_served_variant_when_only_the_artifact_is_given(baseline: Artifact, optimized: Artifact) -> None:
    found = named(str(optimized.path))
    plan = optimized.read_json(PLAN_FILE, Plan)
    assert found.pair == (plan.variant, plan.engine)
    with pytest.raises(ArtifactError, match="has no variant 'smal-int8'"):
        named(f"{optimized.path}:smal-int8")
    with pytest.raises(ArtifactError, match="was not compiled"):
        named(str(baseline.path))


def test_name_is_refused_when_there_are_several_variants_and_no_plan(optimized: Artifact, tmp_path: Path) -> None:
    draft = Draft("unplanned", parent=optimized)
    draft.remove(PLAN_FILE)
    unplanned = draft.commit(tmp_path / "unplanned")
    with pytest.raises(UsageError, match=r"has several variants.*unplanned:small-int8"):
        named(str(unplanned.path))


def test_models_are_not_compared_when_they_read_other_features(
    optimized: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    schema = optimized.read_json("schema.json", Schema)
    draft = Draft("other", parent=optimized)
    draft.put_json("schema.json", schema.model_copy(update={"features": schema.features[:-1]}))
    other = draft.commit(tmp_path / "other")
    with pytest.raises(UsageError, match=r"do not have the same schema.*features.*two files of scores"):
        compare_artifacts(named(str(optimized.path)), named(str(other.path)), dataset)


def test_variant_is_really_smaller_when_compressed(optimized: Artifact) -> None:
    sizes = {variant.name: variant.size_bytes for variant in view_of(optimized).variants}
    assert sizes["small-int8"] < sizes["small-fp32"] < sizes[BASELINE]
    macs = [read_variant(optimized, name).macs_per_row for name in ("small-int8", BASELINE)]
    assert macs[0] < macs[1]


def test_second_recipe_of_one_name_adds_variants_when_applied(
    optimized: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    plain = Recipe(passes=(Quantize(calibration_rows=512),))
    again = compress(optimized, plain, dataset, out=tmp_path / "again")
    third = compress(again, plain, dataset, out=tmp_path / "third")
    assert variant_names(third) == [BASELINE, "small-fp32", "small-int8", "small-int8-2", "small-int8-3"]
    recipes = [third.read_json(f"variants/small-int8{end}/recipe.json", Recipe) for end in ("", "-2", "-3")]
    assert recipes == [RECIPE, plain, plain]
    assert certified_pairs(third) == certified_pairs(optimized), (
        "what was certified is untouched, the rest is not certified"
    )


def test_recompiled_artifact_has_no_certificates_when_not_certified_again(
    optimized: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    rows = verification_rows(optimized, dataset)
    compiled = compile_artifact(optimized, verify_batch=rows, out=tmp_path / "compiled")
    assert PLAN_FILE not in compiled
    assert certified_pairs(compiled) == set()
    with pytest.raises(CertificateRequired):
        choose(compiled)


def test_gate_fails_when_the_margin_cannot_be_shown(baseline: Artifact, dataset: Dataset, tmp_path: Path) -> None:
    narrow = Recipe(passes=(Distill(hidden=(1,), cross_layers=0, drawn_rows=0, warm_start=False, fit=FIT),))
    compressed = compress(baseline, narrow, dataset, out=tmp_path / "compressed")
    rows = verification_rows(compressed, dataset)
    compiled = compile_artifact(compressed, engines=["onnxruntime"], verify_batch=rows, out=tmp_path / "compiled")
    certified = certify(compiled, dataset, margin=1e-6, out=tmp_path / "certified")
    with pytest.raises(QualityGateFailed, match="no compressed variant passed"):
        require_pass(certified)
    with pytest.raises(QualityGateFailed, match="no certificate for"):
        require_pass(compiled)


def test_every_task_is_certified_and_the_worst_decides_when_there_are_two(dataset: Dataset, tmp_path: Path) -> None:
    tasks = (Task(name="click"), Task(name="stay", weight=0.5, link="identity"))
    noise = np.random.default_rng(0).random((dataset.rows, 1)) < 0.1
    two = replace(
        dataset,
        schema=dataset.schema.model_copy(update={"tasks": tasks, "ranking": "click * stay"}),
        labels=np.hstack([dataset.labels, np.where(noise, 1 - dataset.labels, dataset.labels)]),
    )
    baseline = train(two, {"architecture": "dcn_v2", "hidden": (16,)}, FIT, out=tmp_path / "two", name="two")
    recipe = Recipe(
        name="small", passes=(Distill(hidden=(4,), drawn_rows=0.1, fit=FIT), Quantize(calibration_rows=512))
    )
    # As a user's schema reads the data: without the links that were found when the model was made.
    unlinked = tuple(task.model_copy(update={"link": "sigmoid"}) for task in tasks)
    two = replace(two, schema=two.schema.model_copy(update={"tasks": unlinked}))
    lenient = Margins.of(0.2).model_copy(update={"calibration": None})  # two epochs do not calibrate a network
    optimized = optimize(baseline, (recipe,), two, margin=lenient, out=tmp_path / "optimized")
    by_task = task_certificates(optimized)
    worst = quality_certificates(optimized)
    assert {variant for variant, _ in by_task} == {BASELINE, "small-fp32", "small-int8"}
    for pair, found in by_task.items():
        assert list(found) == ["click", "stay"]
        assert {certificate.task for certificate in found.values()} == {"click", "stay"}
        assert worst[pair].p_value == max(certificate.p_value for certificate in found.values())
        assert found["click"].auc.judged
    for parity in parity_certificates(optimized).values():
        assert set(parity.tasks) == {"click", "stay"}
    assert choose(optimized).certified
    draft = Draft("partial", parent=optimized)
    pair = next(pair for pair in by_task if pair[0] == "small-int8")
    draft.remove(quality_file(*pair, "stay"))
    partial = draft.commit(tmp_path / "partial")
    assert pair in certified_pairs(optimized)
    assert pair not in certified_pairs(partial), "a task without a certificate is not certified"


def test_parity_certifies_nothing_when_it_leaves_out_a_task(
    baseline: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    rows = verification_rows(baseline, dataset)
    compiled = compile_artifact(baseline, engines=["eager", "onnxruntime"], verify_batch=rows, out=tmp_path / "built")
    certified = certify(compiled, dataset, margin=0.2, out=tmp_path / "certified")
    [(pair, parity)] = parity_certificates(certified).items()
    assert pair in certified_pairs(certified)
    draft = Draft("partial", parent=certified)
    draft.put_json(parity_file(*pair), parity.model_copy(update={"tasks": {"another": 0.0}}))
    assert pair not in certified_pairs(draft.commit(tmp_path / "partial"))


def test_certify_refuses_when_only_the_oracle_was_built(baseline: Artifact, dataset: Dataset, tmp_path: Path) -> None:
    rows = verification_rows(baseline, dataset)
    compiled = compile_artifact(baseline, engines=["reference"], verify_batch=rows, out=tmp_path / "compiled")
    with pytest.raises(ArtifactError, match="no engine to serve from"):
        certify(compiled, dataset, out=tmp_path / "certified")


def test_other_data_is_refused_when_compressing(baseline: Artifact, tmp_path: Path) -> None:
    other = load_dataset("synthetic", rows=20_000, seed=1)
    with pytest.raises(DataError, match="not the data that the baseline was trained on"):
        compress(baseline, RECIPE, other, out=tmp_path / "compressed")


def test_existing_out_is_refused_before_the_work_when_compressing(
    baseline: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    events: list[object] = []
    with pytest.raises(ArtifactError, match="already there"):
        compress(baseline, RECIPE, dataset, out=tmp_path, emit=events.append)
    assert events == []
