"""Compiling a whole artifact, opening what was built, and timing it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from engine.installed import installed_engine
from engine.small_model import small_batch
from engine.zoo_model import QUANTIZED
from rankine.artifact import Artifact
from rankine.compilation import engines as registry
from rankine.compilation.binding import Settings
from rankine.compilation.compile import build_names, compile_artifact, is_split, open_runner, read_build
from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.engines.onnxruntime import OnnxRuntime
from rankine.compilation.split_runner import SplitRunner
from rankine.compilation.verify import reference_logits
from rankine.errors import ArtifactError, EngineError, EngineMissing, UsageError
from rankine.events import Event, Failed, Finished, Progress
from rankine.models.columns import Batch
from rankine.models.variant import BASELINE, load_model
from rankine.observation.engines import PROFILE_ROWS, EngineBench, bench_engines, profile_path

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def compiled(zoo: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = tmp_path_factory.mktemp("compiled") / "artifact"
    return compile_artifact(zoo, verify_batch=small_batch(200), out=out)


def test_compile_builds_what_capabilities_allow_when_engines_are_not_named(compiled: Artifact) -> None:
    fp32, int8 = build_names(compiled, BASELINE), build_names(compiled, QUANTIZED)
    assert {"eager", "onnxruntime"} <= set(fp32)
    assert "onnxruntime" in int8
    assert "eager" not in int8
    assert "reference" not in fp32
    assert "inductor" not in fp32  # built on request
    build = read_build(compiled, BASELINE, "onnxruntime")
    assert (build.numeric_form, build.verified_rows) == ("fp32", 200)
    assert build.max_logit_error < 1e-4


def test_open_runner_gives_right_logits_when_the_artifact_is_opened_anew(compiled: Artifact) -> None:
    artifact, batch = Artifact.open(compiled.path), small_batch(33)
    for variant in (BASELINE, QUANTIZED):
        expected = reference_logits(load_model(artifact, variant), batch)
        for engine in build_names(artifact, variant):
            runner, out = open_runner(artifact, variant, engine), np.empty((33, 1), np.float32)
            runner.run(batch, out)
            runner.close()
            np.testing.assert_allclose(out, expected, atol=1e-4 if variant == BASELINE else 0.1)


def test_compile_leaves_the_parent_as_it_was_when_done(zoo: Artifact, compiled: Artifact) -> None:
    assert compiled.manifest.parent == zoo.digest
    assert build_names(zoo, BASELINE) == []
    zoo.verify()
    compiled.verify()


def test_variants_are_whole_when_they_are_not_to_be_split(compiled: Artifact, tmp_path: Path) -> None:
    assert is_split(compiled, BASELINE)
    assert read_build(compiled, BASELINE, "onnxruntime").split is not None
    assert read_build(compiled, BASELINE, "eager").split is None
    again = compile_artifact(
        compiled, engines=["onnxruntime"], split=None, verify_batch=small_batch(50), out=tmp_path / "whole"
    )
    assert not is_split(again, BASELINE)
    assert read_build(again, BASELINE, "onnxruntime").split is None


def test_runner_is_whole_when_its_engine_was_built_for_another_split(compiled: Artifact, tmp_path: Path) -> None:
    again = compile_artifact(
        compiled,
        engines=["openvino"],
        split=Settings(storage="float16"),
        verify_batch=small_batch(50),
        out=tmp_path / "half",
    )
    assert isinstance(open_runner(again, BASELINE, "openvino"), SplitRunner)
    assert not isinstance(open_runner(again, BASELINE, "openvino", split=False), SplitRunner)
    assert not isinstance(open_runner(again, BASELINE, "onnxruntime"), SplitRunner)
    assert read_build(again, BASELINE, "openvino").numeric_form == "fp32, items in float16"
    assert isinstance(open_runner(compiled, BASELINE, "onnxruntime"), SplitRunner)


def test_open_runner_names_what_there_is_when_a_build_is_missing(compiled: Artifact) -> None:
    with pytest.raises(ArtifactError, match="was not built for engine 'reference'"):
        open_runner(compiled, BASELINE, "reference")
    with pytest.raises(ArtifactError, match=r"has no variant 'basline'.*Did you mean 'baseline'"):
        open_runner(compiled, "basline", "onnxruntime")
    with pytest.raises(EngineMissing, match="no such device"):
        open_runner(compiled, BASELINE, "onnxruntime", device="tpu")
    with pytest.raises(EngineError, match="at least one thread"):
        open_runner(compiled, BASELINE, "onnxruntime", threads=0)


@dataclass
class _WrongRunner:
    """Answers zero for every row."""

    def run(self, batch: Batch, out: np.ndarray) -> None:
        out[:] = 0

    def close(self) -> None:
        """Nothing is held."""


class _WrongEngine:
    """An engine that builds and opens, but whose logits are wrong."""

    def capabilities(self) -> Capabilities:
        return Capabilities(name="wrong", version="0")

    def build(self, model: Model, target: Target, folder: Path) -> None:
        (folder / "file").write_text("content")

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> _WrongRunner:
        return _WrongRunner()


def engine() -> _WrongEngine:
    """The entry point, as an engine's file has it."""
    return _WrongEngine()


class _WholeOnly(OnnxRuntime):
    """ONNX Runtime, but for parts."""

    def build(self, model: Model, target: Target, folder: Path) -> None:
        if model.inputs:
            raise EngineError("no parts here", where="whole-only")
        super().build(model, target, folder)


def test_variant_is_served_whole_when_an_engine_cannot_build_its_parts(
    zoo: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    monkeypatch.setattr(f"{__name__}.engine", _WholeOnly)
    monkeypatch.setitem(registry._ENGINES, "whole-only", registry._Entry(__name__, "pip install whole-only"))
    artifact = compile_artifact(
        zoo, engines=["whole-only"], verify_batch=small_batch(50), out=tmp_path / "out", emit=events.append
    )
    build = read_build(artifact, BASELINE, "whole-only")
    assert (build.split, build.verified_rows) == (None, 50)
    assert artifact.names(f"variants/{BASELINE}/builds/whole-only/split/") == []
    assert not isinstance(open_runner(artifact, BASELINE, "whole-only"), SplitRunner)
    assert any("no parts here" in event.detail for event in events if isinstance(event, Progress))


def test_variant_stays_whole_when_its_graph_cannot_be_taken_apart(
    zoo: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a rewrite went wrong")

    monkeypatch.setattr("rankine.compilation.binding.layout.lay_out", broken)
    artifact = compile_artifact(zoo, engines=["onnxruntime"], verify_batch=small_batch(50), out=tmp_path / "out")
    assert not is_split(artifact, BASELINE)
    assert read_build(artifact, BASELINE, "onnxruntime").split is None


@pytest.fixture
def wrong_engine(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(registry._ENGINES, "wrong", registry._Entry(__name__, "pip install wrong"))
    return "wrong"


def test_compile_leaves_an_engine_out_and_tells_when_it_fails(zoo: Artifact, tmp_path: Path, wrong_engine: str) -> None:
    events: list[Event] = []
    names = [wrong_engine, "onnxruntime"]
    out = tmp_path / "out"
    artifact = compile_artifact(zoo, engines=names, verify_batch=small_batch(50), out=out, emit=events.append)
    assert build_names(artifact, BASELINE) == ["onnxruntime"]
    assert artifact.names(f"variants/{BASELINE}/builds/wrong") == []
    failed = [event for event in events if isinstance(event, Failed)]
    assert [event.task for event in failed] == [f"compile {name} for wrong" for name in (BASELINE, QUANTIZED)]
    assert "differ from the reference" in failed[0].reason
    finished = [event.task for event in events if isinstance(event, Finished)]
    assert sum(task.startswith("compile ") for task in finished) == 2


def test_compile_fails_and_writes_nothing_when_no_engine_succeeds(
    zoo: Artifact, tmp_path: Path, wrong_engine: str
) -> None:
    with pytest.raises(EngineError, match=f"{BASELINE}: could be built for no engine.*differ from the reference"):
        compile_artifact(zoo, engines=[wrong_engine], verify_batch=small_batch(50), out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_bench_engines_keeps_a_profile_when_all_run(compiled: Artifact) -> None:
    batches = {rows: small_batch(rows) for rows in PROFILE_ROWS}
    bench = bench_engines(compiled, batches, repeats=6)
    pairs = [(v, e) for v in (BASELINE, QUANTIZED) for e in build_names(compiled, v)]
    forms = [(*pair, form) for pair in pairs for form in ("parts", "whole") if form == "whole" or pair[1] != "eager"]
    assert [(t.variant, t.engine, t.form, t.rows) for t in bench.timings] == [
        (*form, rows) for form in forms for rows in PROFILE_ROWS
    ]
    for timing in bench.timings:
        assert timing.error is None
        assert timing.calls == 6
        assert timing.min_ms is not None
        assert timing.p25_ms is not None
        assert timing.p50_ms is not None
        assert timing.p75_ms is not None
        assert 0 < timing.min_ms <= timing.p25_ms <= timing.p50_ms <= timing.p75_ms
    assert bench.control_p50_ms > 0
    assert bench.noisy == (bench.control_spread > 0.10)
    assert EngineBench.model_validate_json(profile_path(compiled).read_text()) == bench
    columns = {"variant", "engine", "form", *(f"{rows} rows, ms" for rows in PROFILE_ROWS)}
    assert [set(line) for line in bench.table_rows()] == [columns] * len(forms)
    assert [(line["variant"], line["engine"], line["form"]) for line in bench.table_rows()] == forms
    served = bench.timing(BASELINE, "onnxruntime", 64)
    assert served is not None
    assert served.form == "parts"


def test_bench_engines_reads_a_result_when_it_is_from_before_the_parts(compiled: Artifact) -> None:
    values = json.loads(bench_engines(compiled, {4: small_batch(4)}, rows=(4,), repeats=3).model_dump_json())
    values["timings"] = [t for t in values["timings"] if t["form"] == "whole"]
    for timing in values["timings"]:
        del timing["form"]
    found = EngineBench.model_validate(values)
    assert found.served == found.timings
    timing = found.timing(BASELINE, "onnxruntime", 4)
    assert timing is not None
    assert timing.form == "whole"
    assert {line["form"] for line in found.table_rows()} == {"whole"}


def test_bench_engines_keeps_the_error_when_an_engine_fails(compiled: Artifact) -> None:
    pairs = [(BASELINE, "onnxruntime"), (BASELINE, "reference")]
    bench = bench_engines(compiled, {4: small_batch(4)}, pairs=pairs, rows=(4,), repeats=3)
    assert not profile_path(compiled).exists() or bench.timings[0].rows not in {
        timing.rows for timing in EngineBench.model_validate_json(profile_path(compiled).read_text()).timings
    }, "a run of other row counts must not replace the profile"
    good, whole, bad = bench.timings
    assert good.error is None
    assert whole.error is None
    assert "was not built" in (bad.error or "")
    assert bench.table_rows()[2]["4 rows, ms"] == "failed"
    assert bench.timing(BASELINE, "onnxruntime", 4) == good


def test_bench_engines_times_all_engines_with_each_number_of_threads_when_several_are_given(
    compiled: Artifact,
) -> None:
    pairs = [(QUANTIZED, "onnxruntime"), (QUANTIZED, "native")]
    bench = bench_engines(compiled, {4: small_batch(4)}, pairs=pairs, rows=(4,), threads=(1, 2), repeats=3)
    assert [(t.engine, t.form, t.threads) for t in bench.timings] == [
        (engine, form, threads) for threads in (1, 2) for _, engine in pairs for form in ("parts", "whole")
    ]
    assert all(timing.error is None for timing in bench.timings)
    assert [line["threads"] for line in bench.table_rows()] == ["1"] * 4 + ["2"] * 4
    assert bench.threads == 1
    served = bench.timing(QUANTIZED, "native", 4)
    assert served is not None
    assert served.threads == 1
    with pytest.raises(UsageError, match="threads"):
        bench_engines(compiled, {4: small_batch(4)}, rows=(4,), threads=())


def test_bench_engines_reads_a_result_when_it_is_from_before_several_threads(compiled: Artifact) -> None:
    bench = bench_engines(compiled, {4: small_batch(4)}, pairs=[(BASELINE, "native")], rows=(4,), threads=2, repeats=3)
    values = json.loads(bench.model_dump_json())
    for timing in values["timings"]:
        del timing["threads"]
    assert EngineBench.model_validate(values) == bench


@pytest.mark.parametrize("method", ["open", "run"])
def test_bench_engines_tells_the_reason_when_an_engine_raises_what_is_its_own(
    compiled: Artifact, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    installed_engine("eager")
    from rankine.compilation.engines.eager import Eager, EagerRunner

    def fail(*_: object, **__: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(Eager if method == "open" else EagerRunner, method, fail)
    pairs = [(BASELINE, "eager"), (BASELINE, "native")]
    bench = bench_engines(compiled, {4: small_batch(4)}, pairs=pairs, rows=(4,), repeats=3)
    reasons = {timing.engine: timing.error for timing in bench.timings}
    assert reasons == {"eager": "KeyError: 'lost'", "native": None}
    assert {line["engine"]: line["reason"] for line in bench.table_rows()}["eager"] == "KeyError: 'lost'"


def test_bench_engines_times_nothing_when_an_engine_runs_on_an_emulator(
    compiled: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Capabilities(name="onnxruntime", version="1", stand_ins={"cpu": "emulator"})
    monkeypatch.setattr(OnnxRuntime, "capabilities", lambda _: record)
    bench = bench_engines(compiled, {4: small_batch(4)}, pairs=[(BASELINE, "onnxruntime")], rows=(4,), repeats=3)
    assert all(t.p50_ms is None and "emulator" in (t.error or "") for t in bench.timings)


def test_bench_engines_refuses_when_a_batch_is_missing_or_nothing_was_built(compiled: Artifact, zoo: Artifact) -> None:
    with pytest.raises(UsageError, match="no batch of 64 rows"):
        bench_engines(compiled, {1: small_batch(1)}, rows=(1, 64))
    with pytest.raises(UsageError, match="no builds"):
        bench_engines(zoo, {1: small_batch(1)}, rows=(1,))
