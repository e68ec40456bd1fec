"""Narrow layers that read the same are one layer: experts, gates and towers side by side fill a kernel's registers."""

from __future__ import annotations

import numpy as np

from rankine.compilation.fused.relocate import relocate
from rankine.compilation.fused.steps import LINEARS, Draft, Step
from rankine.compilation.fused.views import Storage, View

__all__ = ["merge_layers"]

_NARROW = 256
"""Columns: layers that have more fill the kernels by themselves."""
_OUTPUTS = (0, 1)
_OTHERS = {3, 4, 5}


def merge_layers(draft: Draft) -> None:
    """Merge layers of one input and one kind, as far as nothing but bias, activation and rounding follows them."""
    alike: dict[tuple[object, ...], list[Step]] = {}
    for step in draft.steps:
        if step.code in LINEARS and step.groups == 1 and _width(step) < _NARROW and not _OTHERS & step.views.keys():
            alike.setdefault(_kind(step), []).append(step)
    for first, *others in alike.values():
        for step in others:
            if not _merge(draft, first, step):
                first = step


def _kind(step: Step) -> tuple[object, ...]:
    """Equal for layers that can be one."""
    source = step.views[2]
    outputs = tuple(slot in step.views for slot in _OUTPUTS)
    return (source.base, source.offset, source.size, step.code, step.kind, step.numbers, outputs)


def _merge(draft: Draft, first: Step, second: Step) -> bool:
    """Make the second layer columns of the first, whose place is earlier."""
    slots = [slot for slot in _OUTPUTS if slot in first.views]
    if not all(_side_by_side(draft, first.views[slot], second.views[slot]) for slot in slots):
        return False
    for slot in slots:
        one, other = first.views[slot], second.views[slot]
        first.views = {**first.views, slot: View(one.base, one.offset, (one.size + other.size,), (1,))}
    first.arrays = {
        at: np.concatenate([_array(first, at), _array(second, at)], axis=-1)
        for at in sorted(first.arrays.keys() | second.arrays.keys())
    }
    draft.steps.remove(second)
    return True


def _array(step: Step, at: int) -> np.ndarray:
    """A layer's constants; only a bias can be left out."""
    return step.arrays.get(at, np.zeros(_width(step), np.float32))


def _width(step: Step) -> int:
    return int(step.arrays[0].shape[1])


def _side_by_side(draft: Draft, one: View, other: View) -> bool:
    """Make two results lie one after the other, where they do not yet and may."""
    if other.base is one.base and other.offset == one.offset + one.size:
        return True
    if not (one.is_whole and other.is_whole and isinstance(one.base, Storage)):
        return False
    together = Storage(one.base.element, one.size + other.size)
    first, second = View(together, 0, (one.size,), (1,)), View(together, one.size, (other.size,), (1,))
    return relocate(draft, {one.base: first, other.base: second})
