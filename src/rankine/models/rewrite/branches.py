"""``If`` nodes that ask for a shape: exporters write ``squeeze(dim)`` so, where they did not know the dimension."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rankine.models.rewrite.graph import Graph, attribute, failures, reads, renamed
from rankine.models.rewrite.probe import ROWS
from rankine.models.rewrite.shapes import probe_feeds, run_all
from rankine.models.schema import Schema

__all__ = ["settle_branches"]


def settle_branches(graph: Graph, schema: Schema) -> None:
    """Put the branch that always runs in the place of every ``If`` whose condition is made of shapes alone.

    Others stay as they are, and so does one whose condition is not the same for every number of rows.
    """
    while node := next((node for node in graph.nodes if node.op_type == "If" and _of_shapes(graph, node)), None):
        chosen = _condition(graph, schema, node.input[0])
        if chosen is None:
            return
        branch: onnx.GraphProto = attribute(node, "then_branch" if chosen else "else_branch")
        position = graph.nodes.index(node)
        graph.nodes[position : position + 1] = _inlined(graph, branch, list(node.output))
        graph.fold()
        graph.prune()


def _of_shapes(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a condition is made of shapes and constants alone, not of the values in a tensor."""
    producers, waiting = graph.producers(), [node.input[0]]
    while waiting:
        name = waiting.pop()
        if name in graph.constants:
            continue
        producer = producers.get(name)
        if producer is None:
            return False
        if producer.op_type not in ("Shape", "Size"):
            waiting += reads(producer)
    return True


def _condition(graph: Graph, schema: Schema, name: str) -> bool | None:
    """A condition's value; None where it differs with the number of rows, or the graph cannot be run."""
    if name in graph.constants:
        return bool(np.all(graph.constants[name]))
    try:
        found = {bool(np.all(run_all(graph, probe_feeds(graph, schema, rows))[name])) for rows in ROWS}
    except failures:  # told where the shapes are needed
        return None
    return found.pop() if len(found) == 1 else None


def _inlined(graph: Graph, branch: onnx.GraphProto, outputs: list[str]) -> list[onnx.NodeProto]:
    """The nodes of a branch, with names that nothing else in the graph has."""
    own = {tensor.name for tensor in branch.initializer} | {name for node in branch.node for name in node.output}
    names: Mapping[str, str] = {name: graph.fresh("branch") for name in sorted(own) if name}
    for tensor in branch.initializer:
        graph.constants[names[tensor.name]] = numpy_helper.to_array(tensor)
    results = [names.get(value.name, value.name) for value in branch.output]
    links = [helper.make_node("Identity", [inner], [outer]) for inner, outer in zip(results, outputs, strict=True)]
    return [*(renamed(node, names) for node in branch.node), *links]
