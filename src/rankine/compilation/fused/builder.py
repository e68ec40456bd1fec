"""Steps as the operators of a graph ask for them, each on the views that its operation takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rankine.compilation.fused.program import Binary, Code, Element, Reduction, Unary
from rankine.compilation.fused.steps import Step, fits
from rankine.compilation.fused.values import Codes, RoundedWeight, Unsupported, Value
from rankine.compilation.fused.views import Constants, Storage, View, coalesced, constant_view, whole_view

__all__ = ["Builder"]

_LARGEST_INNER = 32_768
"""Products of u8 and s8 that surely fit into an int32, with the correction for the zero point beside them."""
_WIDEST = 2**24
"""Elements that a row of a buffer may have."""


class _Key(NamedTuple):
    """A view, by what it is of: equal where the elements are the same."""

    base: int
    offset: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]


class Builder:
    """Appends steps; every method returns the view of what its step writes."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._copies: dict[_Key, View] = {}
        self._numbers: dict[tuple[_Key, float, int], View] = {}

    def unary(self, kind: Unary, view: View, *numbers: float) -> View:
        (view,) = self._aligned([view], view.dims)
        target = _new(view.dims)
        self.steps.append(Step(Code.UNARY, {0: target, 2: view}, kind, numbers=numbers))
        return target

    def binary(self, kind: Binary, left: View, right: View) -> View:
        dims = np.broadcast_shapes(left.dims, right.dims)
        left, right = self._aligned([left, right], dims)
        target = _new(dims)
        self.steps.append(Step(Code.BINARY, {0: target, 2: left, 3: right}, kind))
        return target

    def where(self, condition: View, then: View, other: View) -> View:
        dims = np.broadcast_shapes(condition.dims, then.dims, other.dims)
        reads = [self.flat(view.expanded(dims)) for view in (condition, then, other)]
        target = _new(dims)
        self.steps.append(Step(Code.WHERE, {0: target, 2: reads[0], 3: reads[1], 4: reads[2]}))
        return target

    def copy(self, target: View, source: View) -> None:
        """Fill a part of a buffer."""
        if not fits(Code.UNARY, 0, {0: target, 2: source}):
            source = self.flat(source)
        if not fits(Code.UNARY, 0, {0: target, 2: source}):
            raise Unsupported(f"it moves elements along more than four axes, {source.dims}")
        if source.element is Element.U8:
            self.steps.append(Step(Code.COPY_U8, {1: target, 2: source}))
        else:
            self.steps.append(Step(Code.UNARY, {0: target, 2: source}, Unary.IDENTITY))

    def flat(self, view: View) -> View:
        """The elements of a view one after the other: itself where they are, else a copy, made once."""
        if view.is_flat:
            return view
        if isinstance(view.base, Constants):
            return constant_view(view.numbers())
        key = _key(view)
        if key not in self._copies:
            target = _new(view.dims, view.element)
            self._fill(target, view)
            self._copies[key] = target
        return self._copies[key]

    def shaped(self, view: View, dims: Sequence[int]) -> View:
        """The elements in their order, with other dimensions."""
        return view.reshaped(dims) or whole_or_flat(self.flat(view), dims)

    def take(self, view: View, axis: int, places: np.ndarray) -> View:
        """Places along an axis, int ``(n,)``."""
        if isinstance(view.base, Constants):
            return constant_view(np.take(view.numbers(), places, axis))
        dims = (*view.dims[:axis], len(places), *view.dims[axis + 1 :])
        cut = (math.prod(view.dims[:axis]), view.dims[axis], math.prod(view.dims[axis + 1 :]))
        source = whole_or_flat(self.flat(view), cut)
        target = _new((cut[0], len(places), cut[2]))
        self.steps.append(Step(Code.TAKE, {0: target, 2: source}, arrays={0: places.astype(np.int32)}))
        return whole_or_flat(target, dims)

    def reduce(self, kind: Reduction, view: View) -> View:
        """A view ``(before, length, after)``, over its middle axis: ``(before, after)``."""
        before, _, after = view.dims
        target = _new((before, after))
        self.steps.append(Step(Code.REDUCE, {0: target, 2: view}, kind))
        return target

    def softmax(self, view: View, *, log: bool = False) -> View:
        """A view ``(before, length, after)``, over its middle axis."""
        target = _new(view.dims)
        self.steps.append(Step(Code.SOFTMAX, {0: target, 2: view}, int(log)))
        return target

    def matmul(self, left: View, right: View) -> View:
        """``(batch, M, K)`` times ``(batch, K, N)``."""
        target = _new((*left.dims[:2], right.dims[2]))
        self.steps.append(Step(Code.MATMUL, {0: target, 2: left, 3: right}))
        return target

    def linear(self, value: Value, weight: np.ndarray, rounded: RoundedWeight | None) -> View:
        """A value ``(..., K)`` times a constant ``(K, N)``; in integers where both are rounded.

        Args:
            weight: float32 ``(K, N)``.
            rounded: its codes ``(K, N)`` and scales ``(N,)``, or None.
        """
        inner, width = weight.shape
        in_integers = value.codes is not None and rounded is not None and inner <= _LARGEST_INNER
        source = value.codes.view if value.codes is not None and in_integers else self.numbers(value)
        leading = value.dims[:-1]
        if any(source.strides[:-1]) or math.prod(leading) == 1:
            repeated = leading
        else:  # the same for all: computed once
            source, repeated = View(source.base, source.offset, (inner,), source.strides[-1:]), ()
        groups = math.prod(repeated)
        source = self.flat(source)
        if isinstance(source.base, Constants) or (groups > 1 and not source.is_whole):
            source = self._moved(source)
        target = _new((*repeated, width))
        if in_integers and value.codes is not None and rounded is not None:
            step = _linear_i8(target, source, groups, value.codes, rounded)
        else:
            step = Step(Code.LINEAR_F32, {0: target, 2: source}, 0, groups, {0: np.asarray(weight, np.float32)})
        self.steps.append(step)
        return target.expanded((*leading, width)) if repeated != leading else target

    def quantize(self, view: View, step: float, zero: int) -> View:
        """Codes of a view."""
        source = self.flat(view)
        target = _new(view.dims, Element.U8)
        quant = np.full(view.size, np.float32(1) / np.float32(step), np.float32)
        self.steps.append(Step(Code.QUANTIZE, {1: target, 2: source}, arrays={3: quant}, numbers=(float(zero),)))
        return target

    def numbers(self, value: Value) -> View:
        """What a value holds, float32."""
        if value.view is not None:
            return value.view
        if value.codes is None:
            raise TypeError("a value has numbers or codes")
        codes = value.codes
        key = (_key(codes.view), codes.step, codes.zero)
        if key not in self._numbers:
            source = self.flat(codes.view)
            target = _new(source.dims)
            numbers = (float(codes.zero), codes.step)
            self.steps.append(Step(Code.DEQUANTIZE, {0: target, 2: source}, numbers=numbers))
            self._numbers[key] = target
        return self._numbers[key]

    def joined(self, views: Sequence[View], axis: int) -> View:
        """Views one after the other along an axis, by copies into one buffer; most of them vanish later."""
        dims = list(views[0].dims)
        dims[axis] = sum(view.dims[axis] for view in views)
        target = _new(dims, views[0].element)
        start = 0
        for view in views:
            self.copy(target.sliced(axis, start, view.dims[axis]), view)
            start += view.dims[axis]
        return target

    def _moved(self, view: View) -> View:
        target = _new(view.dims, view.element)
        self.copy(target, view)
        return target

    def _fill(self, target: View, source: View) -> None:
        """Copy along any number of axes: the first ones slice by slice where there are too many."""
        if len(coalesced([source])[0]) <= 4:
            self.copy(target, source)
            return
        axis = next(at for at, dim in enumerate(source.dims) if dim > 1)
        for place in range(source.dims[axis]):
            self._fill(target.sliced(axis, place, 1), source.sliced(axis, place, 1))

    def _aligned(self, views: list[View], dims: Sequence[int]) -> list[View]:
        """Views broadcast to ``dims``, copied where they would have more axes than an operation takes."""
        spread = [view.expanded(dims) for view in views]
        if len(coalesced([_new(dims), *spread])[0]) <= 4:
            return spread
        return [self.flat(view) for view in spread]


def whole_or_flat(view: View, dims: Sequence[int]) -> View:
    """A flat view with other dimensions."""
    found = view.reshaped(dims)
    if found is None:
        raise TypeError("a flat view can be given any dimensions")
    return found


def _linear_i8(target: View, source: View, groups: int, codes: Codes, rounded: RoundedWeight) -> Step:
    sums = rounded.codes.astype(np.int64).sum(axis=0)
    arrays = {
        0: rounded.codes,
        2: (-codes.zero * sums).astype(np.int32),
        5: (np.float64(codes.step) * rounded.scales).astype(np.float32),
    }
    return Step(Code.LINEAR_I8, {0: target, 2: source}, 0, groups, arrays)


def _new(dims: Sequence[int], element: Element = Element.F32) -> View:
    if not 0 < math.prod(dims) <= _WIDEST:
        raise Unsupported(f"a row of {tuple(dims)} elements is empty or too wide")
    return whole_view(Storage(element, math.prod(dims)), dims)


def _key(view: View) -> _Key:
    return _Key(id(view.base), view.offset, view.dims, view.strides)
