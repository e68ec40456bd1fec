"""Steps: operations of a program while it is made, over views of buffers that have no place yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from rankine.compilation.fused.program import Code, Unary
from rankine.compilation.fused.views import Storage, View, coalesced

__all__ = ["ALIGNED", "LINEARS", "Draft", "Step", "fits"]

LINEARS = (Code.LINEAR_F32, Code.LINEAR_I8)
ALIGNED = (Code.UNARY, Code.BINARY, Code.COPY_U8)
"""Operations whose operands all have the same dimensions, with strides of their own."""
_FLAT = (Code.WHERE, Code.TAKE, Code.QUANTIZE, Code.DEQUANTIZE)
_MOST_AXES = 4


@dataclass(eq=False)
class Step:
    """One operation. Buffers are written once, element by element: no step changes what another has written.

    Attributes:
        views: operands by their place in the operation: 0 and 1 are written, 2 to 5 are read.
        arrays: constants by their place; weights ``(K, N)`` are not packed yet.
        numbers: up to four.
    """

    code: Code
    views: dict[int, View]
    kind: int = 0
    groups: int = 0
    arrays: dict[int, np.ndarray] = field(default_factory=dict)
    numbers: tuple[float, ...] = ()

    @property
    def reads(self) -> list[View]:
        return [view for slot, view in self.views.items() if slot > 1]

    @property
    def writes(self) -> list[View]:
        return [view for slot, view in self.views.items() if slot < 2]

    @property
    def is_copy(self) -> bool:
        return self.code is Code.COPY_U8 or (self.code is Code.UNARY and self.kind == Unary.IDENTITY)

    @property
    def target(self) -> View:
        """Of a step that writes one view: that view."""
        (view,) = self.writes
        return view


@dataclass
class Draft:
    """A program while it is made.

    Attributes:
        inputs: views that the host fills, by name, in the order of the model's inputs.
        output: the logits.
    """

    steps: list[Step]
    inputs: dict[str, View]
    output: View

    def readers(self, base: Storage) -> list[Step]:
        return [step for step in self.steps if any(view.base is base for view in step.reads)]

    def writers(self, base: Storage) -> list[Step]:
        return [step for step in self.steps if any(view.base is base for view in step.writes)]

    def prune(self) -> None:
        """Drop steps of which nothing is read."""
        wanted = {self.output.base}
        kept = []
        for step in reversed(self.steps):
            if any(view.base in wanted for view in step.writes):
                kept.append(step)
                wanted.update(view.base for view in step.reads)
        self.steps = kept[::-1]

    def views(self) -> Iterable[View]:
        """All that are read or written."""
        yield from self.inputs.values()
        yield self.output
        for step in self.steps:
            yield from step.views.values()


def fits(code: Code, groups: int, views: Mapping[int, View]) -> bool:
    """Whether an operation takes these views: how their elements must lie is the format's."""
    if code in LINEARS:
        return all(view.is_flat if groups == 1 else view.is_whole for view in views.values())
    if code in _FLAT:
        return all(view.is_flat for view in views.values())
    if code in ALIGNED:
        return len(coalesced(list(views.values()))[0]) <= _MOST_AXES
    return True
