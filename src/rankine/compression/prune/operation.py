"""What pruning must know of a node: how labels pass through it, what it needs, and how it is when it is smaller."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx

from rankine.models.rewrite.graph import reads

if TYPE_CHECKING:
    from rankine.compression.prune.labels import Ids, Labels
    from rankine.compression.prune.plan import Plan
    from rankine.compression.prune.trace import Trace

__all__ = ["Free", "Opaque", "Operation", "collapse"]


class Operation(ABC):
    """A node whose values depend on the inputs.

    Attributes:
        data: its inputs that depend on the inputs of the graph, in order, each once.
        is_labeled: whether its outputs have labels.
    """

    is_labeled: ClassVar[bool] = True
    is_opaque: ClassVar[bool] = False

    def __init__(self, node: onnx.NodeProto, data: tuple[str, ...]) -> None:
        self.node = node
        self.data = data

    @property
    def output(self) -> str:
        return str(self.node.output[0])

    def own(self, labels: Labels) -> Ids | None:
        """The sets of the neurons that begin with the first output; None where none do."""
        return None

    @abstractmethod
    def label(self, trace: Trace) -> None:
        """Set the labels of the outputs; tie what must go together."""

    @abstractmethod
    def need(self, plan: Plan) -> None:
        """Say which elements of the inputs are needed for those of the outputs that are."""

    @abstractmethod
    def shrink(self, plan: Plan) -> None:
        """Add the node for the inputs as they are now, and say what is left of the outputs."""


class Opaque(Operation):
    """An operator that is not known here: it keeps whatever it reads."""

    is_opaque = True

    def label(self, trace: Trace) -> None:
        for name in self.data:
            trace.labels.fix_all(trace.ids[name])
        for name in self.node.output:
            if name:
                trace.put(name, np.zeros(trace.shape(name), np.int64))

    def need(self, plan: Plan) -> None:
        for name in self.data:
            plan.need(name, np.ones(plan.trace.shape(name), bool))

    def shrink(self, plan: Plan) -> None:
        for name in self.data:
            plan.check_whole(name, self.node)
        plan.emit(self.node)
        for name in self.node.output:
            if name:
                plan.put_whole(name)


class Free(Operation):
    """Computed from constants and shapes alone: never smaller. A shape keeps what it is the shape of."""

    is_labeled = False

    def label(self, trace: Trace) -> None:
        for name in self._measured(trace):
            for axis in range(trace.ids[name].ndim):
                trace.labels.fix_along(trace.ids[name], axis)

    def need(self, plan: Plan) -> None:
        for name in self._measured(plan.trace):
            plan.need(name, np.ones(plan.trace.shape(name), bool))

    def shrink(self, plan: Plan) -> None:
        counts = self.data and not self._measured(plan.trace)
        plan.emit(self.node, [plan.any_input()] if counts else None)
        for name in self.node.output:
            if name:
                plan.put_whole(name)

    def _measured(self, trace: Trace) -> tuple[str, ...]:
        """What this is the shape of; nothing where it only counts the rows, which any input can tell."""
        if not self.data or (self.node.op_type == "Shape" and _counts_rows(self.node, trace)):
            return ()
        return self.data


def _counts_rows(node: onnx.NodeProto, trace: Trace) -> bool:
    (length,) = trace.values[node.output[0]].shape
    name = next(reads(node))
    starts = next((entry.i for entry in node.attribute if entry.name == "start"), 0)
    return length == 1 and starts == 0 and trace.rows_axis.get(name) == 0 and trace.shape(name)[0] == 1


def collapse(needed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What an operand of ``shape`` must have for these elements of the result that it was broadcast to."""
    lead = needed.ndim - len(shape)
    axes = tuple(axis for axis, size in enumerate(shape, start=lead) if size == 1 and needed.shape[axis] != 1)
    return np.asarray(needed.any(axis=(*range(lead), *axes), keepdims=True)).reshape(
        [1 if axis in axes else size for axis, size in enumerate(needed.shape)][lead:]
    )
