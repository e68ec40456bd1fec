"""Narrow layers that read the same are one layer: experts, gates and towers side by side fill a kernel's registers."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from rankine.compilation.fused.coalesce import move_into
from rankine.compilation.fused.program import Code
from rankine.compilation.fused.steps import LINEARS, Draft, Step
from rankine.compilation.fused.views import Storage, View

__all__ = ["merge_layers"]

_NARROW = 256
"""Columns: layers that have more fill the kernels by themselves."""
_OUTPUTS = (0, 1)
_BIAS = 1


def merge_layers(draft: Draft) -> None:
    """Merge layers of one input and one kind, as far as nothing but bias, activation and rounding follows them."""
    layers = [step for step in draft.steps if step.code in LINEARS and _is_narrow(step)]
    for _, alike in groupby(sorted(layers, key=_kind), key=_kind):
        first, *others = alike
        for step in others:
            if not _merge(draft, first, step):
                first = step


def _is_narrow(step: Step) -> bool:
    return step.groups == 1 and step.arrays[0].shape[1] < _NARROW and not {3, 4, 5} & step.views.keys()


def _kind(step: Step) -> tuple[object, ...]:
    """Equal for layers that can be one."""
    source = step.views[2]
    own = (step.code, step.kind, step.numbers, *(slot in step.views for slot in _OUTPUTS))
    return (id(source.base), source.offset, source.size, *own)


def _merge(draft: Draft, first: Step, second: Step) -> bool:
    """Make the second layer columns of the first, whose place comes earlier."""
    slots = [slot for slot in _OUTPUTS if slot in first.views]
    if not all(_side_by_side(draft, first.views[slot], second.views[slot]) for slot in slots):
        return False
    for slot in slots:
        one, other = first.views[slot], second.views[slot]
        first.views = {**first.views, slot: View(one.base, one.offset, (one.size + other.size,), (1,))}
    widths = [step.arrays[0].shape[1] for step in (first, second)]
    arrays = {}
    for at in first.arrays.keys() | second.arrays.keys():
        parts = [step.arrays.get(at, np.zeros(width, np.float32)) for step, width in zip((first, second), widths, strict=True)]
        arrays[at] = np.concatenate(parts, axis=-1)
    first.arrays = arrays
    draft.steps.remove(second)
    return True


def _side_by_side(draft: Draft, one: View, other: View) -> bool:
    """Make results lie side by side, where they do not and may."""
    if other.base is one.base and other.offset == one.offset + one.size:
        return True
    if not (one.is_whole and other.is_whole and isinstance(one.base, Storage) and isinstance(other.base, Storage)):
        return False
    together = Storage(one.base.element, one.size + other.size)
    return move_into(draft, {one.base: View(together, 0, (one.size,), (1,)), other.base: View(together, one.size, (other.size,), (1,))})
