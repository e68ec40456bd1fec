"""The parts of a split model as engines run them: one matrix an item, one a request, and inputs gathered from both.

What the candidate's graph would do with gathered values before anything else is done while they are gathered: sums of
an item's and a request's value, and concatenations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import onnx
from onnx import TensorProto, helper

from rankine.compilation.binding.plan import BindingPlan, Column, computed
from rankine.compilation.binding.split import SplitModel
from rankine.models.graph_inputs import GraphInput, Piece
from rankine.models.rewrite.graph import Graph, attribute, reads

__all__ = ["STORED", "LaidOut", "lay_out"]

STORED = "stored"
"""Name of the only output of the catalog's and of the request's graph."""


@dataclass(frozen=True)
class LaidOut:
    """A split model.

    Attributes:
        catalog: gives ``(items, width)``: the computed columns of the plan side by side; None where there are none.
        request: the same of the request.
        candidate: reads ``inputs``, each float32 ``(rows, width)``, in this order.
    """

    catalog: onnx.ModelProto | None
    request: onnx.ModelProto | None
    candidate: onnx.ModelProto
    inputs: tuple[GraphInput, ...]


@dataclass(frozen=True)
class _Leaf:
    """A value that is gathered: its pieces, and its shape without the rows."""

    pieces: tuple[Piece, ...]
    shape: tuple[int, ...]


def lay_out(split: SplitModel) -> LaidOut:
    """Pack the outputs of the early parts, and gather them into the inputs of the late one."""
    plan, parts = split.plan, split.parts
    graph = _opened(parts.candidate)
    leaves = _leaves(plan)
    graph.nodes = [node for node in graph.nodes if not _gathered(node, leaves, graph.outputs)]
    read = {name for node in graph.nodes for name in reads(node)}
    kept = {name: leaf for name, leaf in leaves.items() if name in read}
    views = {name: graph.fresh("flat") for name, leaf in kept.items() if len(leaf.shape) != 1}
    reshapes = [_reshape(graph, flat, name, kept[name].shape) for name, flat in views.items()]
    graph.nodes = [*reshapes, *graph.nodes]
    inputs = tuple(GraphInput(name=views.get(name, name), pieces=leaf.pieces) for name, leaf in kept.items())
    graph.inputs = [_matrix(given.name, given.width) for given in inputs]
    return LaidOut(
        catalog=_packed(parts.catalog, plan.catalog),
        request=_packed(parts.request, plan.request),
        candidate=graph.closed(parts.candidate),
        inputs=inputs,
    )


def _opened(part: onnx.ModelProto) -> Graph:
    """A copy. Nothing is folded: of a quantized layer the weights have to stay the bytes that engines look for."""
    copied = onnx.ModelProto()
    copied.CopyFrom(part)
    return Graph.read(copied)


def _leaves(plan: BindingPlan) -> dict[str, _Leaf]:
    """What the candidate's graph reads, and where it is found."""
    found = {}
    for columns, side in ((plan.catalog, "item"), (plan.request, "request"), (plan.row, "row")):
        start = 0
        for number, column in enumerate(computed(columns)):
            place = {"item": str(number)} if side == "item" else {"request": start}
            piece = Piece.model_validate({"column": 0, "width": column.width, **place})
            found[column.name] = _Leaf((piece,), column.shape)
            start += column.width
        for column in columns:
            if column.source == "input":
                piece = Piece(column=0, width=column.width, feature=column.name)
                found[column.name] = _Leaf((piece,), column.shape)
    return found


def _gathered(node: onnx.NodeProto, leaves: dict[str, _Leaf], outputs: Sequence[str]) -> bool:
    """Whether what a node computes is gathered instead; it is a leaf itself from here on."""
    given = [leaves[name] for name in node.input if name in leaves]
    if len(given) < len(node.input) or node.output[0] in outputs or any(len(leaf.shape) != 1 for leaf in given):
        return False
    if node.op_type == "Add":
        made = _sum(*given)
    elif node.op_type == "Concat" and attribute(node, "axis") in (1, -1):
        made = _side_by_side(given)
    else:
        made = None
    if made is None:
        return False
    leaves[node.output[0]] = made
    return True


def _sum(one: _Leaf, other: _Leaf) -> _Leaf | None:
    """An item's value and a request's: floats are added in the order of the graph, which does not matter to them."""
    if one.shape != other.shape or len(one.pieces) != 1 or len(other.pieces) != 1:
        return None
    (left,), (right,) = one.pieces, other.pieces
    if left.side == "request":
        left, right = right, left
    if (left.side, right.side) != ("item", "request"):
        return None
    return _Leaf((left.model_copy(update={"request": right.request}),), one.shape)


def _side_by_side(given: Sequence[_Leaf]) -> _Leaf:
    pieces, start = [], 0
    for leaf in given:
        pieces += [piece.model_copy(update={"column": start + piece.column}) for piece in leaf.pieces]
        start += leaf.shape[0]
    return _Leaf(tuple(pieces), (start,))


def _packed(part: onnx.ModelProto | None, columns: Sequence[Column]) -> onnx.ModelProto | None:
    """A part with its outputs, which are computed columns in the order of the plan, side by side as one."""
    if part is None:
        return None
    graph = _opened(part)
    packed = computed(columns)
    names = [column.name for column in packed]
    for place, column in enumerate(packed):
        if len(column.shape) != 1:
            names[place] = graph.fresh("flat")
            graph.nodes.append(_reshape(graph, column.name, names[place], (column.width,)))
    graph.nodes.append(helper.make_node("Concat", _products_joined(graph, names), [STORED], axis=1))
    graph.outputs = [STORED]
    like = onnx.ModelProto(ir_version=part.ir_version, producer_name=part.producer_name)
    like.opset_import.extend(part.opset_import)
    like.graph.name = part.graph.name
    like.graph.output.append(_matrix(STORED, sum(column.width for column in packed)))
    return graph.closed(like)


def _products_joined(graph: Graph, names: Sequence[str]) -> list[str]:
    """Values side by side; neighbors that are products of one value with constants become one product."""
    producers = {node.output[0]: node for node in graph.nodes if node.op_type == "MatMul"}

    def factor(name: str) -> str | None:
        node = producers.get(name)
        return node.input[0] if node is not None and node.input[1] in graph.constants else None

    found: list[str] = []
    for value, run in groupby(names, factor):
        own = list(run)
        weights = [] if value is None else [graph.constants[producers[name].input[1]] for name in own]
        if value is None or len(own) == 1 or any(weight.ndim != 2 for weight in weights):
            found += own
            continue
        joined = graph.fresh("products")
        graph.nodes.append(helper.make_node("MatMul", [value, graph.constant(np.hstack(weights))], [joined]))
        found.append(joined)
    return found


def _reshape(graph: Graph, source: str, target: str, shape: tuple[int, ...]) -> onnx.NodeProto:
    return helper.make_node("Reshape", [source, graph.constant([-1, *shape], np.int64)], [target])


def _matrix(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])
