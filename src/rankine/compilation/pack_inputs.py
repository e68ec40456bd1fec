"""One packed input instead of one input a feature, so that the lookup writes straight into the engine's buffer."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from rankine.models.variant import Model

__all__ = ["PACKED", "pack_inputs", "packed_graph"]

PACKED = "features"
"""Name of the packed input, float32 ``(rows, width)``."""


def packed_graph(model: Model) -> onnx.ModelProto:
    """The graph of a model, with packed inputs where that is possible and they are features."""
    graph = onnx.load(str(model.graph))
    if model.inputs:
        return graph
    return pack_inputs(graph, [feature.name for feature in model.schema.features]) or graph


def pack_inputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto | None:
    """A copy of ``model`` that reads one input ``features``, the concatenation of the inputs ``names`` in this order.

    Exact, since only the concatenation moves from the graph to whoever fills the input. Possible where the inputs are
    read by nothing but concatenations along the last axis of exactly ``names``; None where that is not so.
    """
    graph = model.graph
    if [value.name for value in graph.input] != list(names):
        return None
    readers = [node for node in graph.node if set(node.input) & set(names)]
    if not readers or not all(_concatenates(node, names) for node in readers):
        return None
    joined = {node.output[0] for node in readers}
    if joined & {value.name for value in graph.output} or _has_subgraphs(graph):
        return None
    kept = [node for node in graph.node if not (node.op_type == "Concat" and node.output[0] in joined)]
    if PACKED in _values(kept) | {constant.name for constant in graph.initializer}:
        return None

    packed = onnx.ModelProto()
    packed.CopyFrom(model)
    first, width = graph.input[0], _width(graph)
    rows = first.type.tensor_type.shape.dim[0].dim_param or "rows"
    del packed.graph.input[:], packed.graph.node[:]
    packed.graph.input.append(
        onnx.helper.make_tensor_value_info(PACKED, first.type.tensor_type.elem_type, [rows, width])
    )
    for node in kept:
        copy = packed.graph.node.add()
        copy.CopyFrom(node)
        copy.input[:] = [PACKED if name in joined else name for name in node.input]
    described = [value for value in graph.value_info if value.name not in joined]
    del packed.graph.value_info[:]
    packed.graph.value_info.extend(described)
    return packed


def _concatenates(node: onnx.NodeProto, names: Sequence[str]) -> bool:
    if node.op_type != "Concat" or list(node.input) != list(names):
        return False
    return any(attribute.name == "axis" and attribute.i in (1, -1) for attribute in node.attribute)


def _has_subgraphs(graph: onnx.GraphProto) -> bool:
    """Whether a node holds a graph of its own, which could read the inputs unseen."""
    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return any(attribute.type in kinds for node in graph.node for attribute in node.attribute)


def _values(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes for name in (*node.input, *node.output)}


def _width(graph: onnx.GraphProto) -> int | None:
    """Columns of all inputs together; None where one is not fixed."""
    widths = [value.type.tensor_type.shape.dim[-1].dim_value for value in graph.input]
    return sum(widths) if all(widths) else None
