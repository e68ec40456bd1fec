"""Operators that work along axes: sums and their kin, softmax, normalization."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rankine.compilation.fused.operators.call import Call, normalized_axis
from rankine.compilation.fused.program import Binary, Reduction, Unary
from rankine.compilation.fused.values import Unsupported, Value
from rankine.compilation.fused.views import View, constant_view

__all__ = ["lowerings"]

_REDUCTIONS = {
    "ReduceL1": Reduction.SUM,
    "ReduceL2": Reduction.L2,
    "ReduceMax": Reduction.MAX,
    "ReduceMean": Reduction.MEAN,
    "ReduceMin": Reduction.MIN,
    "ReduceProd": Reduction.PROD,
    "ReduceSum": Reduction.SUM,
    "ReduceSumSquare": Reduction.SUM_SQUARE,
}

_KEEPING = (Reduction.SUM, Reduction.MEAN, Reduction.MAX, Reduction.MIN, Reduction.PROD)
"""Reductions that give an element itself where there is only one."""


def _reducing(kind: Reduction) -> Callable[[Call], list[Value]]:
    def lower(call: Call) -> list[Value]:
        view = call.view()
        axes = call.axes(1, len(view.dims))
        if not axes:  # no reduction is made; the proof of the rows has seen to that
            if kind not in _KEEPING or call.node.op_type == "ReduceL1":
                raise Unsupported("what it does without axes differs from version to version")
            return [call.value()]
        view = call.build.unary(Unary.ABS, view) if call.node.op_type == "ReduceL1" else view
        return [Value(call.build.shaped(_reduced(call, kind, view, axes), call.dims[0]))]

    return lower


def _reduced(call: Call, kind: Reduction, view: View, axes: Sequence[int]) -> View:
    """Over axes that become one: neighbors as they are, others behind all that stay."""
    kept = [axis for axis in range(len(view.dims)) if axis not in axes]
    after = [axis for axis in kept if axis > max(axes)]
    before = [axis for axis in kept if axis not in after]
    if any(axis > min(axes) and view.dims[axis] > 1 for axis in before):
        before, after = kept, []
    order = view.permuted([*before, *axes, *after])
    sizes = [math.prod(view.dims[axis] for axis in part) for part in (before, axes, after)]
    return call.build.reduce(kind, call.build.shaped(order, sizes))


def _softmax(call: Call) -> list[Value]:
    view = call.view()
    axis = normalized_axis(call.attribute("axis", -1), len(view.dims))
    sizes = (math.prod(view.dims[:axis]), view.dims[axis], math.prod(view.dims[axis + 1 :]))
    found = call.build.softmax(call.build.shaped(view, sizes), log=call.node.op_type == "LogSoftmax")
    return [Value(call.build.shaped(found, call.dims[0]))]


def _layer_norm(call: Call) -> list[Value]:
    """Over ``axis`` and all after it: centered, then divided by the root of the mean square."""
    build, view = call.build, call.view()
    axis = normalized_axis(call.attribute("axis", -1), len(view.dims))
    axes = range(axis, len(view.dims))
    over = [*view.dims[:axis], *(1 for _ in axes)]
    mean = build.shaped(_reduced(call, Reduction.MEAN, view, axes), over)
    centered = build.binary(Binary.SUB, view, mean)
    squares = build.shaped(_reduced(call, Reduction.SUM_SQUARE, centered, axes), over)
    length = math.prod(view.dims[axis:])
    root = build.unary(Unary.SQRT, build.unary(Unary.AFFINE, squares, 1 / length, call.attribute("epsilon", 1e-5)))
    found = build.binary(Binary.DIV, centered, root)
    for kind, position in ((Binary.MUL, 1), (Binary.ADD, 2)):
        if (numbers := call.constant(position)) is not None:
            found = build.binary(kind, found, constant_view(np.asarray(numbers, np.float32)))
    return [Value(found)]


lowerings: Mapping[str, Callable[[Call], list[Value]]] = {
    **{operator: _reducing(kind) for operator, kind in _REDUCTIONS.items()},
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _softmax,
    "Softmax": _softmax,
}
