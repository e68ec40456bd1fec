"""Operators that move elements: views where the elements can stay where they are, else copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rankine.compilation.fused.operators.call import Call, normalized_axis
from rankine.compilation.fused.values import Codes, Unsupported, Value
from rankine.compilation.fused.views import View, constant_view

__all__ = ["lowerings"]

_LONG_RUN = 8
"""Elements: where neighbors are taken together in longer runs, copying the runs beats taking each by itself."""


def _reshape(call: Call) -> list[Value]:
    return [call.value().moved(lambda view: call.build.shaped(view, call.dims[0]))]


def _transpose(call: Call) -> list[Value]:
    order = call.attribute("perm") or range(len(call.value().dims))[::-1]
    return [call.value().moved(lambda view: view.permuted(order))]


def _concat(call: Call) -> list[Value]:
    values = [call.value(position) for position in range(len(call.node.input))]
    axis = normalized_axis(call.attribute("axis"), len(values[0].dims))
    codes = [value.codes for value in values]
    if codes[0] is not None and all(_alike(codes[0], other) for other in codes):
        view = call.build.joined([other.view for other in codes if other is not None], axis)
        return [Value(codes=Codes(view, codes[0].step, codes[0].zero))]
    return [Value(call.build.joined(call.views(), axis))]


def _alike(first: Codes, other: Codes | None) -> bool:
    return other is not None and (first.step, first.zero) == (other.step, other.zero)


def _split(call: Call) -> list[Value]:
    axis = normalized_axis(call.attribute("axis", 0), len(call.value().dims))
    found, start = [], 0
    for dims in call.dims:
        found.append(call.value().moved(_slicer(axis, start, dims[axis])))
        start += dims[axis]
    return found


def _slicer(axis: int, start: int, count: int, step: int = 1) -> Callable[[View], View]:
    return lambda view: view.sliced(axis, start, count, step)


def _slice(call: Call) -> list[Value]:
    starts, ends, axes, steps = (call.constant(position) for position in (1, 2, 3, 4))
    if starts is None or ends is None:
        raise Unsupported("its places are attributes, of an old opset")
    value = call.value()
    chosen = range(len(starts)) if axes is None else axes.tolist()
    for at, axis in enumerate(chosen):
        axis = normalized_axis(axis, len(value.dims))
        step = 1 if steps is None else int(steps[at])
        if step == 1 and value.dims[axis] == call.dims[0][axis]:
            continue  # taken whole, as the axis of the rows always is
        places = np.arange(value.dims[axis])[slice(int(starts[at]), _end(int(ends[at])), step)]
        value = _taken(call, value, axis, places)
    return [value]


def _end(end: int) -> int | None:
    return end if end > -(2**31) else None


def _gather(call: Call) -> list[Value]:
    if 1 not in call.constants:
        raise Unsupported("its places are computed from the rows")
    value, places = call.value(), call.constants[1]
    axis = normalized_axis(call.attribute("axis", 0), len(value.dims))
    taken = _taken(call, value, axis, places.reshape(-1) % value.dims[axis])
    return [taken.moved(lambda view: call.build.shaped(view, call.dims[0]))]


def _taken(call: Call, value: Value, axis: int, places: np.ndarray) -> Value:
    """Places along an axis: a view where they are equally far from each other."""
    if not len(places):
        raise Unsupported("it takes nothing")
    step = int(places[1] - places[0]) if len(places) > 1 else 1
    if step >= 0 and (np.diff(places) == step).all():
        return value.moved(_slicer(axis, int(places[0]), len(places), step))
    runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
    if len(places) >= _LONG_RUN * len(runs):
        cuts = [_slicer(axis, int(run[0]), len(run)) for run in runs]
        return value.moved(lambda view: call.build.joined([cut(view) for cut in cuts], axis))
    if value.codes is not None:  # no operation takes bytes: they are joined piece by piece where there are few
        value = Value(call.build.numbers(value))
    return value.moved(lambda view: call.build.take(view, axis, places))


def _expand(call: Call) -> list[Value]:
    return [call.value().moved(lambda view: view.expanded(call.dims[0]))]


def _tile(call: Call) -> list[Value]:
    """An axis of ``n`` elements, ``m`` times: read as ``(m, n)`` with a stride of nothing."""

    def tiled(view: View) -> View:
        times = [whole // dim for whole, dim in zip(call.dims[0], view.dims, strict=True)]
        apart = [number for pair in zip(times, view.dims, strict=True) for number in pair]
        strides = [number for stride in view.strides for number in (0, stride)]
        return call.build.shaped(View(view.base, view.offset, tuple(apart), tuple(strides)), call.dims[0])

    return [call.value().moved(tiled)]


def _filled(call: Call) -> list[Value]:
    """The same number everywhere."""
    number = call.attribute("value")
    filler = np.zeros((), np.float32) if number is None else _array(number).astype(np.float32).reshape(())
    return [Value(constant_view(filler).expanded(call.dims[0]))]


def _array(number: object) -> np.ndarray:
    from onnx import TensorProto, numpy_helper

    if not isinstance(number, TensorProto):
        raise Unsupported("its value is no tensor")
    return numpy_helper.to_array(number)


def _pad(call: Call) -> list[Value]:
    if call.attribute("mode", "constant") != "constant":
        raise Unsupported("it repeats elements; only a constant is known")
    pads, view = call.constant(1), call.view()
    if pads is None or (pads < 0).any():
        raise Unsupported("its sizes are attributes, or negative")
    filler = constant_view(np.full((), call.scalar(2, 0.0), np.float32))
    axes = call.axes(3, len(view.dims)) or list(range(len(view.dims)))
    if call.has(3) and axes != [normalized_axis(axis, len(view.dims)) for axis in call.constants[3].tolist()]:
        raise Unsupported("its axes are not in their order")
    for at, axis in enumerate(axes):
        pieces = [
            _beside(filler, view, axis, int(pads[at])),
            view,
            _beside(filler, view, axis, int(pads[at + len(axes)])),
        ]
        kept = [piece for piece in pieces if piece is not None]
        view = call.build.joined(kept, axis) if len(kept) > 1 else view
    return [Value(view)]


def _beside(filler: View, view: View, axis: int, count: int) -> View | None:
    dims: Sequence[int] = (*view.dims[:axis], count, *view.dims[axis + 1 :])
    return filler.expanded(dims) if count else None


lowerings: Mapping[str, Callable[[Call], list[Value]]] = {
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Flatten": _reshape,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshape,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
