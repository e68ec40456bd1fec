"""A dense graph as a list of what an engine has to do: linear layers, and the rest by kind and size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rankine.models.macs import node_macs, value_shapes
from rankine.models.network import Network
from rankine.models.variant import Numeric

if TYPE_CHECKING:
    import onnx

__all__ = ["KINDS", "Kind", "LinearLayer", "Operator", "operators_of"]

Kind = Literal["elementwise", "transcendental", "reduce", "move", "product"]
KINDS: tuple[Kind, ...] = ("elementwise", "transcendental", "reduce", "move", "product")

_FREE = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Constant", "Shape", "Cast", "DequantizeLinear")
"""Views, and what engines fuse or fold."""
_KIND_OF: Mapping[str, Kind] = {
    **dict.fromkeys(("Sigmoid", "Softmax", "Tanh", "Exp", "Log", "Erf", "Pow", "Sqrt", "Gelu"), "transcendental"),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceSumSquare"), "reduce"),
    **dict.fromkeys(("Concat", "Slice", "Split", "Transpose", "Gather", "Expand", "Tile", "Pad"), "move"),
}
_LINEAR = ("MatMul", "Gemm")
_FUSED = ("Add", "Relu", "Max", "QuantizeLinear")
"""What follows a linear layer and costs nothing beside it: the bias, the activation, the quantization of the result."""


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """``(rows, width) x (width, columns)`` with constant weights; bias, activation and quantization included."""

    rows: int
    width: int
    columns: int
    numeric: Numeric


@dataclass(frozen=True, slots=True)
class Operator:
    """Anything else: elements that it reads or writes, whichever are more; of a product of two activations its
    multiply-adds."""

    kind: Kind
    elements: int


def operators_of(network: Network, rows: int) -> list[LinearLayer | Operator]:
    """What a call of ``rows`` rows does, in the order of the graph.

    A linear layer is INT8 where both of its inputs come out of a dequantization. A graph without any, in a network
    that says it is INT8, is read as what its quantization would give: all layers but the one that writes the logits.
    Operators whose shapes cannot be inferred are left out.
    """
    graph = network.graph.graph
    shapes = value_shapes(network.graph, rows)
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    constants = _constants(graph)
    foreseen = network.numeric == "int8" and not any(node.op_type == "QuantizeLinear" for node in graph.node)
    packed = {value.name for value in graph.input}
    found: list[LinearLayer | Operator] = []
    for node in graph.node:
        if node.op_type in _FREE or set(node.input) <= constants or _is_fused(node, producers, constants):
            continue
        if node.op_type == "Concat" and set(node.input) == packed:
            continue  # moves into the lookup
        if node.op_type in _LINEAR and node.input[1] in constants:
            layer = _linear(node, shapes)
            if layer is not None:
                found.append(LinearLayer(*layer, numeric=_numeric(node, producers, foreseen, layer[2])))
            continue
        sizes = [math.prod(shapes[name]) for name in (*node.input, *node.output) if name in shapes]
        if not sizes:
            continue
        macs = round(node_macs(node, shapes, constants, rows))
        if macs:
            found.append(Operator("product", macs))
        else:
            found.append(Operator(_KIND_OF.get(node.op_type, "elementwise"), max(sizes)))
    return found


def _linear(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int, int] | None:
    output, weight = shapes.get(node.output[0]), shapes.get(node.input[1])
    if not output or not weight:
        return None
    columns = output[-1]
    return math.prod(output[:-1]), math.prod(weight) // max(1, columns), columns


def _numeric(
    node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto], foreseen: bool, columns: int
) -> Literal["fp32", "int8"]:
    if foreseen:
        return "int8" if columns >= 8 else "fp32"
    quantized = [name in producers and producers[name].op_type == "DequantizeLinear" for name in node.input[:2]]
    return "int8" if all(quantized) else "fp32"


def _constants(graph: onnx.GraphProto) -> set[str]:
    """Names of values that do not depend on the inputs."""
    found = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:
        if set(node.input) <= found:
            found.update(node.output)
    return found


def _is_fused(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto], constants: set[str]) -> bool:
    """Whether a node is the bias, the activation or the quantization of a linear layer's result."""
    if node.op_type not in _FUSED:
        return False
    values = [name for name in node.input if name not in constants]
    if len(values) != 1:
        return False
    before = producers.get(values[0])
    if before is None:
        return False
    return (before.op_type in _LINEAR and before.input[1] in constants) or _is_fused(before, producers, constants)
