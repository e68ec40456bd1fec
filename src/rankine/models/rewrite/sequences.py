"""Sequences of tensors: exporters write ``split`` so, which few engines read and nothing can be trained through."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from rankine.models.rewrite.graph import Graph, attribute

__all__ = ["settle_sequences"]


def settle_sequences(graph: Graph) -> None:
    """Put a slice in the place of every ``SequenceAt`` that takes a part of a ``SplitToSequence`` at a known place.

    Others stay as they are, and so does a split whose sizes are computed.
    """
    splits = {node.output[0]: node for node in graph.nodes if node.op_type == "SplitToSequence"}
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        split = splits.get(node.input[0]) if node.op_type == "SequenceAt" else None
        part = None if split is None else _part(graph, split, node)
        nodes += [node] if part is None else part
    graph.nodes = nodes
    graph.prune()


def _part(graph: Graph, split: onnx.NodeProto, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """The nodes that cut one part; None where its place is not known."""
    sizes = np.array(1)
    has_sizes = len(split.input) > 1 and bool(split.input[1])
    if has_sizes:
        if split.input[1] not in graph.constants:
            return None
        sizes = graph.constants[split.input[1]]
    if node.input[1] not in graph.constants:
        return None
    at, axis = int(graph.constants[node.input[1]]), attribute(split, "axis", 0)
    if sizes.ndim:
        bounds = np.cumsum([0, *sizes])
        at %= len(sizes)
        start, stop = bounds[at], bounds[at + 1]
    elif at >= 0:
        start, stop = at * int(sizes), (at + 1) * int(sizes)  # the last part is shorter, and a slice ends with the axis
    else:
        return None
    limits = [graph.constant([value], np.int64) for value in (start, stop, axis)]
    whole = has_sizes or attribute(split, "keepdims", 1)
    cut = node.output[0] if whole else graph.fresh("part")
    found = [helper.make_node("Slice", [split.input[0], *limits], [cut])]
    if not whole:
        found.append(helper.make_node("Squeeze", [cut, limits[2]], [node.output[0]]))
    return found
