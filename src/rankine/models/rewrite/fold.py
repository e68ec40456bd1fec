"""What is folded where a model is only run: dropout goes, batch normalization becomes part of the layer before it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from rankine.models.rewrite.errors import place
from rankine.models.rewrite.graph import Graph, attribute, renamed
from rankine.models.rewrite.shapes import Shapes

__all__ = ["fold_batch_norms", "remove_dropout"]


def remove_dropout(graph: Graph) -> list[str]:
    """Replace Dropout and Identity by their inputs; returns notes."""
    names: dict[str, str] = {}
    kept, notes = [], []
    for node in graph.nodes:
        node = renamed(node, names)
        if node.op_type in ("Dropout", "Identity") and node.output[0] not in graph.outputs:
            names[node.output[0]] = node.input[0]
            if node.op_type == "Dropout":
                notes.append(f"{place(node)}: removed")
        elif node.op_type == "Dropout":
            kept.append(helper.make_node("Identity", [node.input[0]], [node.output[0]]))
        else:
            kept.append(node)
    graph.nodes = kept
    return notes


def fold_batch_norms(graph: Graph, shapes: Shapes) -> list[str]:
    """Fold every BatchNormalization with constant parameters; returns notes.

    ``y = (x - mean) / sqrt(var + epsilon) * scale + bias`` is ``x * a + b``: folded into weight and bias of the linear
    layer that gives ``x`` where nothing else reads it, else a product and a sum.
    """
    notes = []
    for node in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        parameters = [graph.constants.get(name) for name in node.input[1:5]]
        if len(node.output) > 1 or attribute(node, "training_mode", 0) or any(part is None for part in parameters):
            continue
        scale, bias, mean, variance = (np.asarray(part, np.float64) for part in parameters)
        a = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        b = bias - mean * a
        linear = _linear_before(graph, node) if len(shapes.of(node.output[0], node)[0]) == 2 else None
        at = graph.nodes.index(node)
        if linear is None:
            rank = len(shapes.of(node.output[0], node)[0])
            graph.nodes[at : at + 1] = _scaled(graph, node, a, b, rank)
            notes.append(f"{place(node)}: is a product and a sum")
        else:
            graph.nodes[at : at + 1] = _folded(graph, linear, node.output[0], a, b)
            notes.append(f"{place(node)}: folded into {place(linear[0])}")
    graph.prune()
    return notes


def _linear_before(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """The Gemm, MatMul, or MatMul and Add whose result is normalized and read by nothing else."""
    producers, readers = graph.producers(), graph.readers()
    last = producers.get(node.input[0])
    if last is None or len(readers[node.input[0]]) > 1 or node.input[0] in graph.outputs:
        return None
    if last.op_type in ("Gemm", "MatMul"):
        constant = [last.input[1], *(name for name in last.input[2:3] if name)]
        plain = last.op_type == "MatMul" or not attribute(last, "transA", 0)
        return [last] if plain and _matrix(graph, last) and graph.constants.keys() >= set(constant) else None
    if last.op_type != "Add":
        return None
    for product, bias in (last.input, last.input[::-1]):
        before = producers.get(product)
        if before is None or before.op_type != "MatMul" or bias not in graph.constants:
            continue
        if len(readers[product]) == 1 and _matrix(graph, before):
            return [before, last]
    return None


def _matrix(graph: Graph, node: onnx.NodeProto) -> bool:
    return node.input[1] in graph.constants and graph.constants[node.input[1]].ndim == 2


def _folded(
    graph: Graph, linear: list[onnx.NodeProto], result: str, a: np.ndarray, b: np.ndarray
) -> list[onnx.NodeProto]:
    first = linear[0]
    weight = graph.constants[first.input[1]].astype(np.float64)
    bias = np.zeros(1)
    scale, beta = 1.0, 1.0
    if first.op_type == "Gemm":
        scale, beta = float(attribute(first, "alpha", 1.0)), float(attribute(first, "beta", 1.0))
        weight = weight.T if attribute(first, "transB", 0) else weight
        if len(first.input) > 2 and first.input[2]:
            bias = beta * graph.constants[first.input[2]].astype(np.float64)
    elif len(linear) == 2:
        name = next(name for name in linear[1].input if name in graph.constants)
        bias = graph.constants[name].astype(np.float64)
    folded = graph.constant(weight * scale * a, np.float32)
    added = graph.constant((bias * a + b).reshape(np.broadcast_shapes(bias.shape, b.shape)), np.float32)
    return [helper.make_node("Gemm", [first.input[0], folded, added], [result], name=first.name)]


def _scaled(graph: Graph, node: onnx.NodeProto, a: np.ndarray, b: np.ndarray, rank: int) -> list[onnx.NodeProto]:
    shape = (1, -1) + (1,) * (rank - 2) if rank > 1 else (-1,)
    product = graph.fresh("product")
    return [
        helper.make_node("Mul", [node.input[0], graph.constant(a.reshape(shape), np.float32)], [product]),
        helper.make_node("Add", [product, graph.constant(b.reshape(shape), np.float32)], [node.output[0]]),
    ]
