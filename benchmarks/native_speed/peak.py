"""Section `peak`: how much of the processor's INT8 peak an MLP reaches that reads bytes, as the parts of a split do."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from native_speed.int8_peak import int8_peak
from native_speed.options import Options
from native_speed.race import Runnable, race, timings_of, turns_of
from native_speed.record import CHAIN, Section, Side
from native_speed.shapes import draw_from
from native_speed.sides import Opened, engines
from rankine.compilation.engine import Model, Runner, Target
from rankine.compilation.engines import load_engine
from rankine.compilation.verify import reference_logits, verify_logits
from rankine.compression.quantize import quantize_graph
from rankine.environment import environment
from rankine.models.columns import Batch
from rankine.models.graph_inputs import GraphInput, Piece, Rounding, stored_column
from rankine.models.macs import count_graph_macs
from rankine.models.schema import DenseFeature, Schema

WIDTHS = (448, 1024, 512, 256, 1)
"""The last layer is a head in FP32: one column, 0.02 % of the work."""
ROWS, ITEMS = 512, 4_096
_INPUT = "x"


@dataclass(frozen=True)
class _Chain:
    """The chain that reads bytes, its float64 reference, and what it reads.

    Attributes:
        values: float32 ``(items, 448)``.
        expected: logits of the first ``ROWS`` items.
    """

    model: Model
    values: np.ndarray
    expected: np.ndarray
    operations: int


def run_peak(options: Options) -> Section:
    """The chain on every engine in turn; the peak is the best that was seen before and after it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        chain = _chain(folder)
        items = {stored_column("0"): chain.values}
        opened = Opened(CHAIN, {}, [])
        for name in engines():
            opened.add(Side(engine=name, numeric="int8"), partial(_open, name, chain, items, folder))
        draw = draw_from({"none": np.zeros((1, 1), np.float32)}, items, np.arange(ITEMS, dtype=np.int32), ROWS)
        sides = [Runnable(side, runner, draw) for side, runner in opened.runners.items()]
        seen = [int8_peak()]
        spent = race(sides, rows=ROWS, tasks=1, turns=turns_of(ROWS, 4 * options.turns))
        seen.append(int8_peak())
        opened.close()
    facts: dict[str, float | int | str] = {"operations": chain.operations}
    facts |= max(seen, key=lambda peak: peak["peak_operations_per_s"]) if all(seen) else {}
    best = {f"best_ms_{side.engine}": float(times.min()) for side, times in spent.items() if side is not None}
    return Section(
        timings=tuple(timings_of(spent, model=CHAIN, rows=ROWS)),
        failures=tuple(opened.failures),
        facts={CHAIN: facts | best},
        created=datetime.now(UTC),
        environment=environment(),
    )


def _open(name: str, chain: _Chain, items: dict[str, np.ndarray], folder: Path) -> Runner:
    into = folder / name
    into.mkdir()
    load_engine(name).build(chain.model, Target(), into)
    runner = load_engine(name).open(chain.model, into)
    first = np.arange(ROWS, dtype=np.int32)
    verify_logits(chain.model, runner, Batch({}, items, {}, np.zeros(ROWS, np.int32), first), chain.expected)
    return runner


def _chain(folder: Path) -> _Chain:
    """Random weights of a size that keeps the range of values from layer to layer."""
    random = np.random.default_rng(0)
    values = random.normal(size=(ITEMS, WIDTHS[0])).astype(np.float32)
    graph = _graph(random)
    quantized = quantize_graph(graph, {_INPUT: values}, equalize=False)
    schema = Schema(features=(DenseFeature(name=_INPUT, side="item", width=WIDTHS[0]),), item_id="item")
    onnx.save(quantized, folder / "rounds.onnx")
    whole = Model("rounds", schema, folder / "rounds.onnx", {}, "int8")
    index = np.arange(ROWS, dtype=np.int32)
    expected = reference_logits(whole, Batch({}, {_INPUT: values}, {}, np.zeros(ROWS, np.int32), index))
    rounding = _take_rounding_out(quantized)
    onnx.save(quantized, folder / "bytes.onnx")
    given = GraphInput(name=_INPUT, pieces=(Piece(column=0, width=WIDTHS[0], item="0"),), rounding=rounding)
    empty = schema.model_copy(update={"features": ()})
    model = Model("bytes", empty, folder / "bytes.onnx", {}, "int8", inputs=(given,))
    return _Chain(model, values, expected, 2 * ROWS * count_graph_macs(graph))


def _graph(random: np.random.Generator) -> onnx.ModelProto:
    nodes, constants, source = [], [], _INPUT
    for layer, (width, columns) in enumerate(pairwise(WIDTHS)):
        weight = random.normal(0, np.sqrt(2 / width), (width, columns)).astype(np.float32)
        bias = random.normal(0, 0.1, columns).astype(np.float32)
        constants += [numpy_helper.from_array(weight, f"w{layer}"), numpy_helper.from_array(bias, f"b{layer}")]
        last = layer == len(WIDTHS) - 2
        sums = "logits" if last else f"sums{layer}"
        nodes.append(helper.make_node("Gemm", [source, f"w{layer}", f"b{layer}"], [sums]))
        if not last:
            nodes.append(helper.make_node("Relu", [sums], [source := f"hidden{layer}"]))
    given = helper.make_tensor_value_info(_INPUT, TensorProto.FLOAT, ["rows", WIDTHS[0]])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 1])
    graph = helper.make_graph(nodes, "chain", [given], [logits], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _take_rounding_out(model: onnx.ModelProto) -> Rounding:
    """Let the graph read bytes where it would have rounded its input; returns how they are rounded."""
    graph = model.graph
    [rounds] = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == _INPUT]
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    step, zero = (constants[name].item() for name in rounds.input[1:3])
    for node in graph.node:
        node.input[:] = [_INPUT if name == rounds.output[0] else name for name in node.input]
    graph.node.remove(rounds)
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    del graph.value_info[:]
    return Rounding(step=step, zero=zero)
