"""Copies right after each other that go on where the one before ended, or repeat it some elements further, are one."""

from __future__ import annotations

from dataclasses import replace

from rankine.compilation.fused.program import Code
from rankine.compilation.fused.steps import Draft, Step, fits
from rankine.compilation.fused.views import Storage, View, coalesced

__all__ = ["merge_copies"]


def merge_copies(draft: Draft) -> None:
    """Merge the copies of a draft."""
    merged: list[Step] = []
    for step in draft.steps:
        joined = _joined(merged[-1], step) if merged else None
        if joined is None:
            merged.append(step)
        else:
            merged[-1] = joined
    draft.steps = merged


def _joined(first: Step, second: Step) -> Step | None:
    if not (first.is_copy and second.is_copy) or first.code is not second.code:
        return None
    if any(view.base is not second.views[slot].base or _is_constant(view) for slot, view in first.views.items()):
        return None
    if _meet(first.target, second.views[2]):
        return None
    views = _continued(first, second) or _stacked(first, second)
    return None if views is None or not fits(Code.UNARY, 0, views) else replace(first, views=views)


def _is_constant(view: View) -> bool:
    return not isinstance(view.base, Storage)


def _meet(target: View, source: View) -> bool:
    """Whether what one copy writes may be what the next one reads."""
    return target.base is source.base and target.offset <= source.last and source.offset <= target.last


def _continued(first: Step, second: Step) -> dict[int, View] | None:
    """A run that follows a run, where both are read and where both are written."""
    views = {}
    for slot, view in first.views.items():
        other = second.views[slot]
        if not (view.is_flat and other.is_flat) or other.offset != view.offset + view.size:
            return None
        views[slot] = View(view.base, view.offset, (view.size + other.size,), (1,))
    return views


def _stacked(first: Step, second: Step) -> dict[int, View] | None:
    """The same once more, as far from the one before as that one from its own: one more place on an outer axis."""
    slots = list(first.views)
    inner, strides = coalesced([second.views[slot] for slot in slots])
    views = {}
    times = {
        _times(first.views[slot], second.views[slot], inner, own) for slot, own in zip(slots, strides, strict=True)
    }
    if len(times) != 1 or None in times:
        whole, own_strides = coalesced([first.views[slot] for slot in slots])
        if (whole, own_strides) != (inner, strides):
            return None
        times = {1}
    (count,) = times
    for slot, own in zip(slots, strides, strict=True):
        view, other = first.views[slot], second.views[slot]
        step = view.strides[0] if count != 1 else other.offset - view.offset
        if step < 0:
            return None
        views[slot] = View(view.base, view.offset, ((count or 0) + 1, *inner), (step, *own))
    return views


def _times(view: View, other: View, inner: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """How many times a view already holds what comes next at the same distance; None where it does not."""
    if len(view.dims) != len(inner) + 1 or view.dims[0] < 2 or view.dims[1:] != inner or view.strides[1:] != strides:
        return None
    return view.dims[0] if other.offset == view.offset + view.dims[0] * view.strides[0] else None
