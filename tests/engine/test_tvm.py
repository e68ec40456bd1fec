"""The engine tvm beyond the conformance template: opened without a compiler, threads of its own, clear errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from engine.families import build_family
from engine.installed import installed_engine
from engine.small_model import small_batch, small_model
from rankine.compilation.engine import Target
from rankine.compilation.engines.reference import ReferenceRunner
from rankine.compilation.host_runner import HostRunner
from rankine.compilation.tensorir.instruction_sets import chosen
from rankine.compilation.tensorir.runner import LAYOUT_FILE, LIBRARY_FILE, Program, ProgramLane
from rankine.errors import ArtifactError, EngineError
from rankine.models.variant import Model
from unit.binding_graphs import random_graph, random_rows
from unit.fused_graphs import graph_of, rows_for

pytestmark = pytest.mark.engine

Built = tuple[Model, Path]

ALONE = """
import json, sys
from pathlib import Path
import numpy as np
from rankine.compilation.tensorir.runner import Program, ProgramLane
program = Program(Path(sys.argv[1]))
lane = ProgramLane(program, [(int(sys.argv[2]), np.dtype(np.float32))], None, 1)
(given,) = lane.inputs(3)
given[:] = np.linspace(-1, 1, given.size, dtype=np.float32).reshape(given.shape)
out = np.full((3, program.layout.tasks), np.nan, np.float32)
lane.execute(3, out)
heavy = {name.split(".")[0] for name in sys.modules} & {"tvm", "tvm_ffi", "onnx", "torch"}
print(json.dumps([out.tolist(), sorted(heavy)]))
"""
ASKED = """
import sys
from rankine.compilation.engines import load_engine
assert load_engine("tvm").capabilities().name == "tvm"
assert "tvm" not in sys.modules
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The small model in INT8, built once; not to be changed."""
    model, folder = small_model(tmp_path_factory.mktemp("model"), "int8"), tmp_path_factory.mktemp("built")
    hook = sys.excepthook
    installed_engine("tvm").build(model, Target(), folder)
    assert sys.excepthook is hook, "TVM took over how Python ends"
    return model, folder


def _computed(graph: onnx.ModelProto, inputs: dict[str, np.ndarray], folder: Path) -> np.ndarray:
    """What a graph built into ``folder`` gives for its inputs."""
    from rankine.compilation.tensorir.build import build_graph

    build_graph(graph, chosen("native"), folder)
    program = Program(folder)
    given = [inputs[name] for name in program.layout.inputs]
    lane = ProgramLane(program, [(values.shape[1], values.dtype) for values in given], None, 1)
    for view, values in zip(lane.inputs(len(given[0])), given, strict=True):
        view[:] = values
    out = np.full((len(given[0]), program.layout.tasks), np.nan, np.float32)
    lane.execute(len(out), out)
    return out


def _check(graph: onnx.ModelProto, inputs: dict[str, np.ndarray], folder: Path) -> None:
    from rankine.compilation.fused.lower import lower_graph
    from unit.program_interpreter import run_program

    installed_engine("tvm")
    expected = run_program(lower_graph(graph).to_bytes(), [inputs[value.name] for value in graph.graph.input])
    found = _computed(graph, inputs, folder)
    assert np.abs(found - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("seed", [2, 55])
def test_a_random_graph_gives_what_the_interpreter_gives_when_compiled(seed: int, tmp_path: Path) -> None:
    """The two hold all steps but two between them; what all operators become is the other engines' tests' matter."""
    model, sides = random_graph(seed)
    _check(model, random_rows(model, sides, 9, seed).gathered(), tmp_path)


def test_a_choice_and_a_sum_of_products_give_what_the_interpreter_gives_when_compiled(tmp_path: Path) -> None:
    body = """
        a = Less (x, y)  b = Where (a, x, y)  c = Mul (b, x)  d = ReduceSum <keepdims = 1> (c, axis)
        e = Erf (x)  f = Softplus (y)  g = Elu (x)  h = Tanh (y)
        logits = Concat <axis = 1> (d, b, e, f, g, h)
    """
    graph = graph_of(body, {"x": 37, "y": 37}, {"axis": np.array([1])})
    _check(graph, rows_for(graph), tmp_path)


def test_what_is_no_number_stays_none_when_it_is_rectified(tmp_path: Path) -> None:
    """A broken feature is not to end as a score that looks right."""
    installed_engine("tvm")
    body = "a = Relu (x) b = MatMul (x, w) c = Relu (b) logits = Concat <axis = 1> (a, c)"
    graph = graph_of(body, {"x": 21}, {"w": (21, 3)})
    inputs = rows_for(graph)
    inputs["x"][2, 20] = np.nan
    found = _computed(graph, inputs, tmp_path)
    assert np.isnan(found[2, 20:]).all()
    assert np.isfinite(np.delete(found, 2, axis=0)).all()
    assert np.isfinite(found[2, :20]).all()


def test_what_is_no_number_stays_none_when_steps_bound_it(tmp_path: Path) -> None:
    """The rest is as ONNX says; 21 columns are vectors and what is left over."""
    installed_engine("tvm")
    body = """
        a = Sigmoid (x) b = Tanh (x) c = Exp (x) d = Softplus (x) e = Clip (x, low, high) f = Max (x, y)
        g = Min (x, y) h = ReduceMax <keepdims = 1> (x, axis) i = ReduceMin <keepdims = 1> (x, axis)
        j = Softmax <axis = 1> (x) k = LogSoftmax <axis = 1> (x)
        logits = Concat <axis = 1> (a, b, c, d, e, f, g, h, i, j, k)
    """
    bounds = {"low": np.array(-0.5, np.float32), "high": np.array(0.5, np.float32), "axis": np.array([1])}
    graph = graph_of(body, {"x": 21, "y": 21}, bounds)
    inputs = rows_for(graph)
    for name, row, column in (("x", 1, 3), ("x", 2, 20), ("y", 4, 0), ("y", 5, 20)):
        inputs[name][row, column] = np.nan
    with np.errstate(invalid="ignore"):
        (expected,) = ReferenceEvaluator(graph).run(None, inputs)
    assert np.isnan(expected).sum(axis=1).tolist() == [0, 51, 51, 0, 2, 2, 0]
    np.testing.assert_allclose(_computed(graph, inputs, tmp_path), expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", ["din-dice", "dlrm"])
def test_a_family_gives_the_reference_logits_when_compiled(name: str, tmp_path: Path) -> None:
    """The families with steps that the small model has not: attention, dot products."""
    family = build_family(name, tmp_path)
    engine, batch = installed_engine("tvm"), small_batch(300)
    for model in (family.fp32, family.int8):
        folder = tmp_path / model.numeric
        folder.mkdir()
        engine.build(model, Target(), folder)
        expected = ReferenceRunner(model).logits(batch)
        out = np.full(expected.shape, np.nan, np.float32)
        runner = engine.open(model, folder)
        runner.run(batch, out)
        runner.close()
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5 if model.numeric == "fp32" else 0.02)


def test_neither_tvm_nor_a_compiler_is_needed_when_a_build_is_opened(built: Built, tmp_path: Path) -> None:
    _, folder = built
    layout = json.loads((folder / LAYOUT_FILE).read_text())
    width = sum(_widths(built))
    assert len(layout["inputs"]) == 1
    done = _python(ALONE, str(folder), str(width), PATH=str(tmp_path))
    out, imported = json.loads(done.stdout)
    assert np.isfinite(out).all()
    assert imported == []


def test_tvm_is_not_imported_when_only_capabilities_are_asked_for(built: Built) -> None:
    _python(ASKED)


def _widths(built: Built) -> list[int]:
    graph = onnx.load(str(built[0].graph))
    return [value.type.tensor_type.shape.dim[1].dim_value for value in graph.graph.input]


def _python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_logits_are_the_same_when_threads_share_a_call(built: Built) -> None:
    model, folder = built
    batch = small_batch(777)
    found = []
    for threads in (1, 2, 3):
        before = _threads()
        runner, out = installed_engine("tvm").open(model, folder, threads=threads), np.empty((777, 2), np.float32)
        runner.run(batch, out)
        assert len(_threads() - before) <= threads - 1
        runner.close()
        found.append(out)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def _threads() -> set[str]:
    """Of this process, by the system's numbers: threads that Python knows nothing of too."""
    tasks = Path("/proc/self/task")
    return (
        {path.name for path in tasks.iterdir()} if tasks.is_dir() else {str(one.ident) for one in threading.enumerate()}
    )


def test_a_library_is_unmapped_when_its_runner_is_gone(built: Built) -> None:
    model, folder = built
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("the system does not tell what is mapped")
    runner = installed_engine("tvm").open(model, folder)
    runner.run(small_batch(5), np.empty((5, 2), np.float32))
    assert str(folder / LIBRARY_FILE) in maps.read_text()
    runner.close()
    del runner
    assert str(folder) not in maps.read_text()


def test_a_build_is_refused_when_a_file_is_damaged(built: Built, tmp_path: Path) -> None:
    model, folder = built
    for name in (LIBRARY_FILE, LAYOUT_FILE):
        copy = _copied(folder, tmp_path / name)
        (copy / name).write_bytes(b"nothing")
        with pytest.raises(ArtifactError, match="no program of TVM"):
            installed_engine("tvm").open(model, copy)


def test_a_build_is_refused_when_it_is_for_another_processor(built: Built, tmp_path: Path) -> None:
    model, folder = built
    copy = _copied(folder, tmp_path / "copy")
    layout = json.loads((copy / LAYOUT_FILE).read_text())
    other = "neon-i8mm" if chosen("native").architecture == "x86_64" else "avx2"
    (copy / LAYOUT_FILE).write_text(json.dumps({**layout, "instruction_set": other}))
    with pytest.raises(EngineError, match=f"does not run.*{other}"):
        installed_engine("tvm").open(model, copy)


def _copied(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_graph_is_imported_by_relax_when_there_is_no_step_for_an_operator(tmp_path: Path) -> None:
    model = small_model(tmp_path, "fp32")
    graph = onnx.load(str(model.graph))
    for node in graph.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Sin"
    onnx.save(graph, str(model.graph))
    engine, folder = installed_engine("tvm"), tmp_path / "built"
    folder.mkdir()
    engine.build(model, Target(), folder)
    assert not (folder / LAYOUT_FILE).exists()
    runner = engine.open(model, folder)
    for rows in (1, 7, 300):
        batch, out = small_batch(rows), np.full((rows, 2), np.nan, np.float32)
        runner.run(batch, out)
        np.testing.assert_allclose(out, ReferenceRunner(model).logits(batch), rtol=1e-5, atol=1e-5)
    runner.close()
    copy = _copied(folder, tmp_path / "copy")
    (copy / "imported.so").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="no program of TVM"):
        engine.open(model, copy)


def test_operators_are_named_when_nothing_can_run_them(tmp_path: Path) -> None:
    installed_engine("tvm")
    graph = graph_of("a = Det (x) logits = Identity (a)", {"x": 6})
    for size in (0, 1):
        graph.graph.output[0].type.tensor_type.shape.dim.add().dim_value = size
    with pytest.raises(EngineError, match=r"no schedule.*Det 'a'.*Relax: .*Det"):
        _computed(graph, rows_for(graph), tmp_path)


def test_a_linker_is_asked_for_when_there_is_none(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="no linker") as caught:
        installed_engine("tvm").build(built[0], Target(), tmp_path)
    assert "apt-get install" in str(caught.value)


def test_an_instruction_set_is_built_for_when_the_target_names_it(built: Built, tmp_path: Path) -> None:
    model, _ = built
    name = "generic-x86" if chosen("native").architecture == "x86_64" else "generic-arm"
    installed_engine("tvm").build(model, Target(instruction_set=name), tmp_path)
    runner = installed_engine("tvm").open(model, tmp_path)
    assert isinstance(runner, HostRunner)
    out, batch = np.empty((41, 2), np.float32), small_batch(41)
    runner.run(batch, out)
    runner.close()
    np.testing.assert_allclose(out, ReferenceRunner(model).logits(batch), atol=1e-4)
    assert Program(tmp_path).layout.instruction_set == name
