"""Steps that work along axes within a row: sums and their kin, softmax, products of two values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from rankine.compilation.fused.program import Reduction
from rankine.compilation.fused.steps import Step
from rankine.compilation.fused.views import View
from rankine.compilation.tensorir.library import tirx
from rankine.compilation.tensorir.nodes import Expr, Function, Variable, f32, i64, spread
from rankine.compilation.tensorir.numeric import exponential, larger, smaller
from rankine.compilation.tensorir.places import Place, runs

__all__ = ["emit_dot", "emit_matmul", "emit_reduce", "emit_softmax"]

Places = Mapping[int, Place]
_Index = Callable[[Expr], Expr]


def emit_reduce(function: Function, step: Step, places: Places, rows: Expr, lanes: int) -> None:
    """A view ``(before, length, after)`` over its middle axis: ``(before, after)``."""
    target, source = step.views[0], step.views[2]
    before, length, after = source.dims
    wide = lanes if source.strides[2] == 1 and target.strides[1] == 1 else 1
    kind = Reduction(step.kind)
    with function.loop(rows, name="row") as row, function.loop(before, name="before") as outer:
        for first, times, each in runs(after, wide):
            with function.loop(times, name="after") as at:
                inner = at * i64(each) + i64(first)
                held = function.variable(_vector(each), spread(f32(_FIRST[kind]), each))
                with function.loop(length, name="length") as along:
                    index = _index(source, outer, along, inner)
                    value = function.bind(places[2].load(row, index, each))
                    held.set(_joined(kind, held.value, value))
                place = places[0].at(row, outer * i64(target.strides[0]) + inner * i64(target.strides[1]))
                function.store(places[0].memory, "float32", _finished(kind, held, length, each), place, each)


def emit_softmax(function: Function, step: Step, places: Places, rows: Expr, lanes: int) -> None:
    """A view ``(before, length, after)``, over its middle axis; of the logarithm where ``kind`` is 1."""
    target, source = step.views[0], step.views[2]
    before, length, after = source.dims
    wide = lanes if source.strides[2] == 1 and target.strides[2] == 1 else 1
    with function.loop(rows, name="row") as row, function.loop(before, name="before") as outer:
        for first, times, each in runs(after, 1 if step.kind else wide):
            with function.loop(times, name="after") as at:
                inner = at * i64(each) + i64(first)

                def read(along: Expr, inner: Expr = inner, each: int = each) -> Expr:
                    return places[2].load(row, _index(source, outer, along, inner), each)

                largest = function.variable(_vector(each), spread(f32(-math.inf), each))
                with function.loop(length, name="length") as along:
                    largest.set(tirx.max(largest.value, read(along)))  # no number is kept by the sums
                total = function.variable(_vector(each), spread(f32(0), each))
                with function.loop(length, name="length") as along:
                    total.set(total.value + exponential(read(along) - largest.value, each))
                if step.kind:
                    shift = function.bind(largest.value + tirx.call_pure_extern("float32", "logf", total.value))
                with function.loop(length, name="length") as along:
                    if step.kind:
                        value = read(along) - shift
                    else:
                        value = exponential(read(along) - largest.value, each) / total.value
                    place = places[0].at(row, _index(target, outer, along, inner))
                    function.store(places[0].memory, "float32", value, place, each)


def emit_matmul(function: Function, step: Step, places: Places, rows: Expr, lanes: int) -> None:
    """``(batch, M, K)`` times ``(batch, K, N)`` within a row."""
    target, left, right = step.views[0], step.views[2], step.views[3]
    batch, height, inner = left.dims
    width = right.dims[2]
    along_columns = right.strides[2] == 1 and target.strides[2] == 1
    with ExitStack() as loops:
        row, outer, line = (
            loops.enter_context(function.loop(count, name=name))
            for count, name in ((rows, "row"), (batch, "batch"), (height, "line"))
        )
        start = function.bind(outer * i64(left.strides[0]) + line * i64(left.strides[1]), "left")
        for first, times, each in runs(width, lanes if along_columns else 1):
            with function.loop(times, name="column") as at:
                column = at * i64(each) + i64(first)

                def factor(along: Expr, wide: int, start: Expr = start) -> Expr:
                    return places[2].load(row, start + along * i64(left.strides[2]), wide)

                def other(along: Expr, wide: int, column: Expr = column) -> Expr:
                    return places[3].load(row, _index(right, outer, along, column), wide)

                if along_columns:
                    held = function.variable(_vector(each), spread(f32(0), each))
                    with function.loop(inner, name="inner") as along:
                        held.set(tirx.op.fma(spread(factor(along, 1), each), other(along, each), held.value))
                    value = held.value
                else:
                    follow = left.strides[2] == 1 and right.strides[1] == 1
                    value = _sum_of_products(function, inner, lanes if follow else 1, factor, other)
                place = places[0].at(row, _index(target, outer, line, column))
                function.store(places[0].memory, "float32", value, place, each)


def emit_dot(function: Function, step: Step, places: Places, rows: Expr, lanes: int) -> None:
    """Two views ``(before, length)``: the sums of their products."""
    target, left, right = step.views[0], step.views[2], step.views[3]
    before, length = left.dims
    follow = left.strides[1] == 1 and right.strides[1] == 1
    with function.loop(rows, name="row") as row, function.loop(before, name="before") as outer:

        def factor(along: Expr, wide: int) -> Expr:
            return places[2].load(row, outer * i64(left.strides[0]) + along * i64(left.strides[1]), wide)

        def other(along: Expr, wide: int) -> Expr:
            return places[3].load(row, outer * i64(right.strides[0]) + along * i64(right.strides[1]), wide)

        value = _sum_of_products(function, length, lanes if follow else 1, factor, other)
        place = places[0].at(row, outer * i64(target.strides[0]))
        function.store(places[0].memory, "float32", value, place)


def _sum_of_products(
    function: Function,
    length: int,
    lanes: int,
    left: Callable[[Expr, int], Expr],
    right: Callable[[Expr, int], Expr],
) -> Expr:
    """Lane by lane, then over the lanes, then what is left."""
    total = function.variable("float32", f32(0))
    for first, times, each in runs(length, lanes):
        held = function.variable(_vector(each), spread(f32(0), each)) if each > 1 else total
        with function.loop(times, name="along") as at:
            along = at * i64(each) + i64(first)
            held.set(tirx.op.fma(left(along, each), right(along, each), held.value))
        if each > 1:
            total.set(total.value + _across(function, held.value, each))
    return total.value


def _across(function: Function, value: Expr, lanes: int) -> Expr:
    """The sum of a vector's lanes."""
    value = function.bind(value)
    while lanes > 1:
        lanes //= 2
        halves = [tirx.Shuffle([value], [start + at for at in range(lanes)]) for start in (0, lanes)]
        value = function.bind(halves[0] + halves[1])
    return value


_FIRST = {
    Reduction.SUM: 0.0,
    Reduction.MEAN: 0.0,
    Reduction.MAX: -math.inf,
    Reduction.MIN: math.inf,
    Reduction.SUM_SQUARE: 0.0,
    Reduction.L2: 0.0,
    Reduction.PROD: 1.0,
}


def _joined(kind: Reduction, held: Expr, value: Expr) -> Expr:
    match kind:
        case Reduction.MAX:
            return larger(held, value)
        case Reduction.MIN:
            return smaller(held, value)
        case Reduction.PROD:
            return held * value
        case Reduction.SUM_SQUARE | Reduction.L2:
            return held + value * value
        case _:
            return held + value


def _finished(kind: Reduction, held: Variable, length: int, lanes: int) -> Expr:
    if kind is Reduction.MEAN:
        return held.value / spread(f32(length), lanes)
    return tirx.sqrt(held.value) if kind is Reduction.L2 else held.value


def _index(view: View, *indices: Expr) -> Expr:
    """The element of a row, within a view."""
    total = i64(0)
    for index, stride in zip(indices, view.strides, strict=True):
        total = total + index * i64(stride)
    return total


def _vector(lanes: int) -> str:
    return "float32" if lanes == 1 else f"float32x{lanes}"
