"""Steps as the records of a program."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rankine.compilation.fused.pack import Blob, packed_columns, packed_weight
from rankine.compilation.fused.places import placed
from rankine.compilation.fused.program import CONSTANT, NOWHERE, Code, InputSlot, Operand, Operation, Program
from rankine.compilation.fused.steps import ALIGNED, LINEARS, Draft, Step
from rankine.compilation.fused.views import Constants, Storage, View, coalesced

__all__ = ["emitted"]

_OPERANDS, _ARRAYS, _AXES, _NUMBERS = 6, 6, 4, 4
_Strides = tuple[tuple[int, ...], ...]


def emitted(draft: Draft) -> Program:
    """The program of a draft, its buffers placed and its weights packed."""
    buffers = placed(draft)
    emitter = _Emitter({base: at for at, base in enumerate(buffers)})
    operations = tuple(emitter.operation(step) for step in draft.steps)
    return Program(
        buffers=tuple(buffers.values()),
        inputs=tuple(emitter.slot(view) for view in draft.inputs.values()),
        operations=operations,
        output=emitter.operand(draft.output),
        tasks=draft.output.dims[-1],
        constants=emitter.blob.contents(),
    )


class _Emitter:
    def __init__(self, indices: Mapping[Storage, int]) -> None:
        self._indices = indices
        self.blob = Blob()

    def operation(self, step: Step) -> Operation:
        dims, strides = _layout(step)
        return Operation(
            code=step.code,
            kind=int(step.kind),
            groups=step.groups,
            operands=tuple(self.operand(step.views.get(slot)) for slot in range(_OPERANDS)),
            dims=_filled(dims),
            strides=tuple(_filled(own) for own in (*strides, *((),) * (3 - len(strides)))),
            constants=tuple(self.blob.reference(_array(step, at)) for at in range(_ARRAYS)),
            numbers=(*step.numbers, *(0.0,) * (_NUMBERS - len(step.numbers))),
        )

    def operand(self, view: View | None) -> Operand:
        if view is None:
            return NOWHERE
        if isinstance(view.base, Constants):
            return Operand(CONSTANT, self.blob.element(view.base.numbers) + view.offset)
        return Operand(self._indices[view.base], view.offset)

    def slot(self, view: View) -> InputSlot:
        operand = self.operand(view)
        return InputSlot(operand.buffer, operand.offset, view.size, view.element)


def _layout(step: Step) -> tuple[tuple[int, ...], _Strides]:
    """Sizes and strides of an operation, as its code has them."""
    views = [step.views[slot] for slot in sorted(step.views)]
    if step.code in ALIGNED:
        dims, strides = coalesced(views)
        return (dims, tuple(strides)) if dims else ((1,), ((1,),) * len(views))
    sizes = _sizes(step)
    if step.code in (*LINEARS, Code.WHERE, Code.TAKE, Code.QUANTIZE, Code.DEQUANTIZE):
        return sizes, ()
    return sizes, tuple(view.strides for view in views)


def _sizes(step: Step) -> tuple[int, ...]:
    match step.code:
        case Code.LINEAR_F32 | Code.LINEAR_I8:
            return step.arrays[0].shape
        case Code.TAKE:
            return (*step.views[0].dims, step.views[2].dims[1])
        case Code.MATMUL:
            batch, height, inner = step.views[2].dims
            return batch, height, inner, step.views[3].dims[2]
        case Code.REDUCE | Code.SOFTMAX | Code.DOT:
            return step.views[2].dims
        case _:
            return (step.views[2].size,)


def _array(step: Step, at: int) -> np.ndarray | None:
    array = step.arrays.get(at)
    if array is None or step.code is Code.TAKE:
        return array
    return packed_weight(step.code, array) if at == 0 else packed_columns(array)


def _filled(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return (*numbers, *(0,) * (_AXES - len(numbers)))
