"""AOTInductor: what is compiled once is opened without tracer and compiler, and refused where it would not run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from conftest import ROOT
from engine.conftest import Case
from engine.families import FAMILIES, build_family
from engine.installed import installed_engine
from engine.small_model import HISTORY_LENGTH, small_batch, small_model
from rankine.artifact import Artifact
from rankine.compilation.binding import Settings
from rankine.compilation.build_variant import open_catalog, take_apart
from rankine.compilation.engine import Target
from rankine.compilation.engines.inductor.build import exported
from rankine.compilation.engines.inductor.library import Container, Inputs, Library
from rankine.compilation.lookup import open_lookup
from rankine.compilation.pack_inputs import packed_graph
from rankine.compilation.split_runner import build_split, open_split_runner
from rankine.compilation.verify import reference_logits, verify_logits
from rankine.errors import EngineError
from rankine.events import ignore
from rankine.models.variant import BASELINE, Numeric, load_model

pytestmark = pytest.mark.engine

_IN_A_NEW_PROCESS = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from engine.small_model import TASKS, small_batch, small_model
from rankine.compilation.engines import load_engine

folder = Path(sys.argv[2])
model = small_model(folder / "again", sys.argv[3], history=True)
before = set(sys.modules)
runner = load_engine("inductor").open(model, folder)
out = np.empty((7, TASKS), np.float32)
runner.run(small_batch(7), out)
runner.close()
parts = ("torch._dynamo", "torch._inductor", "torch.export", "torch._export", "torch.fx.experimental.proxy_tensor")
print(sorted(name for name in set(sys.modules) - before if name.startswith(parts)))
print(out.astype(float).ravel().tolist())
"""


@pytest.fixture(scope="module")
def case(build: Callable[[str, Numeric], Case]) -> Case:
    return build("inductor", "int8")


def test_nothing_is_traced_or_compiled_when_a_build_is_opened(case: Case, tmp_path: Path) -> None:
    (case.folder / "again").mkdir(exist_ok=True)
    script = tmp_path / "open.py"
    script.write_text(_IN_A_NEW_PROCESS, encoding="utf-8")
    found = subprocess.run(
        [sys.executable, str(script), str(ROOT / "tests"), str(case.folder), case.model.numeric],
        env={"PATH": "", "CXX": "/nowhere/c++", "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    imported, logits = found.stdout.splitlines()
    assert json.loads(imported.replace("'", '"')) == []
    expected = case.expected(small_batch(7))
    case.hold(np.array(json.loads(logits), np.float32).reshape(expected.shape), expected, "opened in another process")


def test_layers_are_packed_for_int8_when_the_graph_is_quantized(case: Case) -> None:
    """Without the compiler's packing the logits are as right, at the time of FP32."""
    assert b"aoti_torch_cpu__qlinear_pointwise_tensor" in (case.folder / "graph.so").read_bytes()


def test_other_threads_run_python_when_a_call_computes(case: Case) -> None:
    library = Library(case.folder / "graph.so")
    lookup = open_lookup(case.model)
    arrays = [np.zeros((20_000, width), np.float32) for width in lookup.widths]
    out = np.empty((20_000, 2), np.float32)
    inputs, container, done, ticks = Inputs(library, arrays), Container(library), threading.Event(), [0]

    def tick() -> None:
        while not done.is_set():
            ticks[0] += 1
            time.sleep(0)

    before = sys.getswitchinterval()
    thread = threading.Thread(target=tick)
    thread.start()
    sys.setswitchinterval(100.0)  # from here on, another thread runs only where this one lets go by itself
    try:
        start = ticks[0]
        container.run(inputs, out)
        found = ticks[0]
    finally:
        sys.setswitchinterval(before)
        done.set()
        thread.join()
    assert found > start


@pytest.mark.parametrize(
    ("name", "numeric"), [*((name, "fp32") for name in FAMILIES), ("din", "int8"), ("dlrm", "int8"), ("mmoe", "int8")]
)
def test_a_family_equals_the_reference_when_exported(name: str, numeric: Numeric, tmp_path: Path) -> None:
    model = build_family(name, tmp_path).model(numeric)
    batch = small_batch(7)
    graph = packed_graph(model)
    lookup = open_lookup(model)
    arrays = [np.empty((7, width), kind) for width, kind in lookup.arrays_of(_names(graph))]
    if len(arrays) == 1:
        lookup.run(batch, arrays[0])
    else:
        lookup.run_each(batch, arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program, tasks = exported(graph)
        with torch.no_grad():
            found = program.module()(*(torch.from_numpy(array) for array in arrays)).numpy()
    expected = reference_logits(model, batch)
    assert tasks == expected.shape[1]
    limit = 1e-5 if numeric == "fp32" else 0.05
    assert (np.abs(found - expected) / np.maximum(1, np.abs(expected))).max() <= limit


def test_parts_equal_the_reference_when_items_are_stored_in_int8(zoo: Artifact, tmp_path: Path) -> None:
    model, batch, engine = load_model(zoo, BASELINE), small_batch(200), installed_engine("inductor")
    for name in ("parts", "built"):
        (tmp_path / name).mkdir()
    parts = take_apart(model, Settings(storage="int8"), tmp_path / "parts", ignore)
    assert parts is not None
    build_split(engine, parts, Target(), tmp_path / "built")
    runner = open_split_runner(engine, parts, tmp_path / "built", open_catalog(parts))
    verify_logits(model, runner, batch, reference_logits(model, batch), rounded=True)
    runner.close()


def test_a_build_is_refused_when_there_is_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    model = small_model(tmp_path, history=True)
    with pytest.raises(EngineError, match=r"needs a C\+\+ compiler to build.*apt-get install g\+\+"):
        installed_engine("inductor").build(model, Target(), tmp_path)


def test_an_operator_is_named_when_it_is_not_known(tmp_path: Path) -> None:
    model = small_model(tmp_path, history=True)
    graph = onnx.load(model.graph)
    next(node for node in graph.graph.node if node.op_type == "Relu").op_type = "Softsign"
    onnx.save(graph, model.graph)
    with pytest.raises(EngineError, match=r"does not run these operators \(got Softsign\)"):
        installed_engine("inductor").build(model, Target(), tmp_path)


def test_a_graph_is_refused_when_it_fixes_the_number_of_rows(tmp_path: Path) -> None:
    model = small_model(tmp_path, history=True)
    graph = onnx.load(model.graph)
    shape = next(one for one in graph.graph.initializer if one.name == "history.shape")
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([8, HISTORY_LENGTH, 8], np.int64), "history.shape"))
    onnx.save(graph, model.graph)
    with pytest.raises(EngineError, match="PyTorch cannot compile the graph"):
        installed_engine("inductor").build(model, Target(), tmp_path)


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"torch": "1.0"}, "torch 1.0"), ({"instruction_sets": ["sve9"]}, "sve9"), ({"machine": "vax"}, "vax")],
)
def test_a_build_is_refused_when_it_is_of_another_machine(
    case: Case, tmp_path: Path, changed: dict[str, object], named: str
) -> None:
    facts = json.loads((case.folder / "facts.json").read_text())
    (tmp_path / "facts.json").write_text(json.dumps({**facts, **changed}))
    with pytest.raises(EngineError, match=f"another machine or another PyTorch .*without {named}.*rankine compile"):
        case.engine.open(case.model, tmp_path)


def test_a_library_is_named_when_it_does_not_load(case: Case, tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_bytes((case.folder / "facts.json").read_bytes())
    (tmp_path / "graph.so").write_bytes(b"no library")
    with pytest.raises(EngineError, match=r"graph\.so: the compiled graph does not load"):
        case.engine.open(case.model, tmp_path)


def _names(graph: onnx.ModelProto) -> tuple[str, ...]:
    return tuple(value.name for value in graph.graph.input)
