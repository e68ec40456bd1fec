"""A program's file that is damaged is refused, or runs without touching anything that is not its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rankine import _native
from rankine.compilation.engines.native import Native
from rankine.compilation.fused.lower import lower_graph
from rankine.errors import ArtifactError
from rankine.models.schema import CategoricalFeature, DenseFeature, Identity, Schema
from rankine.models.variant import Model, Table
from unit.binding_graphs import random_graph
from unit.fused_graphs import graph_of

_WIDTH = 7

_RUN_DAMAGED = """
import sys
import numpy as np
from rankine import _native

contents = np.fromfile(sys.argv[1], np.uint8)
random = np.random.default_rng(int(sys.argv[2]))
refused = run = 0
for _ in range(int(sys.argv[3])):
    damaged = contents.copy()
    for _ in range(random.integers(1, 5)):  # most bytes are weights: half of the damage goes into what says how to run
        at = random.integers(0, len(damaged) if random.random() < 0.5 else int(sys.argv[4]))
        damaged[at] = random.integers(0, 256)
    try:
        program = _native.Program(damaged)
        if program.row_bytes > 1 << 16:
            continue
        sources = [
            ("dense", "pair", number, None, None, 0, number, 0, width, 0, None, None)
            for number, (width, dtype) in enumerate(program.inputs)
        ]
        runners = [
            _native.FusedRunner(None, [], program, sources, 8, 1, name) for name in _native.instruction_sets()
        ]
        values = [np.ones((11, width), np.float32) for width, _ in program.inputs]
    except ValueError:
        refused += 1
        continue
    run += 1
    for runner in runners:
        out = np.empty((11, program.tasks), np.float32)
        runner.run([], 1, values, np.zeros(11, np.int32), np.arange(11, dtype=np.int32), out)
print(refused, run)
"""


def _contents() -> bytes:
    body = "h = Gemm(x, w, b)\n  i = MatMul(item, u)\n  s = Sigmoid(h)\n  p = Mul(s, i)\n  logits = Gemm(p, v)"
    weights = {"w": (_WIDTH, 24), "b": (24,), "u": (2, 24), "v": (24, 1)}
    return lower_graph(graph_of(body, {"x": _WIDTH, "item": 2}, weights)).to_bytes()


def _model(folder: Path) -> Model:
    item = CategoricalFeature(name="item", side="item", encoding=Identity(size=3))
    schema = Schema(features=(DenseFeature(name="x", side="pair", width=_WIDTH), item), item_id="item")
    return Model(
        name="damaged", schema=schema, graph=folder / "graph.onnx", tables={"item": Table(np.ones((3, 2), np.float32))}
    )


def _open(folder: Path, contents: bytes) -> None:
    (folder / "program.bin").write_bytes(contents)
    Native().open(_model(folder), folder).close()


def test_a_program_opens_when_it_is_whole(tmp_path: Path) -> None:
    _open(tmp_path, _contents())


@pytest.mark.parametrize("kept", [0, 1, 63, 64, 200, -1])
def test_a_program_is_refused_with_a_hint_when_it_is_cut(tmp_path: Path, kept: int) -> None:
    with pytest.raises(ArtifactError, match="is no program of the native engine") as caught:
        _open(tmp_path, _contents()[:kept])
    assert caught.value.where == str(tmp_path / "program.bin")
    assert "rankine compile" in str(caught.value.hint)


def test_a_program_is_refused_when_it_is_longer_than_it_says(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the constants do not end where the file ends"):
        _open(tmp_path, _contents() + b"\0")


def test_a_program_is_refused_when_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is no program of the native engine"):
        Native().open(_model(tmp_path), tmp_path)


def test_a_program_is_refused_when_its_version_is_another(tmp_path: Path) -> None:
    contents = bytearray(_contents())
    contents[8:12] = (7).to_bytes(4, "little")
    with pytest.raises(ArtifactError, match="version 7"):
        _open(tmp_path, bytes(contents))


@pytest.mark.parametrize("kept", range(0, 200, 8))
def test_a_program_is_refused_when_it_is_cut_anywhere(kept: int) -> None:
    contents = np.frombuffer(_contents(), np.uint8)
    with pytest.raises(ValueError, match=r"the (file|constants)"):
        _native.Program(contents[: len(contents) * kept // 200])


@pytest.mark.parametrize("seed", [-1, 0, 3, 5])
def test_nothing_crashes_when_bytes_are_flipped(tmp_path: Path, seed: int) -> None:
    """In a process of its own, which a crash would end: of one small program, and of random graphs."""
    contents = _contents() if seed < 0 else lower_graph(random_graph(seed)[0]).to_bytes()
    (tmp_path / "program.bin").write_bytes(contents)
    records_bytes = int.from_bytes(contents[40:48], "little")  # where the constants begin
    arguments = [str(tmp_path / "program.bin"), str(seed + 1), "400", str(records_bytes)]
    done = subprocess.run(
        [sys.executable, "-c", _RUN_DAMAGED, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    refused, run = map(int, done.stdout.split())
    assert refused > 40
    assert run > 40


def test_a_call_is_refused_when_it_is_of_more_requests_than_there_can_be() -> None:
    contents = np.frombuffer(_contents(), np.uint8)
    program = _native.Program(contents)
    sources = [
        ("dense", "pair", number, None, None, 0, number, 0, width, 0, None, None)
        for number, (width, _) in enumerate(program.inputs)
    ]
    runner = _native.FusedRunner(None, [], program, sources, 0, 1, "")
    values = [np.ones((1, width), np.float32) for width, _ in program.inputs]
    one = np.zeros(1, np.int32)
    for requests in (-1, 2**31 + 1, 2**62):
        with pytest.raises(ValueError, match="requests: is out of range"):
            runner.run([], requests, values, one, one, np.empty((1, 1), np.float32))
