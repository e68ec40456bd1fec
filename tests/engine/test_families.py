"""Every architecture on every engine that runs graphs: exported to plain operators, equal to PyTorch, INT8 sane."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engine.families import FAMILIES, Built, build_family
from engine.installed import installed_engine
from engine.small_model import small_batch
from rankine.compilation.engine import Runner, Target
from rankine.compilation.verify import verify
from rankine.errors import BadRequest
from rankine.models.checkpoint import save_checkpoint
from rankine.models.columns import Ragged
from rankine.models.inputs import torch_inputs
from rankine.models.macs import count_graph_macs
from rankine.models.variant import Numeric
from rankine.models.zoo.base import RankingModel

pytestmark = pytest.mark.engine

ENGINES = ("onnxruntime", "openvino")
ROWS = (1, 7, 512)
PLAIN = {
    *("Add", "Cast", "Concat", "Div", "Gather", "Gemm", "Less", "MatMul", "Max", "Mul", "PRelu", "ReduceSum", "Relu"),
    *("Reshape", "Sigmoid", "Slice", "Softmax", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
}
"""What a graph may consist of: fixed shapes but for the rows, no control flow, no scattering."""

Build = Callable[[str], Built]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    known: dict[str, Built] = {}

    def build(name: str) -> Built:
        if name not in known:
            known[name] = build_family(name, tmp_path_factory.mktemp(name))
        return known[name]

    yield build
    known.clear()


def opened(built: Built, numeric: Numeric, engine: str, folder: Path) -> Runner:
    loaded = installed_engine(engine)
    loaded.build(built.model(numeric), Target(), folder)
    return loaded.open(built.model(numeric), folder)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FAMILIES)
def test_family_equals_pytorch_and_the_reference_when_run_in_fp32(
    built: Build, tmp_path: Path, name: str, engine: str
) -> None:
    family = built(name)
    runner = opened(family, "fp32", engine, tmp_path)
    for rows in ROWS:
        batch = small_batch(rows)
        with torch.inference_mode():
            expected = family.module(torch_inputs(batch, family.module.schema)).numpy()
        out = np.full(expected.shape, np.nan, np.float32)
        runner.run(batch, out)
        assert (np.abs(out - expected) / np.maximum(1, np.abs(expected))).max() <= 1e-5
        verify(family.fp32, runner, batch)
    runner.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FAMILIES)
def test_family_equals_the_reference_when_run_in_int8(built: Build, tmp_path: Path, name: str, engine: str) -> None:
    family = built(name)
    runner = opened(family, "int8", engine, tmp_path)
    for rows in ROWS:
        verify(family.int8, runner, small_batch(rows))
    runner.close()


@pytest.mark.parametrize("engine", [*ENGINES, "eager", "reference"])
@pytest.mark.parametrize(
    ("offsets", "reason"), [([0, 1, 7], "a sequence is too long"), ([0, 3, 2], "offsets are out of order")]
)
def test_a_history_is_refused_when_no_model_could_read_it(
    built: Build, tmp_path: Path, engine: str, offsets: list[int], reason: str
) -> None:
    family = built("din")
    save_checkpoint(family.module, family.module.config, tmp_path / "checkpoint")
    family = replace(family, fp32=replace(family.fp32, checkpoint=tmp_path / "checkpoint"))
    runner = opened(family, "fp32", engine, tmp_path)
    batch = small_batch(100)  # of two requests
    history = Ragged(np.ones(max(offsets), np.int32), np.array(offsets, np.int32))
    row = int(np.argmax(batch.request_index == 1))
    with pytest.raises(BadRequest, match=rf"history \(row {row} of the batch\): {reason}"):
        runner.run(replace(batch, request={**batch.request, "history": history}), np.empty((100, 1), np.float32))
    runner.close()


@pytest.mark.parametrize("name", FAMILIES)
def test_graph_has_plain_operators_only_when_exported(built: Build, name: str) -> None:
    graph = onnx.load(built(name).fp32.graph).graph
    assert {node.op_type for node in graph.node} <= PLAIN
    assert [value.name for value in graph.output] == ["logits"]


@pytest.mark.parametrize("name", FAMILIES)
def test_macs_of_the_graph_are_what_pytorch_counts_when_it_runs_the_module(built: Build, name: str) -> None:
    family = built(name)
    assert _counted_by_pytorch(family.module) == count_graph_macs(onnx.load(family.fp32.graph))


@pytest.mark.parametrize("name", FAMILIES)
def test_only_hidden_layers_are_quantized_when_quantized(built: Build, name: str) -> None:
    graph = onnx.load(built(name).int8.graph).graph
    constants = {tensor.name for tensor in graph.initializer}
    quantized = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    products = [node for node in graph.node if node.op_type in ("Gemm", "MatMul")]
    inside = [node for node in products if set(node.input) & quantized]
    assert len(inside) >= 2
    assert all(set(node.input[:2]) <= quantized for node in inside), "half a layer is quantized"
    activations = [node for node in products if not set(node.input) & (constants | quantized)]
    assert len(activations) == {"dlrm": 1, "mmoe": 2, "din": 1, "din-dice": 1}.get(name, 0)
    others = [node for node in graph.node if node.op_type not in ("Gemm", "MatMul", "QuantizeLinear")]
    read = {value for node in others if node.op_type != "DequantizeLinear" for value in node.input}
    assert not read & quantized, "an elementwise operator reads rounded values"


@pytest.mark.parametrize("name", FAMILIES)
def test_last_layers_stay_in_float_when_quantized(built: Build, name: str) -> None:
    family = built(name)
    graph = onnx.load(family.int8.graph).graph
    quantized = {value for node in graph.node if node.op_type == "DequantizeLinear" for value in node.output}
    heads = [key for key in family.module.state_dict() if "head" in key and key.endswith("weight")]
    assert len(heads) == family.module.tasks if name == "mmoe" else len(heads) == 1
    for key in heads:
        (layer,) = (node for node in graph.node if f"model.{key}" in node.input)
        assert layer.op_type == "Gemm"
        assert not set(layer.input) & quantized


def _counted_by_pytorch(model: RankingModel) -> int:
    """Multiply-adds of the dense part for one row, as PyTorch's own counter sees them."""
    from torch.utils.flop_counter import FlopCounterMode

    rows = 2  # one row could be dispatched as a product with a vector, which is not counted
    parts = [torch.zeros(rows, width) for width in model.widths]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval().dense(parts)
    return int(counter.get_total_flops()) // (2 * rows)
