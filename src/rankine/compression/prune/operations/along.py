"""Operators that look along an axis: reductions, softmax, normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from rankine.compression.prune.operation import Operation
from rankine.models.rewrite.graph import attribute

if TYPE_CHECKING:
    from rankine.compression.prune.plan import Plan
    from rankine.compression.prune.trace import Trace

__all__ = ["ALONG", "along"]

_SUMS = ("ReduceSum", "ReduceSumSquare", "ReduceL2", "ReduceL1")
"""A term that vanishes is zero to them."""
_REDUCTIONS = (*_SUMS, "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceLogSumExp")
_SAME_SHAPE = ("LayerNormalization", "LogSoftmax", "Softmax")
ALONG = frozenset((*_REDUCTIONS, *_SAME_SHAPE, "BatchNormalization"))


def along(trace: Trace, node: onnx.NodeProto, data: tuple[str, ...]) -> Operation | None:
    """The operation of a node that looks along axes; None where these are computed, or a weight is."""
    if data != (node.input[0],):
        return None
    if node.op_type == "BatchNormalization":
        return _BatchNormalization(node, data)
    rank = len(trace.shape(node.input[0]))
    if node.op_type in _SAME_SHAPE:
        first = attribute(node, "axis", -1) % rank
        axes = range(first, rank) if node.op_type == "LayerNormalization" else [first]
        return _Along(node, data, tuple(axes))
    given = list(attribute(node, "axes", ()))
    if len(node.input) > 1 and node.input[1]:
        if node.input[1] not in trace.graph.constants:
            return None
        given = [int(axis) for axis in trace.graph.constants[node.input[1]]]
    if not given and attribute(node, "noop_with_empty_axes", 0):
        return None
    axes = given or range(rank)
    return Reduction(node, data, tuple(sorted(axis % rank for axis in axes)))


class _Along(Operation):
    """Of the same shape; the axes keep their extent, as every place weighs."""

    def __init__(self, node: onnx.NodeProto, data: tuple[str, ...], axes: tuple[int, ...]) -> None:
        super().__init__(node, data)
        self.axes = axes

    def label(self, trace: Trace) -> None:
        for axis in self.axes:
            trace.labels.fix_along(trace.ids[self.data[0]], axis)
        trace.put(self.output, trace.ids[self.data[0]])

    def need(self, plan: Plan) -> None:
        needed = plan.needed(self.output)
        wanted = needed.any(axis=self.axes, keepdims=True)
        plan.need(self.data[0], np.broadcast_to(wanted, needed.shape))

    def shrink(self, plan: Plan) -> None:
        plan.emit(self.node)
        plan.put(self.output, plan.kept[self.data[0]])


class _BatchNormalization(_Along):
    """With running statistics, so channel by channel (axis 1)."""

    def __init__(self, node: onnx.NodeProto, data: tuple[str, ...]) -> None:
        super().__init__(node, data, ())

    def need(self, plan: Plan) -> None:
        plan.need(self.data[0], plan.needed(self.output))

    def shrink(self, plan: Plan) -> None:
        kept = plan.kept[self.data[0]]
        plan.emit(self.node, [self.data[0], *(plan.cut(name, [kept[1]]) for name in self.node.input[1:])])
        plan.put(self.output, kept)


class Reduction(Operation):
    """The axes end here: a sum goes on without the terms that vanish, for the others every term weighs.

    Attributes:
        axes: that are reduced.
    """

    def __init__(self, node: onnx.NodeProto, data: tuple[str, ...], axes: tuple[int, ...]) -> None:
        super().__init__(node, data)
        self.axes = axes
        self._keeps = bool(attribute(node, "keepdims", 1))

    def label(self, trace: Trace) -> None:
        ids = trace.ids[self.data[0]]
        if self.node.op_type not in _SUMS:
            for axis in self.axes:
                trace.labels.fix_along(ids, axis)
        ids = trace.labels.normal(trace.ids[self.data[0]])
        trace.put(self.output, trace.labels.all_along(ids, self.axes, keepdims=self._keeps))

    def need(self, plan: Plan) -> None:
        needed = plan.needed(self.output)
        wide = needed if self._keeps else np.expand_dims(needed, self.axes)
        plan.need(self.data[0], np.broadcast_to(wide, plan.trace.shape(self.data[0])))

    def shrink(self, plan: Plan) -> None:
        plan.emit(self.node)
        kept = plan.kept[self.data[0]]
        left = [np.ones(1, bool) if axis in self.axes else mask for axis, mask in enumerate(kept)]
        if not self._keeps:
            left = [mask for axis, mask in enumerate(left) if axis not in self.axes]
        plan.put(self.output, left)
