"""What is left of every value of a graph when some labels are removed: what is needed, backward, then the new nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from rankine.compression.prune.operation import Free
from rankine.models.rewrite.fold import remove_dropout
from rankine.models.rewrite.graph import Graph, renamed

if TYPE_CHECKING:
    from rankine.compression.prune.trace import Trace

__all__ = ["Kept", "Plan", "Unshrinkable", "outer", "projections"]

Kept = tuple[np.ndarray, ...]
"""For each axis of a value which of its places are left; booleans ``(extent,)`` each."""


class Unshrinkable(Exception):
    """These removals would take a part out of a value that is no slab, or that something else still reads."""


class Plan:
    """A graph without what is removed.

    Attributes:
        trace: of the graph as it was.
        kept: what is left of each value.
        columns: which columns of each table are left.
    """

    def __init__(self, trace: Trace, removed: frozenset[int]) -> None:
        self.trace = trace
        self.kept: dict[str, Kept] = {}
        self.columns: dict[str, np.ndarray] = {}
        self._graph = trace.graph
        self._gone = {name: trace.labels.gone(ids, removed) for name, ids in trace.ids.items()}
        self._needed: dict[str, np.ndarray] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray] = {}
        self._cut: dict[tuple[Any, ...], str] = {}
        for name in self._graph.outputs:
            self.need(name, np.ones(trace.shape(name), bool))
        for operation in reversed(trace.operations):
            if isinstance(operation, Free) or any(self.is_needed(name) for name in operation.node.output):
                operation.need(self)

    # What is needed

    def gone(self, name: str) -> np.ndarray:
        """Which elements of a value vanish."""
        return self._gone[name]

    def need(self, name: str, elements: np.ndarray) -> None:
        """These elements of a value are read, as far as they do not vanish."""
        known = self._needed.get(name)
        wanted = elements & ~self._gone[name]
        self._needed[name] = wanted if known is None else known | wanted

    def needed(self, name: str) -> np.ndarray:
        """Which elements of a value are read, made up to whole slabs."""
        if name not in self._needed:
            return np.zeros(self.trace.shape(name), bool)
        slabs = outer(projections(self._needed[name]))
        if (slabs & self._gone[name]).any():
            raise Unshrinkable(f"what vanishes of '{name}' is no slab")
        return slabs

    def is_needed(self, name: str) -> bool:
        return name in self._needed and bool(self._needed[name].any())

    # What is built

    def build(self, widths: Mapping[str, Kept]) -> Graph:
        """The smaller graph, its inputs having these columns.

        Raises:
            Unshrinkable: the removals do not fit.
        """
        self.kept.update(widths)
        for operation in self.trace.operations:
            if isinstance(operation, Free) or any(self.is_needed(name) for name in operation.node.output):
                operation.shrink(self)
        for name in self._graph.outputs:
            if not all(mask.all() for mask in self.kept[name]):
                raise Unshrinkable(f"a part of the output '{name}' would go")
        inputs = [_resized(value, widths[value.name][-1]) for value in self._graph.inputs if value.name in widths]
        constants = {**self._graph.constants, **self._constants}
        graph = Graph(self._nodes, constants, inputs, self._graph.outputs, self._graph.opset)
        remove_dropout(graph)  # nodes of one part, which do nothing any more
        graph.prune()
        return graph

    def put(self, name: str, kept: Sequence[np.ndarray]) -> None:
        """Say what is left of a value."""
        self.kept[name] = tuple(kept)

    def put_whole(self, name: str) -> None:
        self.put(name, [np.ones(size, bool) for size in self.trace.shape(name)])

    def is_whole(self, name: str) -> bool:
        return name not in self.kept or all(mask.all() for mask in self.kept[name])

    def check_whole(self, name: str, node: onnx.NodeProto) -> None:
        if not self.is_whole(name):
            raise Unshrinkable(f"'{node.op_type}' reads all of '{name}'")

    def emit(self, node: onnx.NodeProto, inputs: Sequence[str] | None = None) -> None:
        """Add a node, with other inputs where they are given."""
        copy = renamed(node, {})
        copy.input[:] = node.input if inputs is None else inputs
        self._nodes.append(copy)

    def make(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Add a new node; returns the name of its output."""
        output = output if output is not None else self._graph.fresh(operator.lower())
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """The name of a new constant."""
        name = self._graph.fresh("constant")
        self._constants[name] = np.asarray(values, dtype)
        return name

    def take(self, name: str, wanted: Sequence[np.ndarray]) -> str:
        """:meth:`fit` of a value, :meth:`cut` of a constant."""
        if name in self.kept:
            return self.fit(name, wanted)
        if name not in self._graph.constants:
            raise Unshrinkable(f"nothing is left of '{name}'")
        return self.cut(name, wanted)

    def fit(self, name: str, wanted: Sequence[np.ndarray]) -> str:
        """The name of a value with just these places of its axes: others are left out by a Gather.

        Raises:
            Unshrinkable: some of these places are gone, or are not addressable.
        """
        result = name
        for axis, (have, want) in enumerate(zip(self.kept[name], wanted, strict=True)):
            if np.array_equal(have, want):
                continue
            if (want & ~have).any() or self.trace.is_merged(name, axis):
                raise Unshrinkable(f"axis {axis} of '{name}' is not what is left of it elsewhere")
            places = np.flatnonzero(want[have])
            key = (result, axis, places.tobytes())
            if key not in self._cut:
                self._cut[key] = self.make("Gather", [result, self.constant(places)], axis=axis)
            result = self._cut[key]
        return result

    def cut(self, name: str, wanted: Sequence[np.ndarray]) -> str:
        """The name of a constant with these places of its axes; an axis of extent 1 stays."""
        values = self._graph.constants[name]
        masks = [mask if size != 1 else np.ones(1, bool) for mask, size in zip(wanted, values.shape, strict=True)]
        if all(mask.all() for mask in masks):
            return name
        key = (name, *(mask.tobytes() for mask in masks))
        if key not in self._cut:
            self._cut[key] = self.constant(values[np.ix_(*masks)], values.dtype)
        return self._cut[key]

    def any_input(self) -> str:
        """An input that is left, to count the rows by."""
        return next(value.name for value in self._graph.inputs if value.name in self.kept)


def projections(elements: np.ndarray) -> Kept:
    """For each axis the places with any such element."""
    axes = range(elements.ndim)
    return tuple(np.asarray(elements.any(axis=tuple(other for other in axes if other != axis))) for axis in axes)


def outer(kept: Sequence[np.ndarray]) -> np.ndarray:
    """The elements in these places of all axes."""
    found = np.ones([len(mask) for mask in kept], bool)
    for axis, mask in enumerate(kept):
        found &= mask.reshape([-1 if other == axis else 1 for other in range(len(kept))])
    return found


def _resized(value: onnx.ValueInfoProto, columns: np.ndarray) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.type.tensor_type.shape.dim[1].dim_value = int(columns.sum())
    return copy
