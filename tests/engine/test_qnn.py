"""The engine qnn beyond the conformance template: nothing on the CPU, context binaries that reload, its own form."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from engine.families import family_network
from engine.installed import installed_engine
from engine.small_model import small_batch, small_model
from rankine.compilation.conformance import CHECKS, Case, build_case
from rankine.compilation.conformance.zoo import INT8, zoo_artifact
from rankine.compilation.engine import Target
from rankine.compilation.verify import verify
from rankine.errors import ArtifactError, EngineError, EngineMissing
from rankine.models.variant import Model, load_model
from rankine.stats import paired_delong
from unit.fused_graphs import graph_of

pytestmark = pytest.mark.engine

BUCKETS = (1, 16, 64)
MODELS = ("dcn_v2", "dlrm", "wide_deep")
CHECKED = ("numbers-1", "numbers-64", "changing-rows", "bad-ids", "bad-indices", "shared-runner", "reopening")
ALONE = """
import json, sys
from pathlib import Path
import numpy as np
from rankine.compilation.engines.qnn.session import load_context
session = load_context(Path(sys.argv[1]))
values = {one.name: np.zeros(one.shape, np.float32) for one in session.get_inputs()}
(logits,) = session.run(None, values)
heavy = {name.split(".")[0] for name in sys.modules} & {"onnx", "torch"}
print(json.dumps([bool(np.isfinite(logits).all()), sorted(heavy), session.get_providers()[0]]))
"""

Built = tuple[Model, Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The small model, built once; not to be changed."""
    engine = installed_engine("qnn")
    model, folder = small_model(tmp_path_factory.mktemp("model"), "int8"), tmp_path_factory.mktemp("built")
    engine.build(model, Target(device="htp", row_buckets=BUCKETS), folder)
    return model, folder


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """A reference model in INT8, built once."""

    @cache
    def case(name: str) -> Case:
        engine = installed_engine("qnn")
        artifact = zoo_artifact(name, family_network(name), tmp_path_factory.mktemp(name))
        folder = tmp_path_factory.mktemp(f"{name}-built")
        return build_case("qnn", engine, load_model(artifact, INT8), folder, device="htp")

    return case


@pytest.mark.parametrize("check", CHECKED)
@pytest.mark.parametrize("name", MODELS)
def test_check_passes_when_a_model_runs_on_the_emulated_htp(
    family: Callable[[str], Case], name: str, check: str
) -> None:
    CHECKS[check](family(name))


@pytest.mark.parametrize("name", MODELS)
def test_order_of_rows_is_the_references_when_a_model_runs_on_the_emulated_htp(
    family: Callable[[str], Case], name: str
) -> None:
    """AUC against the labels that the reference's own scores would draw."""
    case, runner = family(name), family(name).open()
    batch = case.batch(500, seed=3)
    expected, out = case.expected(batch)[:, 0], case.run(runner, batch)[:, 0]
    runner.close()
    labels = np.random.default_rng(0).random(len(expected)) < 1 / (1 + np.exp(-expected))
    assert abs(paired_delong(labels, expected, out).delta) < 0.002


def test_a_build_holds_context_binaries_and_no_graph_when_it_is_made(built: Built) -> None:
    """What is opened has one node, which names the binary: there is nothing in it that could be compiled, or run on
    the CPU."""
    _, folder = built
    for rows in BUCKETS:
        graph = onnx.load(str(folder / f"rows_{rows}.onnx")).graph
        assert [node.op_type for node in graph.node] == ["EPContext"]
        named = {one.name: one for one in graph.node[0].attribute}
        assert (folder / named["ep_cache_context"].s.decode()).stat().st_size > 10_000
        assert [value.type.tensor_type.shape.dim[0].dim_value for value in graph.input] == [rows] * len(graph.input)


def test_a_build_opens_without_its_maker_when_another_process_loads_it(built: Built, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(built[1], moved)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(moved / "rows_16.onnx")], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [True, [], "QNNExecutionProvider"]  # alone there: what a command prints is JSON


def test_nothing_is_compiled_when_a_build_is_opened_again(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = built
    engine = installed_engine("qnn")
    from rankine.compilation.engines import qnn

    def refuse(*_: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(qnn, "compile_context", refuse)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    found = []
    for _ in range(2):
        runner, out = engine.open(model, folder), np.empty((40, 2), np.float32)
        runner.run(small_batch(40), out)
        runner.close()
        found.append(out)
    np.testing.assert_array_equal(*found)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_graph_is_refused_when_htp_lacks_an_operator_that_the_cpu_has(tmp_path: Path) -> None:
    """The CPU runs it, so a session that could fall back would open."""
    installed_engine("qnn")
    import onnxruntime as ort

    from rankine.compilation.engines.qnn.session import compile_context

    text = """<ir_version: 10, opset_import: ["" : 21]>
        g (float[4, 3, 3] x) => (float[4, 1] logits) <int64[1] axis = {1}> {
            a = Det (x)
            logits = Unsqueeze (a, axis)
        }"""
    graph = onnx.parser.parse_model(text)
    on_cpu = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    assert on_cpu.run(None, {"x": np.ones((4, 3, 3), np.float32)})[0].shape == (4, 1)
    with pytest.raises(EngineError, match=r"nothing is left to the CPU.*fallback.*disabled"):
        compile_context(graph.SerializeToString(), tmp_path / "rows_4.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_form_is_refused_when_it_is_not_int8(tmp_path: Path) -> None:
    engine = installed_engine("qnn")
    with pytest.raises(EngineError, match="INT8 only"):
        engine.build(small_model(tmp_path, "fp32"), Target(device="htp"), tmp_path)


@pytest.mark.parametrize("damage", ["binary", "missing binary", "missing list", "5", "[]", "[0]", '{"16": 1}'])
def test_a_build_is_refused_when_it_is_damaged(built: Built, tmp_path: Path, damage: str) -> None:
    model, folder = built
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (binary,) = copy.glob("rows_16*.bin")
    if damage == "binary":
        binary.write_bytes(b"nothing")
    elif damage == "missing binary":
        binary.unlink()
    elif damage != "missing list":
        (copy / "row_buckets.json").write_text(damage, encoding="utf-8")
    else:
        (copy / "row_buckets.json").unlink()
    with pytest.raises((EngineError, ArtifactError), match="rankine compile"):
        installed_engine("qnn").open(model, copy)


def test_the_library_is_asked_for_when_it_is_not_there(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    from rankine.compilation.engines.qnn import session

    monkeypatch.setattr(session.qnn, "get_qnn_htp_path", lambda: "/nowhere/libQnnHtp.so")
    session._device.cache_clear()
    try:
        with pytest.raises(EngineMissing, match=r"nowhere/libQnnHtp.so.*pip install 'rankine\[qnn\]'"):
            installed_engine("qnn").open(*built)
    finally:
        session._device.cache_clear()


def test_another_device_is_refused_when_it_is_asked_for(built: Built) -> None:
    with pytest.raises(EngineMissing, match="got cpu; allowed: htp"):
        installed_engine("qnn").open(*built, device="cpu")


def test_the_record_says_what_computes_when_it_is_asked() -> None:
    record = installed_engine("qnn").capabilities()
    assert (record.devices, record.numerics) == (("htp",), ("int8",))
    assert record.own_int8_form
    assert record.static_buckets
    assert record.on_request
    if os.uname().machine == "x86_64":
        assert record.runs_on("htp") == "emulator"


def test_every_value_has_a_range_of_its_own_or_of_what_moves_it_when_a_graph_is_put_into_fixed_point() -> None:
    installed_engine("qnn")
    from rankine.compilation.engines.qnn.fixed_point import fixed_point

    graph = graph_of("a = Relu (x) b = Gemm (a, w) logits = Identity (b)", {"x": 3}, {"w": np.ones((3, 1), np.float32)})
    graph.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["rows", 1]))
    seen = {"x": (-1.0, 2.0), "a": (0.0, 2.0), "b": (0.0, 6.0), "logits": (0.0, 6.0)}
    found = fixed_point(graph, seen).graph
    kinds = {one.name: one.data_type for one in found.initializer}
    assert kinds["x.u16.zero_point"] == onnx.TensorProto.UINT16
    assert kinds["b.w.codes"] == onnx.TensorProto.INT8
    values = {one.name: numpy_helper.to_array(one) for one in found.initializer}
    assert values["x.u16.scale"] == pytest.approx(6 / 65_535)  # twice what was seen
    assert values["b.u16.scale"] == values["logits.u16.scale"]
    onnx.checker.check_model(fixed_point(graph, seen), full_check=True)


def test_scores_are_the_canonical_forms_when_a_variant_is_verified(built: Built) -> None:
    model, folder = built
    runner = installed_engine("qnn").open(model, folder)
    found = verify(model, runner, small_batch(200))
    runner.close()
    assert found.max_error < 0.03


def test_a_sum_is_right_when_it_is_over_the_last_axis(tmp_path: Path) -> None:
    """As Wide&Deep's and DLRM's on wide ranges: the HTP's own sum of 16 bits is not."""
    installed_engine("qnn")
    from rankine.compilation.engines.qnn.fixed_point import fixed_point, sums_as_means
    from rankine.compilation.engines.qnn.session import compile_context, load_context

    random = np.random.default_rng(0)
    weights = {"shape": np.array([-1, 8, 8]), "by": random.normal(size=8).astype(np.float32), "axis": np.array([2])}
    graph = graph_of(
        "a = Reshape (x, shape) b = Mul (a, by) logits = ReduceSum <keepdims = 0> (b, axis)", {"x": 64}, weights
    )
    graph.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["rows", 8]))
    given = (0.15 * random.random((16, 64))).astype(np.float32)
    expected = (given.reshape(-1, 8, 8) * weights["by"]).sum(axis=2)
    prepared = sums_as_means(graph)
    assert [node.op_type for node in prepared.graph.node] == ["Reshape", "Mul", "ReduceMean", "Mul"]
    seen = {"x": (-0.15, 0.15), "a": (-0.15, 0.15), "b": (-0.5, 0.5), "logits.mean": (-0.2, 0.2), "logits": (-1.0, 1.0)}
    fixed = fixed_point(prepared, seen)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 16
    compile_context(fixed.SerializeToString(), tmp_path / "rows_16.onnx")
    (found,) = load_context(tmp_path / "rows_16.onnx").run(None, {"x": given})
    np.testing.assert_allclose(found, expected, atol=2e-3)
