"""Final sigmoids become links: the graph gives logits, whose sigmoid is the score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

import numpy as np
import onnx
from onnx import helper

from rankine.models.export import OUTPUT
from rankine.models.rewrite.errors import RewriteError
from rankine.models.rewrite.graph import Graph, attribute, renamed
from rankine.models.rewrite.probe import ROWS
from rankine.models.rewrite.shapes import Shapes
from rankine.models.schema import Schema

__all__ = ["Link", "in_task_order", "join_logits"]

Link = Literal["sigmoid", "identity"]

T = TypeVar("T")

_SHAPE_WORK = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_PARTS = ("Gather", "Slice", "Split")
"""Take some of the tasks: exact where all of them have the same link."""


def join_logits(graph: Graph, schema: Schema, shapes: Shapes) -> tuple[Link, ...]:
    """Make the outputs one output ``logits`` ``(rows, tasks)``; returns each task's link.

    Several outputs are in the order of the graph, or in that of the tasks where they have their names.

    Raises:
        RewriteError: there are not as many outputs as tasks.
    """
    stripped = _Strip(graph, shapes)
    outputs, links = [], []
    for name in in_task_order({name.removeprefix("value/"): name for name in graph.outputs}, schema):
        logit, found = stripped.strip(name)
        outputs.append(_as_matrix(graph, shapes, name, logit))
        links += found
    if len(links) != len(schema.tasks):
        raise RewriteError(
            "the model has another number of outputs than the schema has tasks",
            where="tasks",
            got=f"{len(links)} outputs, {len(schema.tasks)} tasks",
            hint="Give the schema one task for each output of the model, in its order.",
        )
    joined = helper.make_node("Concat", outputs, [OUTPUT], axis=1)
    graph.nodes.append(joined if len(outputs) > 1 else helper.make_node("Identity", outputs, [OUTPUT]))
    graph.outputs = [OUTPUT]
    graph.prune()
    return tuple(links)


def in_task_order(outputs: Mapping[str, T], schema: Schema) -> list[T]:
    """Outputs by name in the order of the tasks, where they have the tasks' names, else as they are."""
    if outputs.keys() == set(schema.task_names):
        return [outputs[name] for name in schema.task_names]
    return list(outputs.values())


def _as_matrix(graph: Graph, shapes: Shapes, name: str, logit: str) -> str:
    """``(rows, tasks)`` float32 of one output."""
    shape, per_row = shapes.of(name)[0], shapes.per_row(name)
    if not shape or shape[0] != ROWS[0]:
        hint = "Give one value a row and task: (rows,), or (rows, tasks)."
        raise RewriteError("an output of the model is not by row", where=name, got=f"shape {shape}", hint=hint)
    if shape != (ROWS[0], per_row):
        flat = graph.fresh("flat")
        graph.nodes.append(helper.make_node("Reshape", [logit, graph.constant([-1, per_row], np.int64)], [flat]))
        logit = flat
    if shapes.dtypes[name] != np.float32:
        cast = graph.fresh("cast")
        graph.nodes.append(helper.make_node("Cast", [logit], [cast], to=int(onnx.TensorProto.FLOAT)))
        logit = cast
    return logit


class _Strip:
    """Rebuilds the last nodes without the sigmoids before them; nodes that something else reads too stay as well."""

    def __init__(self, graph: Graph, shapes: Shapes) -> None:
        self._graph, self._shapes = graph, shapes
        self._producers: Mapping[str, onnx.NodeProto] = graph.producers()

    def strip(self, name: str) -> tuple[str, list[Link]]:
        """The value that ``name`` is the scores of, and the link of each task in it."""
        node = self._producers.get(name)
        kept: list[Link] = ["identity"] * self._shapes.per_row(name)
        # What the rewrite itself made has no shape here, and no sigmoid before it.
        if node is None or node.domain not in ("", "ai.onnx") or node.input[0] not in self._shapes:
            return name, kept
        if node.op_type == "Sigmoid":
            return node.input[0], ["sigmoid"] * len(kept)
        if node.op_type in _SHAPE_WORK and self._by_row(name):
            return self._through(node, name, kept)
        if node.op_type in _PARTS and self._by_row(name):
            return self._through(node, name, kept, alike=True)
        if node.op_type == "Concat" and self._joins_tasks(node, name):
            return self._concat(node, name)
        return name, kept

    def _by_row(self, name: str) -> bool:
        shape = self._shapes.of(name)[0]
        return bool(shape) and shape[0] == ROWS[0]

    def _through(
        self, node: onnx.NodeProto, name: str, kept: list[Link], alike: bool = False
    ) -> tuple[str, list[Link]]:
        inner, links = self.strip(node.input[0])
        if inner == node.input[0] or (alike and set(links) != {"sigmoid"}) or not self._by_row(node.input[0]):
            return name, kept
        result = self._copy(node, name, [inner, *node.input[1:]])
        return result, ["sigmoid"] * len(kept) if alike else links

    def _joins_tasks(self, node: onnx.NodeProto, name: str) -> bool:
        shape = self._shapes.of(name)[0]
        axis = attribute(node, "axis", 0) % len(shape)
        return axis > 0 and self._by_row(name) and int(np.prod(shape[1:])) == shape[axis]

    def _concat(self, node: onnx.NodeProto, name: str) -> tuple[str, list[Link]]:
        inner, links = [], []
        for part in node.input:
            value, found = self.strip(part)
            inner.append(value)
            links += found
        if inner == list(node.input):
            return name, links
        return self._copy(node, name, inner), links

    def _copy(self, node: onnx.NodeProto, name: str, inputs: list[str]) -> str:
        names = {value: self._graph.fresh("logit") for value in node.output if value}
        copy = renamed(node, names)
        copy.input[:] = inputs
        self._graph.nodes.append(copy)
        return names[name]
