"""Which kernels the engine triton-lang chooses for a program, and that they give what its steps give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.installed import installed_engine
from rankine.artifact import Artifact
from rankine.compilation.binding import Settings
from rankine.compilation.conformance.batches import ranking_batch
from rankine.compilation.conformance.zoo import INT8, MODELS
from rankine.compilation.engine import Model, Target
from rankine.compilation.engines.reference import ReferenceRunner
from rankine.compilation.fused.lower import lower_graph
from rankine.compilation.pack_inputs import packed_graph
from rankine.compilation.split_model import open_split, write_split
from rankine.compilation.split_runner import SplitRunner, build_split, open_split_runner
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.variant import BASELINE, load_model
from unit.fused_graphs import graph_of, rows_for

pytestmark = pytest.mark.engine

ENGINE = installed_engine("triton-lang")

from rankine.compilation.build_variant import open_catalog  # noqa: E402
from rankine.compilation.engines.triton_lang.available import devices_here  # noqa: E402
from rankine.compilation.engines.triton_lang.device import device_named  # noqa: E402
from rankine.compilation.engines.triton_lang.lane import DeviceLane  # noqa: E402
from rankine.compilation.engines.triton_lang.patterns import find  # noqa: E402
from rankine.compilation.engines.triton_lang.placing import DeviceProgram  # noqa: E402
from rankine.compilation.engines.triton_lang.runner import DeviceRunner, open_runner  # noqa: E402

DEVICE = device_named(devices_here()[0])
CHOSEN = {"dcn_v2-stacked-low-rank": ["Cross"] * 3, "din": ["UnitAttention"], "dlrm": ["Interaction"]}
"""By reference model; of the others none has a pattern: Dice is no activation that the unit's kernel knows."""


@pytest.mark.parametrize("variant", [BASELINE, INT8])
@pytest.mark.parametrize("name", MODELS)
def test_kernels_are_chosen_when_a_reference_model_has_their_pattern(
    reference_model: Callable[[str], Artifact], name: str, variant: str
) -> None:
    fusion = find(lower_graph(packed_graph(load_model(reference_model(name), variant))))
    assert fusion.kernels == CHOSEN.get(name, [])
    assert bool(fusion.dropped) is (name in CHOSEN)


def _split(model: Model, folder: Path) -> SplitRunner:
    for part in ("parts", "built"):
        (folder / part).mkdir()
    assert write_split(model, Settings(), folder / "parts") is not None
    models = open_split(model, folder / "parts")
    assert models.catalog is not None
    (folder / "parts" / "catalog").mkdir()
    installed_engine("onnxruntime").build(models.catalog, Target(), folder / "parts" / "catalog")
    build_split(ENGINE, models, Target(), folder / "built")
    return open_split_runner(ENGINE, models, folder / "built", open_catalog(models), device=DEVICE.name)


def _logits(runner: DeviceRunner | SplitRunner, batch: Batch, tasks: int) -> np.ndarray:
    out = np.full((batch.rows, tasks), np.nan, np.float32)
    runner.run(batch, out)
    return out


@pytest.mark.parametrize("variant", [BASELINE, INT8])
@pytest.mark.parametrize(
    ("name", "kept"), [("dcn_v2", [True] * 3), ("din", [False, False, False, True]), ("wide_deep", [])]
)
def test_what_requests_share_is_not_spread_when_a_layer_or_attention_reads_it(
    reference_model: Callable[[str], Artifact], tmp_path: Path, name: str, kept: list[bool], variant: str
) -> None:
    """Addends to what the host gathers of items, and of DIN the history, its length and its part of the first layer."""
    model = load_model(reference_model(name), variant)
    runner = _split(model, tmp_path)
    candidate = runner.candidate
    assert isinstance(candidate, DeviceRunner)
    batch = ranking_batch(model, 40)
    expected = ReferenceRunner(model).logits(batch)
    assert np.abs(_logits(runner, batch, expected.shape[1]) - expected).max() < 2e-5
    with candidate._lane() as lane:
        assert [one.added for one in lane._kept] == kept
        assert len(lane._plan.shared) >= len(kept)
    runner.close()


def test_rows_find_their_own_request_when_a_batch_has_several(
    reference_model: Callable[[str], Artifact], tmp_path: Path
) -> None:
    model = load_model(reference_model("din"), BASELINE)
    runner = _split(model, tmp_path)
    one = ranking_batch(model, 24)
    wide = {name: _repeated(column, 20) for name, column in one.request.items()}
    index = np.sort(np.random.default_rng(3).integers(0, 20, 24)).astype(np.int32)
    batch = Batch(wide, one.item, one.pair, index, one.item_index)
    expected = ReferenceRunner(model).logits(batch)
    for _ in range(2):
        assert np.abs(_logits(runner, batch, 1) - expected).max() < 2e-5
        assert np.abs(_logits(runner, one, 1) - ReferenceRunner(model).logits(one)).max() < 2e-5
    runner.close()


def _repeated(column: Column, times: int) -> Column:
    """A column of one request as one of so many, each another."""
    if isinstance(column, Ragged):
        lists = [np.roll(column.values, at)[: max(0, len(column.values) - at)].tolist() for at in range(times)]
        return Ragged.from_lists(lists, np.int32)
    if column.dtype == np.int32:
        return ((column + np.arange(times)) % 50).astype(np.int32)
    return np.concatenate([column * (at + 1) / times for at in range(times)]).astype(column.dtype)


MASKED = """
    q = Slice (item, zero, eight, one)  k = Reshape (history, shape)
    asked = Unsqueeze (q, one)  products = Mul (k, asked)  raw = ReduceSum <keepdims = 0> (products, two)
    scaled = Mul (raw, scale)  inside = Less (steps, count)  scores = Where (inside, scaled, little)
    shares = Softmax <axis = 1> (scores)  row = Unsqueeze (shares, one)  summed = MatMul (row, k)
    found = Squeeze (summed, one)  logits = MatMul (found, w)
"""


def _attention(body: str = MASKED, scale: float = 0.3) -> onnx.ModelProto:
    constants = {
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "eight": np.array([8]),
        "shape": np.array([-1, 6, 8]),
        "scale": np.float32(scale),
        "steps": np.arange(6, dtype=np.float32),
        "little": np.full(6, -1e9, np.float32),
        "w": np.random.default_rng(3).standard_normal((8, 1)).astype(np.float32),
    }
    return graph_of(body, {"item": 8, "history": 48, "count": 1}, constants)


def _run(graph: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Which kernels are chosen, what they give, and what the program's interpreter gives."""
    from unit.program_interpreter import run_program

    program = lower_graph(graph)
    names = [value.name for value in graph.graph.input]
    expected = run_program(program.to_bytes(), [inputs[name] for name in names])
    held = DeviceProgram(program, DEVICE.torch_device)
    lane = DeviceLane(held, DEVICE)
    for view, name in zip(lane.inputs(len(expected)), names, strict=True):
        view[:] = inputs[name]
    out = np.full(expected.shape, np.nan, np.float32)
    lane.execute(len(out), out)
    return held.fusion.kernels, out, expected


def test_softmax_attention_is_chosen_when_a_graph_masks_a_history() -> None:
    graph = _attention()
    inputs = rows_for(graph)
    inputs["count"] = np.arange(len(inputs["count"]), dtype=np.float32)[:, None] % 7
    chosen, found, expected = _run(graph, inputs)
    assert chosen == ["SoftmaxAttention"]
    assert np.abs(found - expected).max() < 1e-5


def test_steps_stay_as_they_are_when_somebody_else_reads_what_lies_between() -> None:
    """The shares are a part of the logits."""
    graph = _attention(MASKED.replace("logits = MatMul (found, w)", "logits = Concat <axis = 1> (found, shares)"))
    inputs = rows_for(graph)
    chosen, found, expected = _run(graph, inputs)
    assert chosen == []
    assert np.abs(found - expected).max() < 1e-5


def test_pairs_are_one_kernel_when_a_graph_takes_them_above_the_diagonal() -> None:
    row, column = np.triu_indices(5)
    body = """
        v = Reshape (x, shape)  t = Transpose <perm = [0, 2, 1]> (v)  p = MatMul (v, t)
        flat = Reshape (p, wide)  logits = Gather <axis = 1> (flat, places)
    """
    constants = {"shape": np.array([-1, 5, 4]), "wide": np.array([-1, 25]), "places": row * 5 + column}
    graph = graph_of(body, {"x": 20}, constants)
    chosen, found, expected = _run(graph, rows_for(graph))
    assert chosen == ["Interaction"]
    assert found.shape[1] == 15
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("name", ["din", "dcn_v2"])
def test_best_candidates_are_those_of_the_logits_when_requests_have_several(
    reference_model: Callable[[str], Artifact], tmp_path: Path, name: str
) -> None:
    model = load_model(reference_model(name), BASELINE)
    ENGINE.build(model, Target(), tmp_path)
    runner = open_runner(model, tmp_path, device=DEVICE.name)
    batch = ranking_batch(model, 30)
    logits = _logits(runner, batch, 1)[:, 0]
    best = runner.best(batch, 4)
    order = np.argsort(-logits, kind="stable")[:4]
    assert best.requests.tolist() == [0]
    assert best.rows.tolist() == [order.tolist()]
    np.testing.assert_allclose(best.scores[0], 1 / (1 + np.exp(-logits[order].astype(np.float64))), rtol=1e-5)
    runner.close()
