"""Linear layers of a graph while a pass rewrites them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

    from rankine.models.rewrite.graph import Graph

__all__ = ["Linear", "gemm", "linear_layers", "replace_nodes", "unused", "widths_of"]

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


@dataclass(frozen=True)
class Linear:
    """A layer ``y = x W + b`` whose weights are constants that no other node reads.

    Attributes:
        node: a ``Gemm`` or a ``MatMul``.
        matrix: float64 ``(inputs, outputs)``.
        bias: float64 ``(outputs,)``; None where there is none.
    """

    node: onnx.NodeProto
    matrix: Floats
    bias: Floats | None

    @property
    def source(self) -> str:
        """The value that it reads."""
        return str(self.node.input[0])

    @property
    def result(self) -> str:
        """The value that it gives."""
        return str(self.node.output[0])


def widths_of(model: onnx.ModelProto) -> dict[str, int]:
    """Columns of the values ``(rows, columns)`` of a graph, as far as they can be inferred."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        shape = value.type.tensor_type.shape.dim
        if len(shape) == 2 and shape[1].dim_value:
            found[value.name] = int(shape[1].dim_value)
    return found


def linear_layers(graph: Graph) -> list[Linear]:
    """The linear layers of a graph, in its order."""
    readers = graph.readers()
    return [
        layer
        for node in graph.nodes
        if node.op_type in ("Gemm", "MatMul")
        for layer in [_linear(graph, node)]
        if layer is not None and all(len(readers[name]) == 1 for name in node.input[1:] if name)
    ]


def gemm(
    graph: Graph, source: str, result: str, matrix: Floats, bias: Floats | None, *, name: str, dims: int = 2
) -> onnx.NodeProto:
    """A new layer ``result = source W + b`` with constants named after it; a ``MatMul`` without bias where ``source``
    has more than two ``dims``."""
    from onnx import helper

    weight = unused(graph, f"{name}.weight")
    if dims != 2:
        graph.constants[weight] = matrix.astype(np.float32)
        return helper.make_node("MatMul", [source, weight], [result], name=name)
    graph.constants[weight] = np.ascontiguousarray(matrix.T, np.float32)
    inputs = [source, weight]
    if bias is not None:
        inputs.append(unused(graph, f"{name}.bias"))
        graph.constants[inputs[-1]] = bias.astype(np.float32)
    return helper.make_node("Gemm", inputs, [result], name=name, transB=1)


def unused(graph: Graph, name: str) -> str:
    """``name``, or another one where the graph has a value of that name: exporters give a value the name of an
    attribute, such as ``linear``, whose weight ``linear.weight`` may be that of another layer."""
    taken = name in graph.constants or any(name in node.output for node in graph.nodes)
    return graph.fresh(name) if taken else name


def replace_nodes(graph: Graph, old: Sequence[onnx.NodeProto], new: Sequence[onnx.NodeProto]) -> None:
    """Put ``new`` where the last of ``old`` was, and drop ``old``."""
    at = next(position for position, node in enumerate(graph.nodes) if node is old[-1])
    graph.nodes[at : at + 1] = new
    graph.nodes = [node for node in graph.nodes if not any(node is gone for gone in old)]


def _linear(graph: Graph, node: onnx.NodeProto) -> Linear | None:
    """None where a weight is no constant, or its form is not that of a layer."""
    from rankine.models.rewrite.graph import attribute

    names = [name for name in node.input[1:] if name]
    if node.input[0] in graph.constants or not graph.constants.keys() >= set(names):
        return None
    matrix = graph.constants[names[0]]
    if matrix.ndim != 2 or matrix.dtype != np.float32 or attribute(node, "transA", 0):
        return None
    weight = matrix.astype(np.float64)
    if node.op_type == "MatMul":
        return Linear(node, weight, None)
    weight = attribute(node, "alpha", 1.0) * (weight.T if attribute(node, "transB", 0) else weight)
    if len(names) == 1:
        return Linear(node, weight, None)
    bias = attribute(node, "beta", 1.0) * graph.constants[names[1]].astype(np.float64)
    if bias.size not in (1, weight.shape[1]):  # one bias a row of the batch: no layer
        return None
    return Linear(node, weight, np.broadcast_to(bias.reshape(-1), weight.shape[1:]))
