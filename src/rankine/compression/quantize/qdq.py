"""The canonical INT8 form of a graph: QDQ pairs around linear layers and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rankine.compression.quantize.layers import Layer, read_graph
from rankine.compression.quantize.ranges import Range
from rankine.compression.quantize.weights import column_scales, quantize_bias, quantize_weight

if TYPE_CHECKING:
    import onnx

    from rankine.models.rewrite.graph import Graph

__all__ = ["write_qdq"]


def write_qdq(model: onnx.ModelProto, layers: Sequence[Layer], ranges: Mapping[str, Range]) -> onnx.ModelProto:
    """The graph with ``layers`` in INT8; every other node reads what it read before, not rounded.

    Activations are u8, asymmetric, per tensor: one pair of ``QuantizeLinear`` and ``DequantizeLinear`` a value that
    layers read. Weights are s8, symmetric, per column; a Gemm's bias is int32 with the scale of the product, which is
    what makes engines run it as one integer kernel. Zero points are written out also where they are zero: ONNX Runtime
    does not recognize the layer otherwise. (Elementwise operators of a cross layer that read rounded values would add
    up their rounding from layer to layer: the logits' error was four times as large.)

    Args:
        model: FP32.
        ranges: by the name of each value that ``layers`` read.
    """
    graph = read_graph(model)
    by_name = {layer.name: layer for layer in layers}
    nodes: list[onnx.NodeProto] = []
    rounded: dict[str, str] = {}
    for node in graph.nodes:
        layer = by_name.get(node.output[0])
        if layer is not None:
            scale = ranges[layer.source].scale
            if layer.source not in rounded:
                rounded[layer.source] = _round_activation(graph, nodes, layer.source, ranges[layer.source])
            node = _copied(node)
            node.input[0] = rounded[layer.source]
            node.input[1], column = _round_weight(graph, nodes, layer, scale)
            if layer.bias:
                node.input[2] = _round_bias(graph, nodes, layer, scale * column)
        nodes.append(node)
    graph.nodes = nodes
    return graph.closed(model)


def _round_activation(graph: Graph, nodes: list[onnx.NodeProto], source: str, found: Range) -> str:
    from onnx import helper

    scale, zero = f"{source}.u8.scale", f"{source}.u8.zero_point"
    graph.constants[scale] = np.asarray(found.scale, np.float32)
    graph.constants[zero] = np.asarray(found.zero_point, np.uint8)
    nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [f"{source}.u8"]))
    nodes.append(helper.make_node("DequantizeLinear", [f"{source}.u8", scale, zero], [f"{source}.rounded"]))
    return f"{source}.rounded"


def _round_weight(
    graph: Graph, nodes: list[onnx.NodeProto], layer: Layer, input_scale: np.float32
) -> tuple[str, np.ndarray]:
    """The name of the rounded weight, and its scales ``(columns,)``."""
    from onnx import helper

    name = f"{layer.name}.weight"
    bias = graph.constants[layer.bias].reshape(-1) if layer.bias else None
    scale = column_scales(layer.matrix(graph), bias, float(input_scale))
    codes = quantize_weight(layer.matrix(graph), scale)
    graph.constants[f"{name}.s8"] = codes.T if layer.transposed else codes
    graph.constants[f"{name}.s8.scale"] = scale
    graph.constants[f"{name}.s8.zero_point"] = np.zeros(len(scale), np.int8)
    inputs = [f"{name}.s8", f"{name}.s8.scale", f"{name}.s8.zero_point"]
    axis = 0 if layer.transposed else 1
    nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.rounded"], axis=axis))
    return f"{name}.rounded", scale


def _round_bias(graph: Graph, nodes: list[onnx.NodeProto], layer: Layer, scale: np.ndarray) -> str:
    from onnx import helper

    name = f"{layer.name}.bias"
    graph.constants[f"{name}.s32"] = quantize_bias(graph.constants[layer.bias].reshape(-1), scale)
    graph.constants[f"{name}.s32.scale"] = scale.astype(np.float32)
    graph.constants[f"{name}.s32.zero_point"] = np.zeros(len(scale), np.int32)
    inputs = [f"{name}.s32", f"{name}.s32.scale", f"{name}.s32.zero_point"]
    nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.rounded"], axis=0))
    return f"{name}.rounded"


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
