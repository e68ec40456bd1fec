"""The linear layers of a graph that can be INT8, and those that cannot and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankine.errors import UsageError

if TYPE_CHECKING:
    import onnx

    from rankine.models.rewrite.graph import Graph

__all__ = ["FEWEST_COLUMNS", "Layer", "find_layers", "has_layers", "read_graph"]

LINEAR = ("Gemm", "MatMul")
FEWEST_COLUMNS = 8
"""A narrower layer, such as a gate or an attention weight, does not fill a vector register: INT8 would cost accuracy
and save nothing."""


@dataclass(frozen=True)
class Layer:
    """A product of an activation and a constant matrix.

    Attributes:
        name: what the layer gives, as the graph names it: names of nodes are optional in ONNX, those of values are not.
        source: the value that it reads, ``(rows, ..., width)``.
        weight, bias: names of its constants; ``bias`` is empty where there is none.
        transposed: whether the weight is stored as ``(columns, width)``.
        width, columns: of the matrix.
    """

    name: str
    source: str
    weight: str
    bias: str
    transposed: bool
    width: int
    columns: int

    def matrix(self, graph: Graph) -> np.ndarray:
        """The weight as ``(width, columns)`` float32."""
        stored = graph.constants[self.weight]
        return stored.T if self.transposed else stored


def read_graph(model: onnx.ModelProto) -> Graph:
    """The graph, opened.

    Raises:
        UsageError: it is INT8 already.
    """
    from rankine.models.rewrite.graph import Graph

    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise UsageError(
            "the graph is quantized already",
            where="graph",
            got="QuantizeLinear nodes",
            allowed="an FP32 graph",
            hint="Quantize the variant that it was made from.",
        )
    return Graph.opened(model)


def find_layers(graph: Graph) -> tuple[Layer, ...]:
    """The layers that can be INT8, in the order of the graph.

    Not among them: the head, which is the last linear layer before each logit (256 levels would leave ties), products
    of two activations (dot interactions, attention), and layers of fewer than 8 columns.

    Raises:
        UsageError: there is none.
    """
    found = _found(graph)
    if not found:
        raise UsageError(
            "there is no layer that could be INT8",
            where="graph",
            got=f"{len(_linear(graph))} linear layers, all of them heads or narrow",
            allowed=f"a hidden layer of {FEWEST_COLUMNS} columns or more",
            hint="Leave 'quantize' out of the recipe: on so small a network INT8 saves nothing.",
        )
    return found


def has_layers(model: onnx.ModelProto) -> bool:
    """Whether :func:`find_layers` finds any."""
    return bool(_found(read_graph(model)))


def _found(graph: Graph) -> tuple[Layer, ...]:
    linear = _linear(graph)
    heads = _heads(graph, set(linear))
    return tuple(layer for layer in linear.values() if layer.name not in heads and layer.columns >= FEWEST_COLUMNS)


def _linear(graph: Graph) -> dict[str, Layer]:
    return {layer.name: layer for node in graph.nodes if (layer := _layer(node, graph)) is not None}


def _layer(node: onnx.NodeProto, graph: Graph) -> Layer | None:
    """The node as a layer; None where it is none, or is written in a way that has no INT8 kernel."""
    from rankine.models.rewrite.graph import attribute

    if node.op_type not in LINEAR:
        return None
    source, weight = node.input[:2]
    values = graph.constants.get(weight)
    if source in graph.constants or values is None or values.ndim != 2 or values.dtype != np.float32:
        return None
    transposed = bool(attribute(node, "transB", 0))
    width, columns = values.shape[::-1] if transposed else values.shape
    bias = node.input[2] if len(node.input) > 2 else ""
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0:
        return None
    if bias and (attribute(node, "beta", 1.0) != 1.0 or graph.constants.get(bias, np.zeros(0)).size != columns):
        return None
    return Layer(node.output[0], source, weight, bias, transposed, width, columns)


def _heads(graph: Graph, linear: set[str]) -> set[str]:
    """The last linear layers: those from which a graph output is reached through no other one."""
    producers = graph.producers()
    heads: set[str] = set()
    seen: set[str] = set()
    waiting = list(graph.outputs)
    while waiting:
        value = waiting.pop()
        if value in seen or value not in producers:
            continue
        seen.add(value)
        if value in linear:
            heads.add(value)
        else:
            waiting.extend(producers[value].input)
    return heads
