"""The parts of a split model as engines run them: one matrix an item, one a request, and inputs gathered from both.

What the candidate's graph would do with gathered values before anything else is done while they are gathered: sums of
an item's and a request's value, and concatenations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import onnx
from onnx import helper

from rankine.compilation.binding.costs import Storage
from rankine.compilation.binding.one_input import read_as_one
from rankine.compilation.binding.places import Part, Places
from rankine.compilation.binding.plan import BindingPlan, Column
from rankine.compilation.binding.split import SplitModel
from rankine.models.graph_inputs import GraphInput, Rounding
from rankine.models.rewrite.graph import Graph, attribute, reads

__all__ = ["STORED", "LaidOut", "lay_out"]

STORED = "stored"
"""Name of the only output of the catalog's and of the request's graph."""


_MOST_TOGETHER = 64
"""Columns. Narrow inputs are gathered as one and split in the graph, which takes less time than a call for each."""


@dataclass(frozen=True)
class LaidOut:
    """A split model.

    Attributes:
        catalog: gives ``(items, width)``, what is stored of an item side by side; None where nothing is.
        request: the same of the request.
        candidate: reads ``inputs``, each float32 ``(rows, width)``, in this order.
        stored: widths of what is stored of an item; what an input's pieces name "0", "1", ... in this order.
        request_width: of what ``request`` gives.
    """

    catalog: onnx.ModelProto | None
    request: onnx.ModelProto | None
    candidate: onnx.ModelProto
    inputs: tuple[GraphInput, ...]
    stored: tuple[int, ...]
    request_width: int


@dataclass(frozen=True)
class _Leaf:
    """A value that is gathered: its parts, and its shape without the rows."""

    parts: tuple[Part, ...]
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        return sum(part.width for part in self.parts)


def lay_out(split: SplitModel, storage: Storage = "float32") -> LaidOut:
    """Pack the outputs of the early parts, and gather them into the inputs of the late one."""
    plan, parts = split.plan, split.parts
    graph = _opened(parts.candidate)
    leaves = _leaves(plan)
    graph.nodes = [node for node in graph.nodes if not _gathered(node, leaves, graph.outputs)]
    read = {name for node in graph.nodes for name in reads(node)}
    kept = {name: leaf for name, leaf in leaves.items() if name in read}
    views = {name: graph.fresh("flat") if len(leaf.shape) != 1 else name for name, leaf in kept.items()}
    graph.nodes[:0] = [_reshape(graph, views[name], name, kept[name].shape) for name in kept if views[name] != name]
    places = Places(together=storage != "int8")
    if len(kept) > 1 and sum(leaf.width for leaf in kept.values()) <= _MOST_TOGETHER:
        inputs = [_together(graph, kept, views, places)]
    else:
        inputs = [GraphInput(name=views[name], pieces=places.pieces(leaf.parts)) for name, leaf in kept.items()]
        inputs = [_rounded(graph, given) for given in inputs]
    graph.inputs = [_matrix(given.name, given.width, given.dtype) for given in inputs]
    return LaidOut(
        catalog=_packed(parts.catalog, plan.catalog, places.item),
        request=_packed(parts.request, plan.request, places.request),
        candidate=graph.closed(parts.candidate),
        inputs=tuple(inputs),
        stored=places.stored,
        request_width=sum(places.request.values()),
    )


def _rounded(graph: Graph, given: GraphInput) -> GraphInput:
    """An input that nothing but a rounding reads, after a ReLU or not, rounded while it is gathered: a quarter of the
    bytes, and two passes less over them."""
    if len(given.pieces) != 1 or given.pieces[0].side == "feature":
        return given
    relu = _only_reader(graph, given.name, "Relu")
    value = given.name if relu is None else relu.output[0]
    last = _only_reader(graph, value, "QuantizeLinear")
    if last is None or last.input[0] != value or len(last.input) < 3:
        return given
    step, zero = (graph.constants.get(name) for name in last.input[1:3])
    if step is None or zero is None or step.size != 1 or zero.dtype != np.uint8:
        return given
    graph.nodes = [node for node in graph.nodes if node is not relu and node is not last]
    rounding = Rounding(step=float(step.reshape(())), zero=int(zero.reshape(())), relu=relu is not None)
    return GraphInput(name=last.output[0], pieces=given.pieces, rounding=rounding)


def _only_reader(graph: Graph, name: str, operator: str) -> onnx.NodeProto | None:
    """The node of this kind that alone reads a value, once; None where there is none."""
    readers = [node for node in graph.nodes for read in reads(node) if read == name]
    alone = len(readers) == 1 and name not in graph.outputs
    return readers[0] if alone and readers[0].op_type == operator else None


def _together(graph: Graph, kept: Mapping[str, _Leaf], views: Mapping[str, str], places: Places) -> GraphInput:
    """One input for all, which the graph takes apart; sums first, which lie side by side wherever they come from."""
    order = sorted(kept, key=lambda name: any(part.item is None or part.request is None for part in kept[name].parts))
    whole = graph.fresh("gathered")
    sizes = graph.constant([kept[name].width for name in order], np.int64)
    graph.nodes.insert(0, helper.make_node("Split", [whole, sizes], [views[name] for name in order], axis=1))
    return GraphInput(name=whole, pieces=places.pieces([part for name in order for part in kept[name].parts]))


def _opened(part: onnx.ModelProto) -> Graph:
    """A copy. Nothing is folded: of a quantized layer the weights have to stay the bytes that engines look for."""
    copied = onnx.ModelProto()
    copied.CopyFrom(part)
    return Graph.read(copied)


def _leaves(plan: BindingPlan) -> dict[str, _Leaf]:
    """What the candidate's graph reads, and where it is found."""
    found = {}
    for columns, side in ((plan.catalog, "item"), (plan.request, "request"), (plan.row, "feature")):
        for column in columns:
            origin = {"feature" if column.source == "input" else side: column.name}
            found[column.name] = _Leaf((Part(column.width, **origin),), column.shape)
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
    """An item's value and a request's."""
    if one.shape != other.shape or len(one.parts) != 1 or len(other.parts) != 1:
        return None
    for item, request in ((one.parts[0], other.parts[0]), (other.parts[0], one.parts[0])):
        if item == Part(one.width, item=item.item) and request == Part(one.width, request=request.request):
            return _Leaf((replace(item, request=request.request),), one.shape)
    return None


def _side_by_side(given: Sequence[_Leaf]) -> _Leaf:
    parts = tuple(part for leaf in given for part in leaf.parts)
    return _Leaf(parts, (sum(part.width for part in parts),))


def _packed(
    part: onnx.ModelProto | None, columns: Sequence[Column], order: Mapping[str, int]
) -> onnx.ModelProto | None:
    """A part with its inputs and its outputs side by side as one each.

    Args:
        order: names of the outputs, and their widths.
    """
    if part is None:
        return None
    graph = _opened(part)
    shapes = {column.name: column.shape for column in columns}
    flat = {name: graph.fresh("flat") if len(shapes[name]) != 1 else name for name in order}
    graph.nodes += [_reshape(graph, name, flat[name], (width,)) for name, width in order.items() if flat[name] != name]
    names = _products_joined(graph, list(flat.values()))
    if len(names) == 1 and graph.nodes[-1].output[0] == names[0]:
        graph.nodes[-1].output[0] = STORED
    else:
        graph.nodes.append(helper.make_node("Concat", names, [STORED], axis=1))
    graph.outputs = [STORED]
    read_as_one(graph)
    like = onnx.ModelProto(ir_version=part.ir_version, producer_name=part.producer_name)
    like.opset_import.extend(part.opset_import)
    like.graph.name = part.graph.name
    like.graph.output.append(_matrix(STORED, sum(order.values())))
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


def _matrix(name: str, width: int, dtype: type[np.generic] = np.float32) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["rows", width])
