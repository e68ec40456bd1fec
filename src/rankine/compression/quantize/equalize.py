"""Columns of a linear layer's input brought to like ranges before they share one INT8 scale.

SmoothQuant (Xiao et al., ICML 2023, arXiv 2211.10438): ``x W = (x / s) (diag(s) W)`` with one factor a column. A layer
that reads a concatenation gets columns of very different ranges (dot products beside a bottom MLP's output, a sum over
a history beside embeddings); on one scale for all of them, the small ones keep a few levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rankine.compression.quantize.layers import Layer, read_graph
from rankine.compression.quantize.observe import column_ranges

if TYPE_CHECKING:
    import onnx

    from rankine.models.rewrite.graph import Graph

__all__ = ["EQUALIZED", "equalize_inputs", "restore_inputs"]

_STRENGTH = 0.8
"""How much of the difference of ranges goes over into the weights, the paper's alpha: 0.8 was better than 0.5 on the
validation rows of three models whose INT8 form lost without it (two DLRMs and a DIN)."""
_LEAST_SPREAD = 8.0
"""Layers whose widest column is at most so many times the median one stay as they are: they lose nothing, and scaling
costs a product a column."""
_TINY = 1e-6
EQUALIZED = ".equalized"
"""Ending of the names of scaled values."""


def equalize_inputs(
    model: onnx.ModelProto, layers: Sequence[Layer], inputs: Mapping[str, np.ndarray]
) -> tuple[onnx.ModelProto, tuple[Layer, ...]]:
    """Scale the columns of those values whose ranges differ much; the function stays the same up to rounding.

    Layers that read the same value read it scaled by the same factors, so that it is multiplied and quantized once.

    Args:
        model: FP32.
        inputs: float32 ``(rows, width)`` per graph input, on which ranges are taken.

    Returns:
        The model, and ``layers`` as they are in it: those whose ``source`` has changed were scaled.
    """
    graph = read_graph(model)
    ranges = column_ranges(model, [layer.source for layer in layers], inputs)
    changed: dict[str, Layer] = {}
    for source, found in ranges.items():
        used = found[found > _TINY]
        if not len(used) or used.max() <= _LEAST_SPREAD * np.median(used):
            continue
        readers = [layer for layer in layers if layer.source == source]
        changed |= {layer.name: layer for layer in _scale(graph, source, readers, found)}
    if not changed:
        return model, tuple(layers)
    return graph.closed(model), tuple(changed.get(layer.name, layer) for layer in layers)


def restore_inputs(model: onnx.ModelProto, original: onnx.ModelProto, layers: Sequence[Layer]) -> onnx.ModelProto:
    """Let layers read again what they read in ``original``: in FP32 the product a column is for nothing.

    Args:
        model: what :func:`equalize_inputs` made of ``original``.
        layers: as they are in ``original``; all that read a scaled value, or none.
    """
    graph, before = read_graph(model), read_graph(original)
    by_name = {layer.name: layer for layer in layers}
    for index, node in enumerate(graph.nodes):
        layer = by_name.get(node.output[0])
        if layer is not None:
            graph.constants[layer.weight] = before.constants[layer.weight]
            graph.nodes[index] = _with_inputs(node, layer.source, layer.weight)
    return graph.closed(model)


def _with_inputs(node: onnx.NodeProto, source: str, weight: str) -> onnx.NodeProto:
    from onnx import helper

    copy = helper.make_node(node.op_type, [source, weight, *node.input[2:]], list(node.output), name=node.name)
    copy.attribute.extend(node.attribute)
    return copy


def _scale(graph: Graph, source: str, readers: Sequence[Layer], columns: np.ndarray) -> list[Layer]:
    """Multiply a value whose columns reach up to ``columns (width,)``; its readers as they are afterwards."""
    from onnx import helper

    of_weights = np.max([np.abs(layer.matrix(graph)).max(axis=1) for layer in readers], axis=0)
    factor = _factors(columns, of_weights)
    scaled, name = f"{source}{EQUALIZED}", f"{source}.factor"
    graph.constants[name] = (1 / factor).astype(np.float32)
    nodes = {layer.name: layer for layer in readers}
    at = next(index for index, node in enumerate(graph.nodes) if node.output[0] in nodes)
    graph.nodes.insert(at, helper.make_node("Mul", [source, name], [scaled]))
    changed = []
    for index, node in enumerate(graph.nodes):
        layer = nodes.get(node.output[0])
        if layer is None:
            continue
        weight = f"{layer.name}.equalized_weight"
        matrix = (layer.matrix(graph) * factor[:, None]).astype(np.float32)
        graph.constants[weight] = matrix.T if layer.transposed else matrix
        graph.nodes[index] = _with_inputs(node, scaled, weight)
        changed.append(replace(layer, source=scaled, weight=weight))
    return changed


def _factors(columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One factor a column, near one on the whole; ``(columns,)`` float64."""
    factor = np.maximum(columns, _TINY) ** _STRENGTH / np.maximum(weights, _TINY) ** (1 - _STRENGTH)
    factor = np.where((columns > _TINY) & (weights > _TINY), factor, 1.0)
    scaled: np.ndarray = factor / np.exp(np.log(factor).mean())
    return scaled
