"""The engine triton-lang beyond the conformance template: all steps, all forms, row buckets, clear errors."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.installed import installed_engine
from engine.small_model import small_model
from rankine.artifact import Artifact
from rankine.compilation.conformance.batches import ranking_batch
from rankine.compilation.conformance.zoo import INT8, MODELS
from rankine.compilation.engine import Target
from rankine.compilation.engines.reference import ReferenceRunner
from rankine.compilation.fused.lower import lower_graph
from rankine.errors import ArtifactError, EngineMissing
from rankine.models.variant import BASELINE, load_model
from unit.binding_graphs import random_graph, random_rows
from unit.fused_graphs import graph_of, rows_for

pytestmark = pytest.mark.engine

installed_engine("triton-lang")

import torch  # noqa: E402

from rankine.compilation.engines.triton_lang.available import devices_here  # noqa: E402
from rankine.compilation.engines.triton_lang.device import device_named  # noqa: E402
from rankine.compilation.engines.triton_lang.kernels.linear import Form  # noqa: E402
from rankine.compilation.engines.triton_lang.lane import DeviceLane, bucket_of  # noqa: E402
from rankine.compilation.engines.triton_lang.placing import DeviceProgram  # noqa: E402
from rankine.compilation.engines.triton_lang.runner import PROGRAM_FILE, open_runner  # noqa: E402

DEVICE = device_named(devices_here()[0])
ASKED = """
import sys
from rankine.compilation.engines import load_engine
assert load_engine("triton-lang").capabilities().stand_ins == {"interpreter": "interpreter"}
assert not {"triton", "torch"} & set(sys.modules)
"""
MISSING = """
from rankine.compilation.engines import load_engine
from rankine.errors import EngineMissing
try:
    load_engine("triton-lang")
except EngineMissing as error:
    print(error)
"""


def _check(graph: object, inputs: dict[str, np.ndarray], names: list[str]) -> None:
    from unit.program_interpreter import run_program

    program = lower_graph(graph)  # type: ignore[arg-type]
    expected = run_program(program.to_bytes(), [inputs[name] for name in names])
    lane = DeviceLane(DeviceProgram(program, DEVICE.torch_device), DEVICE)
    for view, name in zip(lane.inputs(len(expected)), names, strict=True):
        view[:] = inputs[name]
    out = np.full(expected.shape, np.nan, np.float32)
    lane.execute(len(out), out)
    assert np.abs(out - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("seed", [2, 3, 55, 71])
def test_a_random_graph_gives_what_the_programs_interpreter_gives_when_run(seed: int) -> None:
    model, sides = random_graph(seed)
    _check(model, random_rows(model, sides, 9, seed).gathered(), [value.name for value in model.graph.input])


def test_a_choice_and_a_sum_of_products_give_what_the_programs_interpreter_gives_when_run() -> None:
    body = """
        a = Less (x, y)  b = Where (a, x, y)  c = Mul (b, x)  d = ReduceSum <keepdims = 1> (c, axis)
        e = Erf (x)  f = Softplus (y)  g = Elu (x)  h = Tanh (y)
        logits = Concat <axis = 1> (d, b, e, f, g, h)
    """
    graph = graph_of(body, {"x": 37, "y": 37}, {"axis": np.array([1])})
    _check(graph, rows_for(graph), [value.name for value in graph.graph.input])


FORMS: dict[str, tuple[str, Form, float, float]] = {
    "fp32": (BASELINE, "fp32", 1e-5, 1e-6),
    "int8": (INT8, "fp32", 1e-5, 1e-6),
    "bf16": (BASELINE, "bf16", 0.02, 0.003),
    "fp8": (BASELINE, "fp8", 0.1, 0.02),
}
"""Variant, form of products in floats, and the largest and the mean error of a score: FP8 keeps four bits."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_a_reference_model_stays_close_when_its_products_are_in_a_form(
    reference_model: Callable[[str], Artifact], name: str, form: str, tmp_path: Path
) -> None:
    variant, products, most, mean = FORMS[form]
    model, folder = load_model(reference_model(name), variant), tmp_path
    installed_engine("triton-lang").build(model, Target(), folder)
    batch = ranking_batch(model, 40)
    expected = ReferenceRunner(model).logits(batch)
    out = np.full(expected.shape, np.nan, np.float32)
    runner = open_runner(model, folder, device=DEVICE.name, form=products)
    runner.run(batch, out)
    runner.close()
    error = np.abs(_sigmoid(out) - _sigmoid(expected))
    assert error.max() < most, "rounded, and nothing worse"
    assert error.mean() < mean
    assert bool(error.max() > 1e-6) is (form in ("bf16", "fp8")), "in another form than it says"


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_a_bucket_holds_its_rows_and_wastes_a_quarter_at_most_when_rows_grow() -> None:
    buckets = [bucket_of(rows) for rows in range(1, 5000)]
    assert all(rows <= bucket for rows, bucket in enumerate(buckets, start=1))
    assert all(bucket < rows * 1.25 + 1 for rows, bucket in enumerate(buckets, start=1) if rows > 16)
    assert [bucket_of(rows) for rows in (1, 16, 17, 512, 513, 16_384)] == [16, 16, 20, 512, 640, 16_384]


def test_every_kernel_becomes_machine_code_when_the_gpu_is_not_here(tmp_path: Path) -> None:
    """For H100: what the interpreter runs need not be what the compiler takes."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("triton_compiles.py")), "90"],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 84


def test_neither_triton_nor_torch_is_imported_when_only_capabilities_are_asked_for() -> None:
    _python(ASKED, "1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the engine has a device here")
def test_the_engine_says_how_to_verify_without_a_gpu_when_the_interpreter_is_off() -> None:
    assert "set TRITON_INTERPRET=1" in _python(MISSING, "0").stdout


@pytest.mark.parametrize("damage", ["cut off", "output", "element", "code"])
def test_a_damaged_program_is_refused_when_it_is_opened(tmp_path: Path, damage: str) -> None:
    model = small_model(tmp_path, "fp32")
    folder = tmp_path / "built"
    folder.mkdir()
    engine = installed_engine("triton-lang")
    engine.build(model, Target(), folder)
    path = folder / PROGRAM_FILE
    contents = bytearray(path.read_bytes())
    buffers, inputs = struct.unpack_from("<2I", contents, 12)
    if damage == "cut off":
        del contents[-100:]
    elif damage == "output":
        struct.pack_into("<I", contents, 32, 1000)  # far behind its buffer's end
    else:
        struct.pack_into("<H", contents, 64 + (16 * (buffers + inputs) if damage == "code" else 0), 99)
    path.write_bytes(contents)
    with pytest.raises(ArtifactError, match="rankine compile"):
        engine.open(model, folder, device=DEVICE.name)


@pytest.mark.parametrize("name", ["nonsense", f"{DEVICE.name}:1", "cpu"])
def test_another_device_is_refused_when_it_is_asked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineMissing, match=f"got {name}; allowed: {DEVICE.name}"):
        open_runner(small_model(tmp_path, "fp32"), tmp_path, device=name)


def _python(code: str, switch: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRITON_INTERPRET": switch}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
