"""Products that only a linear head reads, multiplied in the cheaper order.

``w . (x * (U v + b)) = v . (U^T diag(w) x) + (w * b) . x``. On the left ``U v`` is a layer for every row; on the right
what is multiplied with ``v`` is linear in ``x``. Of a cross layer ``x`` is what the model starts from: its parts are
known with the catalog and the request, so of the last layer of a DCN-v2 one product a column is left, however wide it
is. (A choice of the order in which a tensor network is contracted: Pfeifer, Haegeman & Verstraete, "Faster
identification of optimal contraction sequences for tensor networks", 2014.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial, reduce

import numpy as np
import onnx
from onnx import helper

from rankine.compilation.binding.facts import Fact
from rankine.models.rewrite.graph import Graph, attribute, reads

__all__ = ["contracted"]

_MOST_OUTPUTS = 4
"""Of a head, which is a score a task. For more of them the layer is cheaper as it is."""


def contracted(graph: Graph, facts: Mapping[str, Fact]) -> Graph | None:
    """The graph with all such products in the other order; None where there are none."""
    reader = _Reader(graph, facts)
    nodes: list[onnx.NodeProto] = []
    changed = False
    for node in graph.nodes:
        head = reader.head(node)
        terms = None if head is None else _terms(reader, node.input[0], head.matrix)
        if head is None or terms is None or not terms.products:
            nodes.append(node)
            continue
        nodes += _written(graph, node, head, terms)
        changed = True
    if not changed:
        return None
    result = replace(graph, nodes=nodes, constants=dict(graph.constants))
    result.prune()
    return result


@dataclass(frozen=True, eq=False)
class _Layer:
    """``input @ matrix + bias``; matrix ``(width, columns)`` in float64."""

    input: str
    matrix: np.ndarray
    bias: np.ndarray | None


@dataclass(eq=False)
class _Terms:
    """What a head's result is the sum of.

    Attributes:
        linear: by value, the weights ``(width, outputs)`` that it is multiplied with.
        products: ``x``, the layer ``U v + b``, and the weights ``(width, outputs)`` of their product.
    """

    linear: dict[str, np.ndarray] = field(default_factory=dict)
    products: list[tuple[str, _Layer, np.ndarray]] = field(default_factory=list)

    def add(self, value: str, weights: np.ndarray) -> None:
        self.linear[value] = self.linear.get(value, np.zeros_like(weights)) + weights


class _Reader:
    """A graph as it is looked through, backwards from a head."""

    def __init__(self, graph: Graph, facts: Mapping[str, Fact]) -> None:
        self._graph, self._facts = graph, facts
        self.producers = {name: node for node in graph.nodes for name in node.output}
        self._readers = Counter(name for node in graph.nodes for name in reads(node)) + Counter(graph.outputs)

    def width(self, name: str) -> int | None:
        """Columns of a value ``(rows, columns)``; None for one of another shape."""
        fact = self._facts.get(name)
        if fact is None or not fact.crosses or fact.shape is None or len(fact.shape) != 2:
            return None
        return fact.shape[1] if isinstance(fact.shape[1], int) else None

    def own(self, name: str) -> onnx.NodeProto | None:
        """The node that computes a value which is read once."""
        return self.producers.get(name) if self._readers[name] == 1 else None

    def head(self, node: onnx.NodeProto) -> _Layer | None:
        """A plain layer of few outputs."""
        layer = self.layer(node)
        if layer is None or layer.matrix.shape[1] > _MOST_OUTPUTS or node.input[1] not in self._graph.constants:
            return None
        return layer

    def layer(self, node: onnx.NodeProto | None) -> _Layer | None:
        """A ``Gemm`` or ``MatMul`` with constant weights, rounded or not."""
        if node is None or node.op_type not in ("Gemm", "MatMul") or self.width(node.input[0]) is None:
            return None
        if attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0 or attribute(node, "transA", 0):
            return None
        matrix = self._constant(node.input[1])
        has_bias = len(node.input) > 2 and bool(node.input[2])
        bias = self._constant(node.input[2]) if has_bias else None
        if matrix is None or matrix.ndim != 2 or (has_bias and bias is None):
            return None
        matrix = matrix.T if attribute(node, "transB", 0) else matrix
        if bias is not None and bias.size not in (1, matrix.shape[1]):
            return None  # a bias a row, which no graph with dynamic rows has
        return _Layer(node.input[0], matrix, None if bias is None else np.resize(bias, matrix.shape[1]))

    def _constant(self, name: str) -> np.ndarray | None:
        """In float64; of a rounded one what its codes stand for."""
        values = self._graph.constants.get(name)
        if values is not None:
            return values.astype(np.float64)
        maker = self.producers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear" or attribute(maker, "block_size", 0):
            return None
        codes, scale, *zeros = (self._graph.constants.get(given) for given in maker.input if given)
        if codes is None or scale is None or any(zero is None or zero.size != scale.size for zero in zeros):
            return None
        shape = [1] * codes.ndim
        if scale.size > 1:
            shape[attribute(maker, "axis", 1) % codes.ndim] = scale.size
        zero = zeros[0].astype(np.float64).reshape(shape) if zeros and zeros[0] is not None else 0.0
        return np.asarray((codes.astype(np.float64) - zero) * scale.astype(np.float64).reshape(shape))


def _terms(reader: _Reader, value: str, weights: np.ndarray) -> _Terms | None:
    """``value @ weights``, taken apart; None where its columns do not fit."""
    found = _Terms()
    waiting = [(value, weights)]
    while waiting:
        name, own = waiting.pop()
        if reader.width(name) != len(own):
            return None
        waiting += _parts(reader, name, own, found)
    return found


def _parts(reader: _Reader, name: str, weights: np.ndarray, found: _Terms) -> list[tuple[str, np.ndarray]]:
    """What is left to take apart of a value; the rest becomes a term."""
    node = reader.own(name)
    if node is not None and node.op_type == "Concat":
        widths = [reader.width(part) for part in node.input]
        known = [width for width in widths if width is not None]
        if len(known) == len(widths):
            return list(zip(node.input, np.split(weights, np.cumsum(known)[:-1]), strict=True))
    if node is not None and node.op_type == "Add" and all(reader.width(one) == len(weights) for one in node.input):
        return [(one, weights) for one in node.input]
    if node is not None and node.op_type == "Mul" and all(reader.width(one) == len(weights) for one in node.input):
        for one, other in (node.input, node.input[::-1]):
            layer = reader.layer(reader.own(other))
            if layer is not None and one != other:
                found.products.append((one, layer, weights))
                if layer.bias is not None:
                    found.add(one, weights * layer.bias[:, None])
                return []
    found.add(name, weights)
    return []


def _written(graph: Graph, node: onnx.NodeProto, head: _Layer, terms: _Terms) -> list[onnx.NodeProto]:
    """Nodes that compute what ``node``, a head, does."""
    writer = _Writer(graph)
    sums = [writer.layer(value, weights) for value, weights in terms.linear.items()]
    for value, layer, weights in terms.products:
        tasks = [writer.dot(layer.input, writer.layer(value, own[:, None] * layer.matrix.T)) for own in weights.T]
        sums.append(tasks[0] if len(tasks) == 1 else writer.emit("Concat", *tasks, axis=1))
    if head.bias is not None:
        sums.append(writer.constant(head.bias[None, :]))
    reduce(partial(writer.emit, "Add"), sums)
    writer.nodes[-1].output[0] = node.output[0]
    return writer.nodes


class _Writer:
    """New nodes of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.nodes: list[onnx.NodeProto] = []

    def emit(self, operator: str, *inputs: str, axis: int | None = None) -> str:
        name = self._graph.fresh(operator)
        node = helper.make_node(operator, inputs, [name])
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)
        return name

    def constant(self, values: np.ndarray) -> str:
        return self._graph.constant(values, np.float32)

    def layer(self, value: str, weights: np.ndarray) -> str:
        return self.emit("MatMul", value, self.constant(weights))

    def dot(self, one: str, other: str) -> str:
        """Of every row of two values ``(rows, width)``: ``(rows, 1)``."""
        axis = self._graph.constant([1], np.int64)
        return self.emit("ReduceSum", self.emit("Mul", one, other), axis)
