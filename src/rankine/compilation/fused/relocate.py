"""Buffers that become parts of others: all that reads or writes them is changed, or nothing is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from rankine.compilation.fused.steps import Draft, Step, fits
from rankine.compilation.fused.views import Constants, Storage, View, row_major

__all__ = ["relocate"]

_Key = TypeVar("_Key")
_Parts = Mapping[Storage | Constants, View]


def relocate(draft: Draft, parts: _Parts) -> bool:
    """Let each of the buffers lie where its part of another is.

    Returns:
        False where an operation could not read or write its operand there; then nothing has changed.
    """
    found: list[tuple[Step, dict[int, View]]] = []
    for step in draft.steps:
        if not any(view.base in parts for view in step.views.values()):
            continue
        views = _moved(step.views.items(), parts)
        if views is None or not fits(step.code, step.groups, views):
            return False
        found.append((step, views))
    inputs, output = _moved(draft.inputs.items(), parts), _moved([(0, draft.output)], parts)
    if inputs is None or output is None or not all(view.is_flat for view in (*inputs.values(), output[0])):
        return False
    for step, views in found:
        step.views = views
    draft.inputs, draft.output = inputs, output[0]
    return True


def _moved(views: Iterable[tuple[_Key, View]], parts: _Parts) -> dict[_Key, View] | None:
    found = {}
    for key, view in views:
        moved = _within(view, parts[view.base]) if view.base in parts else view
        if moved is None:
            return None
        found[key] = moved
    return found


def _within(view: View, part: View) -> View | None:
    """A view of a buffer, all of which now lies where ``part`` is, with the dimensions of ``part``; None where an axis
    of the view would run along several of those."""
    units = row_major(part.dims)
    start, rest, reach = part.offset, view.offset, []
    for unit, stride in zip(units, part.strides, strict=True):
        reach.append(rest // unit)
        start += rest // unit * stride
        rest %= unit
    strides = []
    for dim, stride in zip(view.dims, view.strides, strict=True):
        if dim == 1 or stride == 0:
            strides.append(0)
            continue
        axis = next((at for at, unit in enumerate(units) if stride % unit == 0 and unit <= stride), None)
        if axis is None:
            return None
        reach[axis] += stride // units[axis] * (dim - 1)
        strides.append(stride // units[axis] * part.strides[axis])
    if any(last >= dim for last, dim in zip(reach, part.dims, strict=True)):
        return None
    return replace(view, base=part.base, offset=start, strides=tuple(strides))
