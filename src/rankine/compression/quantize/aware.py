"""Quantization-aware fine-tuning: the network learns again with its layers and tables as they will be quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rankine.compression.context import Context
from rankine.compression.fine_tune import fine_tune
from rankine.compression.quantize.choose import Chosen
from rankine.compression.quantize.layers import Layer, read_graph
from rankine.compression.quantize.write import Calibrated
from rankine.compression.recipe import Tuning
from rankine.models.network import Network
from rankine.models.tables import AnyTable, MixedTable, QuotientRemainderTable, Table

if TYPE_CHECKING:
    import onnx

    from rankine.compression.quantize.fake import FakeActivation
    from rankine.models.torch_graph import GraphModel
    from rankine.training.fit import FitResult

__all__ = ["learn_quantized"]


def learn_quantized(
    network: Network,
    calibrated: Calibrated,
    layers: Sequence[Layer],
    tables: Mapping[str, AnyTable],
    tuning: Tuning,
    context: Context,
) -> tuple[Network, Calibrated, FitResult]:
    """Train weights, tables and ranges with fake quantization, from where they are.

    Args:
        network: FP32.
        layers: of ``calibrated``, those that will be INT8.
        tables: of ``network``, quantized; those with INT4 rows are trained as such.

    Returns:
        The network in FP32 with what was learned, tables on their levels where they will be INT4, and its ranges.

    Raises:
        UsageError: an operator of the graph has no gradient here.
    """
    points = {source: f"{source}.point" for source in dict.fromkeys(layer.source for layer in layers)}
    prepared = network.changed(graph=_with_points(calibrated.model, layers, points))
    fakes: dict[str, FakeActivation] = {}

    def prepare(model: GraphModel) -> None:
        fakes.update(_fake_layers(model, calibrated, layers, points))
        _fake_tables(model, tables)

    tuned, result = fine_tune(prepared, tuning, context, task="quantization-aware", prepare=prepare)
    graph = _without_points(tuned.graph, points)
    learned = {source: Chosen(fake.range(), "learned", None) for source, fake in fakes.items()}
    return (
        tuned.changed(graph=graph),
        replace(calibrated, model=graph, chosen={**calibrated.chosen, **learned}, original=None),
        result,
    )


def _fake_layers(
    model: GraphModel, calibrated: Calibrated, layers: Sequence[Layer], points: Mapping[str, str]
) -> dict[str, FakeActivation]:
    """Put fake quantization into what the layers read; the modules with the ranges, by the name of the value."""
    from torch import nn

    from rankine.compression.quantize.fake import FakeActivation, FakeWeight

    fakes = {source: FakeActivation(calibrated.chosen[source].range) for source in points}
    model.add_module("ranges", nn.ModuleList(fakes.values()))
    model.taps.update({point: fakes[source] for source, point in points.items()})
    model.weight_taps.update({layer.weight: FakeWeight(transposed=layer.transposed) for layer in layers})
    return fakes


def _fake_tables(model: GraphModel, tables: Mapping[str, AnyTable]) -> None:
    """Put fake quantization over tables that have INT4 rows."""
    import torch
    from torch.nn.utils import parametrize

    from rankine.compression.quantize.fake import FakeRows

    for name, module in zip(model.network.tables, model.tables.values(), strict=True):
        for part, (quantized, levels) in _int4_parts(tables[name]).items():
            rows = module.get_parameter(part).detach()
            fake = FakeRows(rows, torch.from_numpy(quantized.dequantized()), torch.from_numpy(levels))
            parametrize.register_parametrization(module, part, fake)


def _int4_parts(table: AnyTable) -> dict[str, tuple[Table | MixedTable, np.ndarray]]:
    """The parts of a table that have INT4 rows, by name, and the steps of each row, float32 ``(vocabulary,)``."""
    match table:
        case QuotientRemainderTable():
            parts = {"quotient": table.quotient, "remainder": table.remainder}
            return {name: found["rows"] for name, part in parts.items() if (found := _int4_parts(part))}
        case MixedTable():
            is_hot = np.unpackbits(table.bitmap, count=table.count, bitorder="little") != 0
            return {"rows": (table, np.where(is_hot, 255, 15).astype(np.float32))}
        case _ if table.form == "int4":
            return {"rows": (table, np.full(table.count, 15, np.float32))}
        case _:
            return {}


def _with_points(model: onnx.ModelProto, layers: Sequence[Layer], points: Mapping[str, str]) -> onnx.ModelProto:
    """The graph with a value of its own for what the layers read: others read the same value, but not rounded."""
    from onnx import helper

    from rankine.models.rewrite.graph import renamed

    graph = read_graph(model)
    names = {layer.name for layer in layers}
    nodes: list[onnx.NodeProto] = []
    made: set[str] = set()
    for node in graph.nodes:
        if node.output[0] in names:
            source = node.input[0]
            if source not in made:
                nodes.append(helper.make_node("Identity", [source], [points[source]]))
                made.add(source)
            node = renamed(node, {source: points[source]})
        nodes.append(node)
    graph.nodes = nodes
    return graph.closed(model)


def _without_points(model: onnx.ModelProto, points: Mapping[str, str]) -> onnx.ModelProto:
    from rankine.models.rewrite.graph import renamed

    graph = read_graph(model)
    back = {point: source for source, point in points.items()}
    graph.nodes = [renamed(node, back) for node in graph.nodes if node.output[0] not in back]
    return graph.closed(model)
