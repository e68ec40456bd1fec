"""Copies that need not be made: a buffer that is copied as a whole is computed right where the copy would lie, or the
copy is not made and who would read it reads what it would be a copy of."""

from __future__ import annotations

from rankine.compilation.fused.merge_copies import merge_copies
from rankine.compilation.fused.relocate import relocate
from rankine.compilation.fused.steps import Draft, Step
from rankine.compilation.fused.views import Storage, View, coalesced

__all__ = ["coalesce"]


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
    if own.base is other.base:
        return
    dims, (_, strides) = coalesced([own, other])
    at = draft.steps.index(copy)
    draft.steps.remove(copy)
    if not relocate(draft, {own.base: View(other.base, other.offset, dims, strides)}):
        draft.steps.insert(at, copy)


def _lay_side_by_side(draft: Draft) -> None:
    """Inputs of one width that are copied one after the other lie side by side: then one copy does it."""
    apart = {view.base for view in draft.inputs.values() if view.is_whole}
    run: list[Step] = []
    for step in [*draft.steps, None]:
        copied = step if step is not None and step.is_copy and step.views[2].base in apart else None
        if copied is not None and (not run or _alike(run[-1], copied)):
            run.append(copied)
            continue
        bases = dict.fromkeys(copy.views[2].base for copy in run)
        if len(bases) > 1:
            _join(draft, [base for base in bases if isinstance(base, Storage)])
            apart.difference_update(bases)
        run = [copied] if copied is not None and copied.views[2].base in apart else []


def _alike(first: Step, second: Step) -> bool:
    """Whether both copy the same part of buffers of one width to the same buffer."""
    one, other = first.views[2], second.views[2]
    if not isinstance(one.base, Storage) or not isinstance(other.base, Storage):
        return False
    same = (one.offset, one.size, one.base.width) == (other.offset, other.size, other.base.width)
    return same and first.target.base is second.target.base


def _join(draft: Draft, bases: list[Storage]) -> None:
    together = Storage(bases[0].element, sum(base.width for base in bases))
    width = bases[0].width
    relocate(draft, {base: View(together, at * width, (width,), (1,)) for at, base in enumerate(bases)})
