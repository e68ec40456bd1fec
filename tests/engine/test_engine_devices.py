"""Devices beside the CPU: listed, refused with what installs them, their options; what each does is run on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from engine.installed import installed_engine
from engine.small_model import TASKS, small_batch, small_model
from rankine.compilation.conformance import CHECKS, build_case, why_not
from rankine.compilation.conformance.checks import checks_on
from rankine.compilation.engine import Runner, Target
from rankine.compilation.engines import onnxruntime as ort_engine
from rankine.compilation.engines.onnxruntime import CopyingLane, providers
from rankine.compilation.host_runner import HostRunner
from rankine.compilation.lookup import open_lookup
from rankine.compilation.row_buckets import ROW_BUCKETS
from rankine.compilation.verify import verify
from rankine.errors import EngineError, EngineMissing
from rankine.models.variant import Model

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return small_model(tmp_path_factory.mktemp("model"), history=True)


def _built(engine: str, model: Model, folder: Path, target: Target | None = None) -> Path:
    (folder / engine).mkdir()
    installed_engine(engine).build(model, target or Target(), folder / engine)
    return folder / engine


def _check(model: Model, runner: Runner, sizes: tuple[int, ...] = (1, 7, 300, 64, 129, 3)) -> None:
    for seed, rows in enumerate(sizes):
        verify(model, runner, small_batch(rows, seed=seed))
    runner.close()


@pytest.mark.parametrize(
    ("engine", "device", "line"),
    [
        ("onnxruntime", "cuda", r"pip install 'onnxruntime-gpu\[cuda,cudnn\]'"),
        ("onnxruntime", "tensorrt", r"pip install 'onnxruntime-gpu\[cuda,cudnn\]' tensorrt"),
        ("openvino", "gpu", "apt-get install intel-opencl-icd"),
        ("openvino", "npu", "user mode driver"),
    ],
)
def test_a_device_is_refused_with_what_installs_it_when_it_is_not_there(
    engine: str, device: str, line: str, model: Model, tmp_path: Path
) -> None:
    known = installed_engine(engine).capabilities()
    if device in known.devices:
        pytest.skip(f"{engine} has {device} here")
    assert device in known.compiles_for
    with pytest.raises(EngineMissing, match=f"no such device here .*got {device}; allowed: cpu.*{line}"):
        installed_engine(engine).open(model, _built(engine, model, tmp_path), device=device)


def test_a_provider_is_no_device_when_it_does_not_come_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel of the CPU knows the name of a provider that it has not: a session falls back, and that is seen."""
    if "cuda" in providers.devices():
        pytest.skip("CUDA works here")
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)
    assert providers.devices.__wrapped__() == ("cpu",)


def test_the_probe_runs_when_the_provider_is_that_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    session = ort.InferenceSession(providers._PROBE, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.array([3.0], np.float32)}) == [3.0]
    monkeypatch.setitem(providers._PROVIDERS, "again", "CPUExecutionProvider")
    assert "again" in providers.devices.__wrapped__()


def test_int8_is_refused_when_the_device_is_tensorrt(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "devices", lambda: ("cpu", "cuda", "tensorrt"))
    providers.check_device("tensorrt", "fp32")
    with pytest.raises(EngineError, match=r"zero points of zero only.*on cuda or cpu"):
        providers.check_device("tensorrt", "int8")


def test_options_keep_fp32_and_engines_when_the_device_is_a_gpu(tmp_path: Path) -> None:
    assert providers.session_providers("cpu") == ["CPUExecutionProvider"]
    cuda, cpu = providers.session_providers("cuda", [("features", 40)], tmp_path)
    assert (cuda[0], cuda[1]["use_tf32"], cpu) == ("CUDAExecutionProvider", "0", "CPUExecutionProvider")
    tensorrt, cuda, _ = providers.session_providers("tensorrt", [("a", 40), ("b", 3)], tmp_path)
    assert (tensorrt[0], cuda[0]) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert tensorrt[1]["trt_engine_cache_path"] == str(tmp_path)
    assert tensorrt[1]["trt_profile_max_shapes"] == f"a:{providers.MOST_ROWS}x40,b:{providers.MOST_ROWS}x3"
    assert tensorrt[1]["trt_profile_min_shapes"] == "a:1x40,b:1x3"


def test_logits_equal_the_reference_when_rows_are_copied_for_every_call(model: Model, tmp_path: Path) -> None:
    session = ort_engine._session(_built("onnxruntime", model, tmp_path) / "graph.onnx", 1)
    lookup = open_lookup(model)
    names = tuple(value.name for value in session.get_inputs())
    arrays = lookup.arrays_of(names)
    _check(model, HostRunner(lookup, TASKS, lambda: CopyingLane(session, names, arrays, most_rows=64)))


def test_logits_equal_the_reference_when_openvino_chooses_the_device(model: Model, tmp_path: Path) -> None:
    engine = installed_engine("openvino")
    assert {"cpu", "auto"} <= set(engine.capabilities().devices)
    _check(model, engine.open(model, _built("openvino", model, tmp_path), device="auto", threads=2))


@pytest.mark.parametrize("numeric", ["fp32", "int8"])
def test_logits_equal_the_reference_when_rows_are_padded_to_buckets(numeric: str, tmp_path: Path) -> None:
    model = small_model(tmp_path, "int8" if numeric == "int8" else "fp32", history=True)
    folder = _built("openvino", model, tmp_path, Target(row_buckets=(64, 1, 16)))
    _check(model, installed_engine("openvino").open(model, folder))


def test_static_int8_graphs_are_exported_and_run_on_the_cpu_when_the_target_is_an_npu(tmp_path: Path) -> None:
    """What an NPU would compile: no shape is open, linear layers read 8 bits. Nothing here compiles it for one."""
    engine = installed_engine("openvino")
    import openvino as ov

    model = small_model(tmp_path, "int8", history=True)
    folder = _built("openvino", model, tmp_path, Target(device="npu"))
    assert {path.name for path in folder.glob("rows_*.xml")} == {f"rows_{rows}.xml" for rows in ROW_BUCKETS}
    for rows in ROW_BUCKETS:
        graph = ov.Core().read_model(str(folder / f"rows_{rows}.xml"))
        assert not graph.is_dynamic()
        assert {port.shape[0] for port in (*graph.inputs, *graph.outputs)} == {rows}
        assert "FakeQuantize" in {node.get_type_name() for node in graph.get_ops()}
    _check(model, engine.open(model, folder))
    record = engine.capabilities()
    if "npu" not in record.devices:
        assert record.only_exported == ("npu",)
        assert "npu (exported, not compiled)" in record.builds_told


def test_export_is_held_to_the_checks_of_numbers_when_its_device_is_not_here(model: Model, tmp_path: Path) -> None:
    engine = installed_engine("openvino")
    record = engine.capabilities()
    if "npu" in record.devices:
        pytest.skip("an NPU is here")
    assert (record.runs_on("npu"), record.opened_on("npu")) == ("cpu", "cpu")
    assert why_not(record, model, "npu") is None
    asked = checks_on(record, "npu", tuple(CHECKS))
    assert "numbers-64" in asked
    assert "leaks" not in asked
    assert checks_on(record, "cpu", tuple(CHECKS)) == tuple(CHECKS)
    case = build_case("openvino", engine, model, tmp_path, device="npu")
    assert (tmp_path / "rows_64.xml").exists()
    assert CHECKS["numbers-64"](case)["error"] < 1e-5


def test_settings_are_those_of_the_device_when_it_is_opened() -> None:
    installed_engine("openvino")
    from rankine.compilation.engines.openvino import device_settings

    assert device_settings("cpu", 3)["INFERENCE_NUM_THREADS"] == 3
    assert device_settings("gpu.1", 3) == {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    assert device_settings("npu", 3) == {"PERFORMANCE_HINT": "LATENCY"}
    assert device_settings("auto", 3)["DEVICE_PROPERTIES"]["CPU"]["INFERENCE_NUM_THREADS"] == 3


def test_capabilities_name_each_device_once_when_asked() -> None:
    for name in ("onnxruntime", "openvino"):
        known = installed_engine(name).capabilities()
        assert len(set(known.devices)) == len(known.devices)
        assert not set(known.devices) & set(known.device_hints)
        assert set(known.device_hints) < set(known.compiles_for)
