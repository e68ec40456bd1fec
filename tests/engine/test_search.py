"""Search over recipes on little data, from the sketch to the certified ladder; interrupted, and done twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.trained_model import FIT
from rankine.artifact import Artifact, read_record
from rankine.certification.plan import certified_pairs
from rankine.cli import main
from rankine.cli.inspect import view_of
from rankine.cli.optimize import _require_rung, command
from rankine.compilation.probe_graphs import linear_chain
from rankine.compression.compress import compress
from rankine.compression.recipe import Distill, LowRank, Prune, Quantize, Recipe
from rankine.compression.search import Evaluation, Fidelity, SearchSettings, SearchSpace, Target
from rankine.config import dump_yaml
from rankine.data import Dataset
from rankine.errors import QualityGateFailed, UsageError
from rankine.events import Event, Progress, ignore
from rankine.models.variant import BASELINE, read_variant, variant_names
from rankine.planning.ladder import Ladder, read_ladder
from rankine.planning.latency_model import LatencyModel
from rankine.planning.latency_table import write_table
from rankine.planning.measure_latency import SCALES as BOUNDS
from rankine.planning.measure_latency import measure_latency
from rankine.planning.search import optimize_by_search
from rankine.planning.search_plan import SEARCH_FILE, SearchPlan, SearchRecord

pytestmark = pytest.mark.engine

STUDENTS = tuple((Distill(hidden=(width,), cross_layers=0, drawn_rows=0.1, fit=FIT),) for width in (8, 16, 24))
SPACE = SearchSpace(
    forms=(*STUDENTS, (LowRank(macs=0.5, tune=None),), ()), quantizations=(Quantize(calibration_rows=512),)
)
SETTINGS = SearchSettings(
    fidelities=(Fidelity(rows=0.3, least_rows=1000, epochs=1),), finalists=2, largest_loss=0.5, hopeless=0.5, threads=1
)
MARGIN = 0.2


@pytest.fixture(scope="module")
def latency() -> LatencyModel:
    return LatencyModel(measure_latency(engines=["onnxruntime"], rows=(1, 512), widths=(8, 64), check=False))


@pytest.fixture(scope="module")
def found(baseline: Artifact, dataset: Dataset, latency: LatencyModel) -> Artifact:
    return searched(baseline, dataset, latency, "found")


def test_measured_table_predicts_more_for_more_work_when_it_is_small(latency: LatencyModel) -> None:
    assert set(latency.table.engines) == {"onnxruntime"}
    assert latency.layer_ms(512, 64, 64, "fp32") > latency.layer_ms(1, 8, 8, "fp32")
    assert latency.latency_ms(linear_chain(64, 64, 2), 512) > latency.latency_ms(linear_chain(8, 8, 1), 1)


def test_sums_are_scaled_by_whole_models_when_the_table_is_checked() -> None:
    table = measure_latency(engines=["onnxruntime"], rows=(1, 512), widths=(8, 64))
    scale = table.engines["onnxruntime"].scale
    assert scale.keys() == {"fp32", "int8"}
    # The INT8 graphs have a head in FP32; of those that are FP32 throughout, the median one is met exactly.
    checks = [check for check in table.checks if (check.numeric, check.rows) == ("fp32", 512)]
    _, median, _ = sorted(check.measured_ms / check.predicted_ms for check in checks)
    assert median == pytest.approx(1) or scale["fp32"] in BOUNDS
    assert table.error is not None


def searched(
    baseline: Artifact,
    dataset: Dataset,
    latency: LatencyModel,
    name: str,
    emit: Callable[[Event], None] = ignore,
    settings: SearchSettings = SETTINGS,
) -> Artifact:
    folder = baseline.path.parent
    plan = SearchPlan(margin=MARGIN, work=folder / f"{name}.search", space=SPACE, settings=settings)
    return optimize_by_search(
        baseline, dataset, plan, latency, out=folder / name, baseline_512_ms=1.0, engines=["onnxruntime"], emit=emit
    )


def ladder_of(artifact: Artifact) -> Ladder:
    ladder = read_ladder(artifact)
    assert ladder is not None
    return ladder


def decided(artifact: Artifact) -> list[tuple[float, str, str, float]]:
    """What a ladder says apart from measured times, down to the weights."""
    return [
        (step.margin, step.variant, artifact.manifest.files[f"variants/{step.variant}/graph.onnx"].sha256, step.delta)
        for step in (*ladder_of(artifact).rungs, *ladder_of(artifact).others)
    ]


def test_search_ends_in_a_certified_ladder_when_it_finds_something(found: Artifact) -> None:
    ladder = ladder_of(found)
    assert ladder.rungs
    pairs = certified_pairs(found)
    for rung in ladder.rungs:
        assert (rung.variant, rung.engine) in pairs
        assert rung.ci_low > -rung.margin
        assert set(rung.p50_ms) == {"1", "64", "512"}
        assert all(name in found for name in rung.certificates)
        assert read_variant(found, rung.variant).parent == BASELINE
    margins = [rung.margin for rung in ladder.rungs]
    assert margins == sorted(margins)


def test_inspect_prints_margin_bounds_and_times_of_every_rung_when_there_is_a_ladder(
    found: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(found.path)])
    assert not ended.value.code
    ladder, words = ladder_of(found), capsys.readouterr().out.split()
    base = ladder.baseline
    assert {f"{base.p50_ms[rows]:.3f}" for rows in ("1", "64", "512")} <= set(words)
    for rung in ladder.rungs:
        shown = {f"{rung.margin:g}", rung.variant, f"{rung.delta:+.5f}", f"{rung.ci_low:+.5f}", f"{rung.ci_high:+.5f}"}
        shown |= {f"{rung.p50_ms[rows]:.3f}" for rows in ("1", "64", "512")}
        shown |= {f"({rung.p50_ms[rows] / base.p50_ms[rows]:.1%})" for rows in ("1", "64", "512")}
        assert shown <= set(words)


def test_artifact_tells_how_each_variant_was_made_when_searched(found: Artifact) -> None:
    record = found.read_json(SEARCH_FILE, SearchRecord)
    assert record.space == SPACE
    for variant in variant_names(found):
        if variant != BASELINE:
            recipe = found.read_json(f"variants/{variant}/recipe.json", Recipe)
            assert recipe.passes[: len(STUDENTS[0])] in SPACE.forms
            assert variant in record.variants


def test_low_fidelity_decides_which_students_are_trained_in_full_when_there_are_many(found: Artifact) -> None:
    records = [path.read_text() for path in (found.path.parent / "found.search" / "evaluations").glob("*.json")]
    distilled = [text for text in records if '"type": "quantize"' not in text.split('"fidelity"')[0]]
    assert sum('"fidelity": "0.3>1000x1"' in text for text in distilled) == len(STUDENTS)
    in_full = [text for text in distilled if '"fidelity": "full"' in text and '"type": "distill"' in text]
    assert len(in_full) == SETTINGS.finalists


class Interrupt:
    """Ends the run in the middle of a training, as Ctrl-C does."""

    def __init__(self, trainings: int) -> None:
        self._left = trainings

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress) and event.task == "distill student" and event.detail.startswith("epoch"):
            self._left -= 1
            if not self._left:
                raise KeyboardInterrupt


def test_interrupted_search_gives_the_same_ladder_when_started_again(
    found: Artifact, baseline: Artifact, dataset: Dataset, latency: LatencyModel
) -> None:
    with pytest.raises(KeyboardInterrupt):
        searched(baseline, dataset, latency, "again", Interrupt(trainings=3))
    evaluations = baseline.path.parent / "again.search" / "evaluations"
    before = {path.name: path.stat().st_mtime_ns for path in evaluations.iterdir()}
    assert before, "the search has to be interrupted after something was done"
    again = searched(baseline, dataset, latency, "again")
    after = {path.name: path.stat().st_mtime_ns for path in evaluations.iterdir()}
    assert {name: after[name] for name in before} == before, "what was done is not done again"
    assert after.keys() == {path.name for path in (found.path.parent / "found.search" / "evaluations").iterdir()}
    assert decided(again) == decided(found), "also: a second run with the same seed gives the same"


def test_search_trains_nothing_when_its_work_folder_has_it_all(
    found: Artifact, baseline: Artifact, dataset: Dataset, latency: LatencyModel
) -> None:
    shutil.copytree(found.path.parent / "found.search", found.path.parent / "copy.search", symlinks=True)
    with forbidden_training():
        copy = searched(baseline, dataset, latency, "copy")
    assert decided(copy) == decided(found)


def test_evaluations_are_done_again_when_they_are_of_another_version(
    found: Artifact, baseline: Artifact, dataset: Dataset, latency: LatencyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(found.path.parent / "found.search", found.path.parent / "newer.search", symlinks=True)
    monkeypatch.setattr("rankine.planning.search.__version__", "another")
    with forbidden_training(), pytest.raises(AssertionError, match="nothing is left to train"):
        searched(baseline, dataset, latency, "newer")


def test_round_counts_down_what_is_not_known_when_it_was_interrupted(
    found: Artifact, baseline: Artifact, dataset: Dataset, latency: LatencyModel
) -> None:
    shutil.copytree(found.path.parent / "found.search", found.path.parent / "told.search", symlinks=True)
    told: list[Event] = []
    searched(baseline, dataset, latency, "told", told.append)
    rounds = [
        event.detail for event in told if isinstance(event, Progress) and event.task.startswith(("train at", "qu"))
    ]
    assert rounds
    assert set(rounds) == {""}, "all is known, so no time is left"


def test_search_trains_one_candidate_when_there_is_no_time(
    baseline: Artifact, dataset: Dataset, latency: LatencyModel, tmp_path: Path
) -> None:
    hurried = SearchPlan(margin=MARGIN, work=tmp_path, space=SPACE, settings=SETTINGS, time_budget_s=1e-6)
    artifact = optimize_by_search(
        baseline, dataset, hurried, latency, out=tmp_path / "out", baseline_512_ms=1.0, engines=["onnxruntime"]
    )
    assert ladder_of(artifact).rungs
    trained = [read_record(path, Evaluation) for path in (tmp_path / "evaluations").iterdir()]
    learned = [each.fidelity for each in trained if [step.type for step in each.passes] == ["distill"]]
    assert {name: learned.count(name) for name in learned} == {"sketch": len(STUDENTS), "full": 1}


def test_what_is_known_counts_when_there_is_no_time(
    found: Artifact, baseline: Artifact, dataset: Dataset, latency: LatencyModel
) -> None:
    work = found.path.parent / "known.search"
    shutil.copytree(found.path.parent / "found.search", work, symlinks=True)
    hurried = SearchPlan(margin=MARGIN, work=work, space=SPACE, settings=SETTINGS, time_budget_s=1e-6)
    out = found.path.parent / "known"
    with forbidden_training():
        known = optimize_by_search(
            baseline, dataset, hurried, latency, out=out, baseline_512_ms=1.0, engines=["onnxruntime"]
        )
    assert decided(known) == decided(found)


@contextmanager
def forbidden_training() -> Iterator[None]:
    def refuse(*given: object, **named: object) -> None:
        raise AssertionError("nothing is left to train")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rankine.compression.distill.fit", refuse)
        yield


def test_search_fails_and_tells_the_best_when_all_lose_too_much(
    found: Artifact, baseline: Artifact, dataset: Dataset, latency: LatencyModel
) -> None:
    shutil.copytree(found.path.parent / "found.search", found.path.parent / "strict.search", symlinks=True)
    strict = SETTINGS.model_copy(update={"largest_loss": 1e-12, "threads": 1})
    space_without_the_lossless = SearchSpace(forms=STUDENTS, quantizations=SPACE.quantizations)
    plan = SearchPlan(
        margin=1e-12, work=found.path.parent / "strict.search", space=space_without_the_lossless, settings=strict
    )
    out = found.path.parent / "strict"
    with pytest.raises(QualityGateFailed, match="lost too much on validation rows"):
        optimize_by_search(baseline, dataset, plan, latency, out=out, baseline_512_ms=1.0)
    assert not out.exists()


def test_search_tells_what_came_closest_when_the_target_is_out_of_reach(
    baseline: Artifact, dataset: Dataset, latency: LatencyModel, tmp_path: Path
) -> None:
    plan = SearchPlan(margin=MARGIN, work=tmp_path, space=SPACE, settings=SETTINGS, target=Target(macs=0.0001))
    with pytest.raises(UsageError, match=r"comes near.*macs="):
        optimize_by_search(baseline, dataset, plan, latency, out=tmp_path / "out", baseline_512_ms=1.0)


def test_command_searches_and_names_what_misses_the_target_when_it_is_not_met(
    baseline: Artifact, latency: LatencyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = SearchSpace(forms=((LowRank(macs=0.5, tune=None),),), quantizations=SPACE.quantizations)
    space, table, out = tmp_path / "space.yaml", tmp_path / "latency.json", tmp_path / "out"
    space.write_text(dump_yaml(small))
    write_table(latency.table, table)
    given = ["optimize", str(baseline.path), "--rows", "20000", "--max-auc-drop", "0.2", "--target", "macs=0.4"]
    given += ["--space", str(space), "--latency-table", str(table), "--engine", "onnxruntime", "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == QualityGateFailed.exit_status
    told = capsys.readouterr()
    assert "came closest: macs=0." in told.err
    assert "ladder" in told.out
    assert (tmp_path / "out.search" / "evaluations").is_dir()
    ladder = ladder_of(Artifact.open(out))
    assert [rung.variant for rung in ladder.rungs] == [ladder.rungs[0].variant]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--target", "speed=0.5"], "latency=SHARE"),
        (["--target", "latency"], "is no target"),
        (["--target", "latency=2"], "no share of the baseline's latency"),
        (["--target", "macs=0.1", "--target", "macs=0.2"], "given twice"),
        (["--time-budget", "soon"], "such as 30m"),
    ],
)
def test_command_refuses_when_an_option_of_the_search_is_wrong(options: list[str], told: str) -> None:
    result = CliRunner().invoke(command, ["model", "--out", "out", *options])
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())


def test_command_refuses_a_recipe_when_it_is_to_search(baseline: Artifact, tmp_path: Path) -> None:
    given = [str(baseline.path), "--out", str(tmp_path / "out"), "--search", "--recipe", "recipe.yaml"]
    result = CliRunner().invoke(command, given)
    assert isinstance(result.exception, UsageError)
    assert "a search makes its own" in str(result.exception)


def test_command_refuses_when_no_rung_is_within_the_margin(found: Artifact) -> None:
    tightest = ladder_of(found).rungs[0].margin
    _require_rung(found, {}, tightest)
    with pytest.raises(QualityGateFailed, match=r"at the margin that was asked for.*search-1"):
        _require_rung(found, {}, tightest / 2)
    with pytest.raises(QualityGateFailed, match=r"came closest: bytes="):
        _require_rung(found, {"bytes": 1e-6}, tightest)


def test_inspect_shows_a_variant_when_a_feature_was_pruned(
    baseline: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    recipe = Recipe(passes=(Prune(what=("fields",), macs=0.4, steps=1, calibration_rows=512, tune=None),))
    pruned = compress(baseline, recipe, dataset, out=tmp_path / "pruned")
    whole, small = (view_of(pruned).variants[place] for place in (0, 1))
    assert small.tables.keys() < whole.tables.keys()
    assert small.bytes_per_row < whole.bytes_per_row
