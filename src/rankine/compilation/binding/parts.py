"""The three graphs, cut out of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx
from onnx import TensorProto, helper

from rankine.compilation.binding.dims import Rows
from rankine.compilation.binding.facts import Fact
from rankine.compilation.binding.frontier import Cut
from rankine.compilation.binding.lattice import EARLY, Binding
from rankine.models.rewrite.graph import Graph, reads, renamed

__all__ = ["Parts", "cut_out", "with_late_outputs"]


@dataclass(frozen=True)
class Parts:
    """The parts of a model; None for one that is empty.

    Attributes:
        catalog: reads item features ``(items, width)``, gives what is stored.
        request: reads request features ``(requests, width)``, gives what is gathered by the request.
        candidate: reads all that ``(rows, ...)``, gives the outputs of the model.
    """

    catalog: onnx.ModelProto | None
    request: onnx.ModelProto | None
    candidate: onnx.ModelProto


def with_late_outputs(graph: Graph, facts: dict[str, Fact]) -> Graph:
    """The same, with outputs that are known early copied for every row."""
    early = [name for name in graph.outputs if facts[name].binding in EARLY]
    names = {name: graph.fresh("output") for name in early}
    nodes = [renamed(node, names) for node in graph.nodes]
    nodes += [helper.make_node("Identity", [inner], [name]) for name, inner in names.items()]
    for name, inner in names.items():
        facts[inner] = facts[name]
        facts[name] = replace(facts[name], binding=Binding.CANDIDATE)
    return replace(graph, nodes=nodes)


def cut_out(cut: Cut, like: onnx.ModelProto) -> Parts:
    """Cut a graph at the values computed early that something late reads.

    Raises:
        onnx.checker.ValidationError: a part is no valid graph.
    """
    graph, facts = cut.graph, cut.facts
    models = {
        side: _part(graph, facts, [name for name in cut.crossing if facts[name].binding is side], (), like)
        for side in EARLY
    }
    candidate = _part(graph, facts, graph.outputs, cut.crossing, like)
    if candidate is None:
        raise TypeError("the model has no outputs")
    return Parts(models[Binding.CATALOG], models[Binding.REQUEST], candidate)


def _part(
    graph: Graph, facts: Mapping[str, Fact], outputs: Sequence[str], given: Iterable[str], like: onnx.ModelProto
) -> onnx.ModelProto | None:
    """What computes ``outputs`` from the graph's inputs and the values ``given``."""
    if not outputs:
        return None
    stop = set(given)
    wanted, nodes = set(outputs), []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.output) and not stop.intersection(node.output):
            nodes.append(node)
            wanted.update(reads(node))
    inputs = [value for value in graph.inputs if value.name in wanted]
    inputs += [_described(name, facts[name]) for name in given if name in wanted]
    part = replace(graph, nodes=nodes[::-1], inputs=inputs, outputs=list(outputs))
    own = {value.name: value for value in like.graph.output}
    model = onnx.ModelProto(ir_version=like.ir_version, producer_name=like.producer_name)
    model.opset_import.extend(like.opset_import)
    model.graph.name = like.graph.name
    model.graph.output.extend(own.get(name) or _described(name, facts[name]) for name in outputs)
    return part.closed(model)


def _described(name: str, fact: Fact) -> onnx.ValueInfoProto:
    shape = ["rows" if isinstance(dim, Rows) else dim for dim in fact.shape or ()]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
