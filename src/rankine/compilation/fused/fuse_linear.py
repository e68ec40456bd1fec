"""What follows a linear layer becomes a part of it: bias, activation, cross layer, rounding.

The order within the operation is fixed: bias, addend, activation, factor, added, rounding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rankine.compilation.fused.program import Binary, Code, Unary
from rankine.compilation.fused.steps import LINEARS, Draft, Step, fits
from rankine.compilation.fused.views import Constants, View

__all__ = ["fuse_linears"]

_RELU, _PRELU = 1, 2
_BIAS, _QUANT, _SLOPE, _SCALE = 1, 3, 4, 5
_ADDEND, _FACTOR, _ADDED = 3, 4, 5


def fuse_linears(draft: Draft) -> None:
    """Take what follows each linear layer into it, as far as its order allows."""
    for step in [step for step in draft.steps if step.code in LINEARS]:
        while _grow(draft, step):
            pass


def _grow(draft: Draft, step: Step) -> bool:
    """Take one step that reads the layer's result into the layer, which then takes its place."""
    result = step.views.get(0)
    if result is None or not result.is_whole:
        return False
    readers = [reader for reader in draft.steps if any(view.base is result.base for view in reader.reads)]
    if _round(draft, step, result, readers):
        return True
    if len(readers) != 1 or draft.output.base is result.base or 1 in step.views:
        return False
    (reader,) = readers
    return reader.code in (Code.UNARY, Code.BINARY) and reader.views[0].is_whole and _take(draft, step, reader)


def _take(draft: Draft, step: Step, reader: Step) -> bool:
    grown = _with_unary(step, reader) if reader.code is Code.UNARY else _with_binary(step, reader)
    if grown is None or not fits(grown.code, grown.groups, grown.views):
        return False
    step.views, step.arrays, step.kind = grown.views, grown.arrays, grown.kind
    draft.steps.remove(step)
    draft.steps[draft.steps.index(reader)] = step
    return True


def _with_unary(step: Step, reader: Step) -> Step | None:
    source, width = reader.views[2], _width(step)
    if not source.is_whole or not _linear_so_far(step, but=(_ADDEND,)):
        return None
    views = {**step.views, 0: reader.views[0]}
    if reader.kind == Unary.RELU:
        return replace(step, views=views, kind=_RELU)
    if reader.kind == Unary.LEAKY_RELU:
        slope = np.full(width, reader.numbers[0], np.float32)
        return replace(step, views=views, kind=_PRELU, arrays={**step.arrays, _SLOPE: slope})
    return None


def _with_binary(step: Step, reader: Step) -> Step | None:
    """An elementwise operation of the result and of a constant for each column, or of another value."""
    result = step.views[0]
    (own,) = [slot for slot in (2, 3) if reader.views[slot].base is result.base][:1]
    other = reader.views[5 - own]
    if not reader.views[own].is_whole or other.base is result.base:
        return None
    views = {**step.views, 0: reader.views[0]}
    columns = _columns(other, _width(step))
    if columns is not None:
        return _with_constant(replace(step, views=views), Binary(reader.kind), columns, first=own == 2)
    if isinstance(other.base, Constants):
        return None
    if reader.kind == Binary.ADD:
        slot = _ADDEND if _linear_so_far(step) else _ADDED
        return None if slot in step.views else replace(step, views={**views, slot: other})
    if reader.kind == Binary.MUL and not {_FACTOR, _ADDED} & step.views.keys():
        return replace(step, views={**views, _FACTOR: other})
    return None


def _with_constant(step: Step, kind: Binary, columns: np.ndarray, *, first: bool) -> Step | None:
    """A constant for each column: of the bias, of the slopes, or of the weights themselves."""
    if kind is Binary.PRELU and first and _linear_so_far(step, but=(_ADDEND,)):
        return replace(step, kind=_PRELU, arrays={**step.arrays, _SLOPE: columns})
    is_sum = kind in (Binary.ADD, Binary.SUB)
    if not _linear_so_far(step, but=(_ADDEND, _ADDED) if is_sum else ()):
        return None
    bias = step.arrays.get(_BIAS, np.zeros(len(columns), np.float32))
    if kind is Binary.ADD or (kind is Binary.SUB and first):
        summand = columns if kind is Binary.ADD else -columns
        return replace(step, arrays={**step.arrays, _BIAS: bias + summand})
    if kind is Binary.MUL or (kind is Binary.DIV and first and columns.all()):
        factor = columns if kind is Binary.MUL else np.float32(1) / columns
        scaled = _SCALE if step.code is Code.LINEAR_I8 else 0
        arrays = {**step.arrays, scaled: step.arrays[scaled] * factor}
        return replace(step, arrays=arrays if _BIAS not in arrays else {**arrays, _BIAS: bias * factor})
    return None


def _round(draft: Draft, step: Step, result: View, readers: list[Step]) -> bool:
    """Write codes beside the numbers, and no numbers where nobody else reads them."""
    if 1 in step.views:
        return False
    for reader in readers:
        if reader.code is not Code.QUANTIZE or reader.views[2].base is not result.base:
            continue
        if not reader.views[2].is_whole or not reader.views[1].is_whole:
            continue
        quant = reader.arrays[_QUANT].reshape(-1, _width(step))
        if (quant != quant[0]).any():
            continue
        step.views = {**step.views, 1: reader.views[1]}
        step.arrays = {**step.arrays, _QUANT: quant[0].copy()}
        step.numbers = reader.numbers
        draft.steps.remove(reader)
        if len(readers) == 1 and draft.output.base is not result.base:
            del step.views[0]
        return True
    return False


def _linear_so_far(step: Step, but: tuple[int, ...] = ()) -> bool:
    """Whether nothing follows the sum of products and bias yet, ``but`` operands in these places."""
    later = {_ADDEND, _FACTOR, _ADDED} - set(but)
    return step.kind == 0 and not later & step.views.keys()


def _columns(view: View, width: int) -> np.ndarray | None:
    """Numbers ``(width,)`` of a constant that is the same for all groups; None where it is none."""
    if not isinstance(view.base, Constants):
        return None
    numbers = view.numbers().reshape(-1, width)
    return numbers[0].copy() if (numbers == numbers[0]).all() else None


def _width(step: Step) -> int:
    return int(step.arrays[0].shape[1])
