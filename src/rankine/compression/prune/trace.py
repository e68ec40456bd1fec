"""A graph, looked at at one row: shapes, and for every element of every value what makes it vanish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx
from onnx import helper

from rankine.compression.prune.labels import Atom, Ids, Labels
from rankine.compression.prune.operation import Operation
from rankine.compression.prune.operations import operation_of
from rankine.compression.prune.rectangles import axis_labels, make_rectangular
from rankine.errors import UsageError
from rankine.models.lookup_plan import input_width
from rankine.models.network import Network
from rankine.models.rewrite.graph import Graph, failures
from rankine.models.rewrite.shapes import run_all
from rankine.models.schema import DenseFeature, Feature, SequenceFeature
from rankine.models.torch_graph import GraphModel, Tap
from rankine.models.transforms import table_of

__all__ = ["Trace", "trace"]

_ROWS = 3
"""Beside one row the graph is run at this many, to see which axis is that of the rows."""


@dataclass
class Trace:
    """What is known of a network's values.

    Attributes:
        graph: with all constants, also those that were nodes.
        values: at one row; only shapes, and numbers that are made of shapes, mean anything.
        rows_axis: the axis of a value that grows with the rows; None where none does.
        ids: label sets of the values that depend on the inputs.
        operations: one a node, in order.
        unknown: operators that keep whatever they read.
    """

    network: Network
    graph: Graph
    values: Mapping[str, np.ndarray]
    rows_axis: Mapping[str, int | None]
    labels: Labels = field(default_factory=Labels)
    ids: dict[str, Ids] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)

    @contextmanager
    def tapped(self, taps: Mapping[str, Tap]) -> Iterator[GraphModel]:
        """The network in PyTorch with these taps. They are gone afterwards, whatever happens: the module is shared."""
        self._model.taps.update(taps)
        try:
            yield self._model
        finally:
            self._model.taps.clear()

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(sorted({operation.node.op_type for operation in self.operations if operation.is_opaque}))

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a value at one row."""
        return tuple(np.shape(self.values[name] if name in self.values else self.graph.constants[name]))

    def put(self, name: str, ids: Ids) -> None:
        """Set the labels of a value."""
        self.ids[name] = make_rectangular(self.labels, ids)

    def axes(self, name: str) -> tuple[Ids, ...]:
        """For each axis of a value the sets of its slabs."""
        return axis_labels(self.labels, self.labels.normal(self.ids[name]))

    def is_merged(self, name: str, axis: int) -> bool:
        """Whether an axis holds the rows and something else, so that single places of it cannot be addressed."""
        return self.rows_axis.get(name) == axis and self.shape(name)[axis] != 1

    @cached_property
    def _model(self) -> GraphModel:
        """Made once: it copies the tables."""
        return GraphModel(self.network).eval()


def trace(network: Network) -> Trace:
    """Find out what depends on what.

    Raises:
        UsageError: the graph cannot be run on probe rows.
    """
    graph = Graph.opened(network.graph)
    graph.prune()
    one, many = (_run(graph, network, rows) for rows in (1, _ROWS))
    graph.nodes = [_explicit(graph, node, one, many) for node in graph.nodes]
    graph.prune()
    rows_axis = {name: _grown(value.shape, many[name].shape) for name, value in one.items()}
    found = Trace(network, graph, one, rows_axis)
    widths = {name: table.dim for name, table in network.tables.items()}
    dependent = {feature.name for feature in network.schema.features}
    for node in graph.nodes:
        operation = operation_of(found, node, dependent)
        found.operations.append(operation)
        if operation.is_labeled:
            dependent.update(name for name in node.output if name)
    before = -1
    while before != found.labels.changes:  # what was tied late is seen by what comes early in the next round
        before = found.labels.changes
        for feature in network.schema.features:
            found.put(feature.name, _of_input(found.labels, feature, widths))
        for operation in found.operations:
            operation.label(found)
        for name in graph.outputs:
            found.labels.fix_all(found.ids[name])
    return found


def _of_input(labels: Labels, feature: Feature, widths: Mapping[str, int]) -> Ids:
    """The labels of a feature's columns, ``(1, width)``."""
    whole = labels.only(Atom("field", feature.name))
    if isinstance(feature, DenseFeature):
        return np.full((1, feature.width), whole, np.int64)
    table = table_of(feature)
    columns = np.array([labels.only(Atom("dimension", table, index)) for index in range(widths[table])], np.int64)
    if isinstance(feature, SequenceFeature):
        columns = np.append(np.tile(columns, feature.max_length), 0)  # the last one counts its values
    return labels.either(columns, np.array(whole))[None]


def _run(graph: Graph, network: Network, rows: int) -> dict[str, np.ndarray]:
    widths = {
        feature.name: input_width(feature, 0 if feature.kind == "dense" else network.tables[table_of(feature)].dim)
        for feature in network.schema.features
    }
    feeds = {name: np.ones((rows, width), np.float32) for name, width in widths.items()}
    try:
        return run_all(graph, feeds)
    except failures as error:
        raise UsageError(
            "the graph cannot be run on probe rows, so what depends on what is not known",
            where="recipe: prune",
            got=f"{type(error).__name__}: {error}",
            hint="Leave 'prune' out of the recipe for this model.",
        ) from error


def _grown(one: tuple[int, ...], many: tuple[int, ...]) -> int | None:
    return next((axis for axis, (small, large) in enumerate(zip(one, many, strict=True)) if small != large), None)


def _explicit(
    graph: Graph, node: onnx.NodeProto, one: Mapping[str, np.ndarray], many: Mapping[str, np.ndarray]
) -> onnx.NodeProto:
    """A node that says itself what it otherwise takes from the shape or type of a value, which may change or go."""
    output = node.output[0]
    if node.op_type == "CastLike":
        to = int(helper.np_dtype_to_tensor_dtype(many[output].dtype))
        return helper.make_node("Cast", [node.input[0]], [output], to=to)
    if node.op_type == "Squeeze" and len(node.input) == 1 and node.input[0] in many:
        axes = [axis for axis, size in enumerate(many[node.input[0]].shape) if size == 1]
        return helper.make_node("Squeeze", [node.input[0], graph.constant(axes, np.int64)], [output])
    if node.op_type == "Reshape" and node.input[1] not in graph.constants:
        rows = _grown(one[output].shape, many[output].shape)
        sizes = [-1 if axis == rows else size for axis, size in enumerate(one[output].shape)]
        return helper.make_node("Reshape", [node.input[0], graph.constant(sizes, np.int64)], [output], allowzero=1)
    return node
