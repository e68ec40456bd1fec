"""Copies that need not be made: a buffer that is copied as a whole is computed right where the copy would lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from rankine.compilation.fused.steps import Draft, Step, fits
from rankine.compilation.fused.views import Storage, View, coalesced

__all__ = ["coalesce"]

_Move = Callable[[View], View | None]
_Key = TypeVar("_Key")


def coalesce(draft: Draft) -> None:
    """Drop copies; the widest buffers are filled in place first.

    Buffers are written once, element by element, so it never matters when the copy would have been made.
    """
    for step in _copies(draft):
        _fill_in_place(draft, step)
    _merge(draft)
    for step in _copies(draft):
        _read_in_place(draft, step)


def _copies(draft: Draft) -> list[Step]:
    return sorted((step for step in draft.steps if step.is_copy), key=_width, reverse=True)


def _width(step: Step) -> int:
    base = step.target.base
    return base.width if isinstance(base, Storage) else 0


def _fill_in_place(draft: Draft, step: Step) -> None:
    """All of a buffer is copied into a part of another: it becomes that part."""
    source, target = step.views[2], step.target
    if not isinstance(source.base, Storage) or source.base is target.base or source.size != source.base.width:
        return
    dims, (target_strides, _) = coalesced([target, source])
    if not source.is_flat or len(dims) > 2 or target_strides[-1:] not in ((1,), ()):
        return
    inner = dims[-1] if dims else 1
    outer = target_strides[0] if len(dims) == 2 else 0
    _move(draft, step, source.base, lambda view: _embedded(view, target, inner, outer))


def _read_in_place(draft: Draft, step: Step) -> None:
    """All of a buffer is a copy of a part of another that lies in one piece: who reads it reads that part."""
    source, target = step.views[2], step.target
    if not isinstance(source.base, Storage) or not isinstance(target.base, Storage) or source.base is target.base:
        return
    if target.is_whole and source.is_flat:
        _move(
            draft, step, target.base, lambda view: replace(view, base=source.base, offset=view.offset + source.offset)
        )


def _move(draft: Draft, copy: Step, base: Storage, move: _Move) -> None:
    """Move all that reads or writes ``base``, and drop the copy; nothing where somebody cannot read it there."""

    def moved(view: View) -> View | None:
        return move(view) if view.base is base else view

    others = [step for step in draft.steps if step is not copy and any(v.base is base for v in step.views.values())]
    found: list[tuple[Step, dict[int, View]]] = []
    for step in others:
        views = _all({slot: moved(view) for slot, view in step.views.items()}.items())
        if views is None or not fits(step.code, step.groups, views):
            return
        found.append((step, views))
    inputs = _all((name, moved(view)) for name, view in draft.inputs.items())
    output = moved(draft.output)
    if inputs is None or output is None or not all(view.is_flat for view in (*inputs.values(), output)):
        return
    for step, views in found:
        step.views = views
    draft.inputs, draft.output = inputs, output
    draft.steps.remove(copy)


def _all(views: Iterable[tuple[_Key, View | None]]) -> dict[_Key, View] | None:
    found = dict(views)
    kept = {key: view for key, view in found.items() if view is not None}
    return kept if len(kept) == len(found) else None


def _embedded(view: View, target: View, inner: int, outer: int) -> View | None:
    """A view of a buffer whose runs of ``inner`` elements now lie ``outer`` apart, from the start of ``target``; None
    where it reads over the end of a run."""
    reach = view.offset % inner
    strides = []
    for dim, stride in zip(view.dims, view.strides, strict=True):
        if dim == 1 or stride % inner == 0:
            strides.append(stride // inner * outer if dim > 1 else 0)
        else:
            reach += (dim - 1) * stride
            strides.append(stride)
    if reach >= inner:
        return None
    start = target.offset + view.offset // inner * outer + view.offset % inner
    return View(target.base, start, view.dims, tuple(strides))


def _merge(draft: Draft) -> None:
    """Copies of neighbors to neighbors, right after each other, are one."""
    merged: list[Step] = []
    for step in draft.steps:
        joined = _joined(merged[-1], step) if merged else None
        if joined is None:
            merged.append(step)
        else:
            merged[-1] = joined
    draft.steps = merged


def _joined(first: Step, second: Step) -> Step | None:
    if not (first.is_copy and second.is_copy):
        return None
    views = {}
    for slot, view in first.views.items():
        other = second.views.get(slot)
        if other is None or other.base is not view.base or not (view.is_flat and other.is_flat):
            return None
        if other.offset != view.offset + view.size or not isinstance(view.base, Storage):
            return None
        views[slot] = View(view.base, view.offset, (view.size + other.size,), (1,))
    return replace(first, views=views)
