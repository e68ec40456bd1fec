"""Operators that compute each element from the elements at its place: activations, sums, products, comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from rankine.compression.prune.labels import Ids, Labels
from rankine.compression.prune.operation import Operation, collapse
from rankine.compression.prune.plan import projections

if TYPE_CHECKING:
    from rankine.compression.prune.plan import Plan
    from rankine.compression.prune.trace import Trace

__all__ = ["ELEMENTWISE", "Elementwise"]

_UNARY = (
    "Abs Cast Ceil Clip Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg Not Reciprocal Relu Round "
    "Selu Sigmoid Sign Softplus Softsign Sqrt Swish Tanh"
)
_PRODUCTS = "And Mul"
"""Vanish where one operand does: the others are then not needed there."""
_SUMS = "Add Equal Greater GreaterOrEqual Less LessOrEqual Max Min Or PRelu Pow Sub Sum Where Xor"
"""Vanish where all operands do: what they have at one place must go together."""
_TERMS = ("Add", "Sub", "Sum")
ELEMENTWISE = frozenset(f"{_UNARY} {_PRODUCTS} {_SUMS} Div".split())


class Elementwise(Operation):
    """What its operands have in one place goes together, or is not needed.

    A product of one column and a weight of several begins neurons, as a linear layer does: a number times the factors
    of a factorization machine.
    """

    def __init__(self, trace: Trace, node: onnx.NodeProto, data: tuple[str, ...]) -> None:
        super().__init__(node, data)
        shape = trace.shape(self.output)
        own = (1,) * (len(shape) - len(trace.shape(data[0]))) + trace.shape(data[0])
        wider = [axis for axis, size in enumerate(shape) if size > own[axis]]
        is_outer = node.op_type == "Mul" and len(data) == 1 and len(wider) == 1
        self._axis = wider[0] if is_outer and set(node.input) - {*data} <= set(trace.graph.constants) else None
        self._count = shape[self._axis] if self._axis is not None else 0

    def own(self, labels: Labels) -> Ids | None:
        return labels.neurons(self.output, self._count) if self._axis is not None else None

    def label(self, trace: Trace) -> None:
        shape = trace.shape(self.output)
        given = {name: trace.labels.normal(trace.ids[name]) for name in self.data}
        if self._drops_terms(trace):
            whole = [trace.labels.whole(ids) for ids in given.values()]
            alone = frozenset().union(*whole) - whole[0].intersection(*whole)
            given = {name: trace.labels.without(ids, alone) for name, ids in given.items()}
        divisor = str(self.node.input[1]) if self.node.op_type == "Div" else ""
        products = [name for name in given if self._is_factor(name)]
        sums = [name for name in given if name not in products and name != divisor]
        result = np.zeros(shape, np.int64)
        full = [name for name in sums if trace.shape(name) == shape] or sums
        for name in (*products, *full):
            result = trace.labels.either(result, given[name])
        if len(sums) > 1:
            own = np.zeros(shape, np.int64)
            for name in full:
                own = trace.labels.either(own, given[name])
            for name in sums:
                _tie(trace, np.broadcast_to(given[name], shape), own, is_full=trace.shape(name) == shape)
        if self._axis is not None:
            begun = trace.labels.neurons(self.output, self._count)
            result = trace.labels.either(result, begun.reshape([-1] + [1] * (len(shape) - self._axis - 1)))
        if divisor in given:
            _keep_divisor(trace, np.broadcast_to(given[divisor], shape), result)
        trace.put(self.output, result)

    def _drops_terms(self, trace: Trace) -> bool:
        """Whether a term of which nothing is left can be left out of the sum."""
        shapes = {(trace.shape(name), trace.rows_axis.get(name)) for name in (*self.data, self.output)}
        return self.node.op_type in _TERMS and tuple(self.node.input) == self.data and len(shapes) == 1

    def _is_factor(self, name: str) -> bool:
        if self.node.op_type == "Where":
            return name == str(self.node.input[0])
        return self.node.op_type in _PRODUCTS

    def need(self, plan: Plan) -> None:
        needed = plan.needed(self.output)
        for name in self.data:
            plan.need(name, collapse(needed, plan.trace.shape(name)))

    def shrink(self, plan: Plan) -> None:
        shape = plan.trace.shape(self.output)
        left = list(projections(plan.needed(self.output)))
        operands = [name for name in self.node.input if name in plan.kept]
        if self._drops_terms(plan.trace) and len(operands) < len(self.data):
            self._leave_out(plan, operands)
            return
        for axis in range(len(shape)):
            masks = [mask for name in operands if (mask := _of_axis(plan, name, axis, shape)) is not None]
            if masks:
                left[axis] = np.logical_and.reduce(masks)
        plan.emit(self.node, [plan.take(name, _own(plan, name, left)) if name else "" for name in self.node.input])
        plan.put(self.output, left)

    def _leave_out(self, plan: Plan, operands: list[str]) -> None:
        left = np.logical_and.reduce
        wanted = [left([plan.kept[name][axis] for name in operands]) for axis in range(len(plan.kept[operands[0]]))]
        terms = [plan.fit(name, wanted) for name in operands]
        if len(terms) > 1:
            plan.make("Sum", terms, self.output)
        else:
            negative = self.node.op_type == "Sub" and operands[0] == self.node.input[1]
            plan.make("Neg" if negative else "Identity", terms, self.output)
        plan.put(self.output, wanted)


def _tie(trace: Trace, ids: Ids, result: Ids, *, is_full: bool) -> None:
    """One operand of a sum against what the sum vanishes by.

    An operand that is repeated along an axis has to stay while the sum has any element that reads it, so it may vanish
    only by what takes the sum too. One that is not must vanish by the same.
    """
    labels = trace.labels
    for label, whole in labels.pairs(ids, result):
        own, other = labels.roots(label), labels.roots(whole)
        _join(trace, own - other, other)
        if is_full:
            own, other = labels.roots(label), labels.roots(whole)
            _join(trace, other - own, own)


def _join(trace: Trace, loose: frozenset[int], anchors: frozenset[int]) -> None:
    """Tie channels to a channel among ``anchors``; without one they stay, and so does a field."""
    channels = sorted(root for root in anchors - loose if not trace.labels.is_field(root))
    for root in loose:
        if channels and not trace.labels.is_field(root):
            trace.labels.tie((channels[0], root))
        else:
            trace.labels.fix((root,))


def _keep_divisor(trace: Trace, ids: Ids, result: Ids) -> None:
    """What is divided by may vanish only where the quotient does."""
    for label, whole in trace.labels.pairs(ids, result):
        trace.labels.fix(trace.labels.roots(label) - trace.labels.roots(whole))


def _of_axis(plan: Plan, name: str, axis: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """What an operand has left of an axis of the result; None where it is repeated along it."""
    own = axis - (len(shape) - len(plan.kept[name]))
    if own < 0 or len(plan.kept[name][own]) != shape[axis]:
        return None
    mask: np.ndarray = plan.kept[name][own]
    return mask


def _own(plan: Plan, name: str, left: list[np.ndarray]) -> list[np.ndarray]:
    """The axes of an operand, as they are in the result; one that is repeated is what it is."""
    shape = plan.trace.shape(name)
    matching = left[len(left) - len(shape) :]
    return [np.ones(1, bool) if size == 1 else mask for size, mask in zip(shape, matching, strict=True)]
