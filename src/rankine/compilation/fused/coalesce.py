"""Copies that need not be made: a buffer that is copied as a whole is computed right where the copy would lie, or the
copy is not made and who would read it reads what it would be a copy of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from rankine.compilation.fused.merge_copies import merge_copies
from rankine.compilation.fused.steps import Draft, Step, fits
from rankine.compilation.fused.views import Storage, View, coalesced, row_major

__all__ = ["coalesce"]

_Move = Callable[[View], View | None]
_Key = TypeVar("_Key")


def coalesce(draft: Draft) -> None:
    """Drop copies; the widest buffers are filled in place first.

    Buffers are written once, element by element, so it never matters when the copy would have been made.
    """
    _fill_in_place(draft)
    _lay_side_by_side(draft)
    merge_copies(draft)
    _fill_in_place(draft)
    _read_in_place(draft)


def _copies(draft: Draft) -> list[Step]:
    return sorted((step for step in draft.steps if step.is_copy), key=_width, reverse=True)


def _width(step: Step) -> int:
    base = step.target.base
    return base.width if isinstance(base, Storage) else 0


def _fill_in_place(draft: Draft) -> None:
    """Of what is copied as a whole into a part of another buffer: it becomes that part."""
    for step in _copies(draft):
        source, target = step.views[2], step.target
        if isinstance(source.base, Storage) and source.is_flat and source.size == source.base.width:
            _drop(draft, step, source, target)


def _read_in_place(draft: Draft) -> None:
    """Of a buffer that is nothing but a copy: who reads it reads what it is a copy of."""
    for step in _copies(draft):
        if step.target.is_whole and isinstance(step.views[2].base, Storage):
            _drop(draft, step, step.target, step.views[2])


def _drop(draft: Draft, copy: Step, own: View, other: View) -> None:
    """Drop a copy between all of a buffer and a part of another: all that uses the buffer uses that part."""
    if own.base is other.base or not isinstance(own.base, Storage):
        return
    dims, (_, strides) = coalesced([own, other])
    part = View(other.base, other.offset, dims, strides)
    if _move(draft, own.base, lambda view: _within(view, part)):
        draft.steps.remove(copy)


def _lay_side_by_side(draft: Draft) -> None:
    """Inputs of one width that are copied one after the other lie side by side: then one copy does it."""
    apart = {view.base: name for name, view in draft.inputs.items() if view.is_whole}
    run: list[Step] = []
    for step in [*draft.steps, None]:
        if step is not None and step.is_copy and step.views[2].base in apart and (not run or _alike(run[-1], step)):
            run.append(step)
            continue
        together = list(dict.fromkeys(copy.views[2].base for copy in run))
        if len(together) > 1:
            for base in together:
                del apart[base]
            _join(draft, [base for base in together if isinstance(base, Storage)])
        run = []


def _alike(first: Step, second: Step) -> bool:
    """Whether both copy the same part of buffers of one width to the same buffer."""
    one, other = first.views[2], second.views[2]
    if not isinstance(one.base, Storage) or not isinstance(other.base, Storage):
        return False
    same = (one.offset, one.size, one.base.width) == (other.offset, other.size, other.base.width)
    return same and first.target.base is second.target.base


def _join(draft: Draft, bases: list[Storage]) -> None:
    together = Storage(bases[0].element, sum(base.width for base in bases))
    start = 0
    for base in bases:
        part = View(together, start, (base.width,), (1,))
        _move(draft, base, lambda view, part=part: _within(view, part))  # type: ignore[misc]
        start += base.width


def _move(draft: Draft, base: Storage, move: _Move) -> bool:
    """Move all that reads or writes ``base``; nothing where somebody cannot read or write it there."""

    def moved(view: View) -> View | None:
        return move(view) if view.base is base else view

    found: list[tuple[Step, dict[int, View]]] = []
    for step in draft.steps:
        if all(view.base is not base for view in step.views.values()):
            continue
        views = _all((slot, moved(view)) for slot, view in step.views.items())
        if views is None or not fits(step.code, step.groups, views):
            return False
        found.append((step, views))
    inputs = _all((name, moved(view)) for name, view in draft.inputs.items())
    output = moved(draft.output)
    if inputs is None or output is None or not all(view.is_flat for view in (*inputs.values(), output)):
        return False
    for step, views in found:
        step.views = views
    draft.inputs, draft.output = inputs, output
    return True


def _all(views: Iterable[tuple[_Key, View | None]]) -> dict[_Key, View] | None:
    found = dict(views)
    kept = {key: view for key, view in found.items() if view is not None}
    return kept if len(kept) == len(found) else None


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
