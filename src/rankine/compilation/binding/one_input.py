"""A graph that reads one input for all of its features, side by side as the lookup writes them: what an early part
reads is looked up into one array, and an engine binds one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
from onnx import helper

from rankine.models.rewrite.graph import Graph, attribute, reads, renamed

__all__ = ["read_as_one"]

_FEATURES = "features"


def read_as_one(graph: Graph) -> None:
    """Replace the inputs, float32 ``(rows, width)`` each, by one; concatenations of neighbors become slices of it."""
    widths = {value.name: value.type.tensor_type.shape.dim[-1].dim_value for value in graph.inputs}
    if len(widths) < 2 or any(len(value.type.tensor_type.shape.dim) != 2 for value in graph.inputs):
        return
    starts = np.cumsum([0, *widths.values()])
    all_of_it = (0, int(starts[-1]))
    spans = {name: (int(start), int(start) + widths[name]) for name, start in zip(widths, starts, strict=False)}
    graph.nodes = [node for node in graph.nodes if not _joined(node, spans, graph.outputs)]
    whole = graph.fresh(_FEATURES)
    wanted = {name for node in graph.nodes for name in reads(node)}
    parts = {name: span for name, span in spans.items() if name in wanted and span != all_of_it}
    names = {name: whole for name, span in spans.items() if span == all_of_it}
    slices = [_slice(graph, whole, *span, name) for name, span in parts.items()]
    graph.nodes = [*slices, *(renamed(node, names) for node in graph.nodes)]
    graph.inputs = [helper.make_tensor_value_info(whole, onnx.TensorProto.FLOAT, ["rows", all_of_it[1]])]


def _joined(node: onnx.NodeProto, spans: dict[str, tuple[int, int]], outputs: list[str]) -> bool:
    """Whether a node puts neighbors side by side: then its value is a span as well."""
    if node.op_type != "Concat" or attribute(node, "axis") not in (1, -1) or node.output[0] in outputs:
        return False
    given = [spans.get(name) for name in node.input]
    known = [span for span in given if span is not None]
    if len(known) < len(given) or any(one[1] != other[0] for one, other in pairwise(known)):
        return False
    spans[node.output[0]] = (known[0][0], known[-1][1])
    return True


def _slice(graph: Graph, whole: str, start: int, end: int, name: str) -> onnx.NodeProto:
    bounds = [graph.constant([bound], np.int64) for bound in (start, end, 1)]
    return helper.make_node("Slice", [whole, *bounds], [name])
