"""The engine xla: one StableHLO program, verified on the CPU, compiled for TPUs that are not here."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.families import build_family
from engine.installed import installed_engine
from engine.small_model import small_batch, small_model
from rankine.compilation.engine import Target
from rankine.compilation.engines.reference import ReferenceRunner
from rankine.compilation.verify import score_errors
from rankine.errors import EngineError, EngineMissing
from rankine.models.variant import Model


@pytest.fixture(autouse=True)
def xla(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The engine; it keeps what it compiles in a folder of the test's own where it is the first to be used."""
    monkeypatch.setenv("RANKINE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    return installed_engine("xla")


def built(xla: Any, model: Model, folder: Path, *buckets: int, device: str = "cpu") -> Path:
    folder.mkdir()
    xla.build(model, Target(row_buckets=buckets, device=device), folder)
    return folder


def test_record_names_tpus_it_compiles_for_and_none_that_it_opens_when_there_is_no_tpu(xla: Any) -> None:
    record = xla.capabilities()
    assert record.compiles_for == ("TPU v5e", "TPU v5p", "TPU v6e")
    if list(Path("/dev").glob("accel*")):
        pytest.skip("there may be a TPU")
    assert record.devices == ("cpu",)
    assert record.runs_on("cpu") == "chip"
    assert "Cloud TPU" in record.device_hints["tpu"]


@pytest.mark.parametrize("name", ["dcn_v2", "dlrm", "wide_deep"])
def test_program_gives_the_reference_and_compiles_for_every_tpu_when_there_is_none(
    name: str, xla: Any, tmp_path: Path
) -> None:
    from rankine.compilation.engines.xla.program import read_program
    from rankine.compilation.engines.xla.tpu import GENERATIONS, compile_for_tpu

    family, batch, rows = build_family(name, tmp_path), small_batch(40), 16
    for model in (family.fp32, family.int8):
        folder = built(xla, model, tmp_path / model.numeric, rows)
        expected = ReferenceRunner(model).logits(batch)
        out = np.full(expected.shape, np.nan, np.float32)
        runner = xla.open(model, folder)
        runner.run(batch, out)
        runner.close()
        _, errors = score_errors(model.numeric, out.astype(np.float64), expected)
        assert errors.max() < (1e-5 if model.numeric == "fp32" else 1e-3)  # integer sums are exact
        program = read_program(folder)
        weights = sum(one.nbytes for one in program.weights)
        for generation in GENERATIONS:
            figures = compile_for_tpu(program, generation, rows)
            assert (figures.generation, figures.rows) == (generation, rows)
            assert figures.argument_bytes >= weights
            assert figures.output_bytes >= 4 * rows * expected.shape[1]
            assert figures.flops > 0


def test_layer_is_summed_in_integers_when_the_graph_is_int8(xla: Any, tmp_path: Path) -> None:
    from rankine.compilation.engines.xla.program import read_program

    folder = built(xla, small_model(tmp_path, "int8"), tmp_path / "built", 4)
    products = [line for line in read_program(folder).stablehlo.splitlines() if "stablehlo.dot_general" in line]
    integer = [line for line in products if line.count("xi8>") == 2 and "xi32>" in line]
    assert integer
    assert all("HIGHEST" in line for line in products if line not in integer), "FP32 products would be rounded"


def test_integer_layer_is_exact_when_its_operands_are_at_their_ends(xla: Any, tmp_path: Path) -> None:
    """Saturating kernels, which add two products in 16 bits, would be wrong here."""
    from rankine.compilation.engines.xla.dense_function import dense_function

    columns, summed = 9, 384
    weight = np.full((columns, summed), -127, np.int8)
    weight[::2] = 127
    for zero_point in (0, 255):
        function = dense_function(_rounded_layer(weight, zero_point))
        rows = np.concatenate([np.zeros((3, summed)), np.full((3, summed), 255.0)]).astype(np.float32) - zero_point
        found = np.asarray(function(function.weights, rows))
        assert np.array_equal(found, rows.astype(np.float64) @ weight.T.astype(np.float64))


def test_batch_is_padded_or_runs_in_parts_when_it_is_no_bucket(xla: Any, tmp_path: Path) -> None:
    model, batch = small_model(tmp_path, "fp32"), small_batch(21)
    runner = xla.open(model, built(xla, model, tmp_path / "built", 8, 2))
    expected = ReferenceRunner(model).logits(batch)
    for rows in (1, 2, 3, 8, 9, 21):
        out = np.full((rows, expected.shape[1]), np.nan, np.float32)
        runner.run(batch.select(slice(0, rows)), out)
        assert np.abs(out - expected[:rows]).max() < 1e-5
    runner.close()


def test_no_operator_is_traced_again_when_a_program_is_opened(
    xla: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rankine.compilation.engines.xla import dense_function

    model, batch = small_model(tmp_path, "int8"), small_batch(3)
    folder = built(xla, model, tmp_path / "built", 4)
    monkeypatch.setattr(dense_function.DenseFunction, "__call__", None)
    runner, out = xla.open(model, folder), np.empty((3, 2), np.float32)
    runner.run(batch, out)
    runner.close()
    _, errors = score_errors("int8", out.astype(np.float64), ReferenceRunner(model).logits(batch))
    assert errors.max() < 1e-3


def test_build_is_refused_with_its_name_when_an_operator_is_unknown(xla: Any, tmp_path: Path) -> None:
    from rankine.compilation.engines.xla.dense_function import dense_function

    with pytest.raises(EngineError, match="Mish"):
        dense_function(_graph([helper.make_node("Mish", ["x"], ["logits"])], {}, 3))


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (helper.make_node("Pad", ["x", "pads"], ["logits"], mode="reflect"), "Pad (mode reflect)"),
        (helper.make_node("Conv", ["x", "w"], ["logits"], auto_pad="SAME_UPPER"), "Conv (auto_pad SAME_UPPER)"),
        (helper.make_node("Cast", ["x"], ["logits"], to=TensorProto.DOUBLE), "Cast (to 11)"),
    ],
)
def test_build_is_refused_with_the_form_when_only_others_of_an_operator_are_known(
    xla: Any, node: onnx.NodeProto, told: str
) -> None:
    from rankine.compilation.engines.xla.dense_function import dense_function

    constants = {"pads": np.array([0, 1, 0, 1]), "w": np.ones((1, 1, 3), np.float32)}
    with pytest.raises(EngineError, match=rf"does not run these operators \(got {re.escape(told)}\)"):
        dense_function(_graph([node], constants, 3))


def test_power_has_the_wider_shape_when_its_exponent_has_more_axes(xla: Any) -> None:
    from rankine.compilation.engines.xla.operators import OPERATORS

    found = OPERATORS["Pow"]({}, np.full(2, 3.0, np.float32), np.full((1, 1), 2.0, np.float32))
    np.testing.assert_array_equal(found, [[9.0, 9.0]])


def test_tpu_is_refused_with_what_it_needs_when_it_is_not_here(xla: Any, tmp_path: Path) -> None:
    from rankine.compilation.engines.xla.program import read_program
    from rankine.compilation.engines.xla.tpu import compile_for_tpu

    model = small_model(tmp_path, "fp32")
    folder = built(xla, model, tmp_path / "built", 4, device="TPU v5e")
    if "tpu" not in xla.capabilities().devices:
        with pytest.raises(EngineMissing, match="Cloud TPU"):
            xla.open(model, folder, device="tpu")
    with pytest.raises(EngineMissing, match="Did you mean 'TPU v5p'"):
        compile_for_tpu(read_program(folder), "TPU v5P", 4)


def test_program_is_refused_with_what_to_do_when_it_is_damaged(xla: Any, tmp_path: Path) -> None:
    model = small_model(tmp_path, "fp32")
    folder = built(xla, model, tmp_path / "built", 4)
    (folder / "weights.npz").write_bytes(b"nothing")
    with pytest.raises(EngineError, match="rankine compile"):
        xla.open(model, folder)


def _rounded_layer(weight: np.ndarray, zero_point: int) -> onnx.ModelProto:
    """A linear layer whose scales are one: what comes out are the integer sums."""
    columns = len(weight)
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(zero_point),
        "w": weight,
        "ones": np.ones(columns, np.float32),
        "zeros": np.zeros(columns, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["x.u8"]),
        helper.make_node("DequantizeLinear", ["x.u8", "one", "zero"], ["x.rounded"]),
        helper.make_node("DequantizeLinear", ["w", "ones", "zeros"], ["w.rounded"], axis=0),
        helper.make_node("Gemm", ["x.rounded", "w.rounded"], ["logits"], transB=1),
    ]
    return _graph(nodes, constants, weight.shape[1])


def _graph(nodes: list[onnx.NodeProto], constants: dict[str, Any], width: int) -> onnx.ModelProto:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", width])
    found = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", None])
    stored = [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "graph", [given], [found], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


_FEW_THREADS = """
import resource, sys
import jax, psutil
from rankine.compilation.engines.xla.process import set_up
from rankine.errors import EngineError
used = psutil.Process().memory_info().vms
resource.setrlimit(resource.RLIMIT_AS, (used + (20 << 20),) * 2)  # stacks of two threads
try:
    set_up()
except EngineError as error:
    print(error)
    sys.exit(7)
jax.devices("cpu")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are set as on Linux")
def test_threads_are_asked_for_first_when_the_system_refuses_them() -> None:
    """XLA itself would end the process by SIGABRT."""
    done = subprocess.run([sys.executable, "-c", _FEW_THREADS], capture_output=True, text=True, check=False)
    assert (done.returncode, "refuses the threads" in done.stdout) == (7, True), done.stderr
    assert "ulimit -u" in done.stdout


def test_threads_are_ended_when_they_were_granted() -> None:
    from rankine.compilation.engines.xla.process import check_threads

    before = threading.active_count()
    check_threads(50)
    assert threading.active_count() == before
