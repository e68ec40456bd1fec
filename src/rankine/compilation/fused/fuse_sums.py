"""Sums of products without the products: they are never written."""

from __future__ import annotations

from rankine.compilation.fused.program import Binary, Code, Reduction, Unary
from rankine.compilation.fused.steps import Draft, Step
from rankine.compilation.fused.views import Constants, View

__all__ = ["fuse_sums"]


def fuse_sums(draft: Draft) -> None:
    """A sum of squares is one reduction, a sum of products over the last axis one dot product."""
    for step in [step for step in draft.steps if step.code is Code.REDUCE and step.kind == Reduction.SUM]:
        maker = _maker(draft, step)
        if maker is None:
            continue
        fused = _squares(step, maker) or _dot(step, maker)
        if fused is not None:
            draft.steps[draft.steps.index(step)] = fused


def _maker(draft: Draft, step: Step) -> Step | None:
    """The elementwise step whose result is all that is summed, and is read by nobody else."""
    source = step.views[2]
    if isinstance(source.base, Constants) or not source.is_whole or draft.output.base is source.base:
        return None
    writers = draft.writers(source.base)
    if len(writers) != 1 or len(draft.readers(source.base)) != 1 or not writers[0].writes[0].is_whole:
        return None
    return writers[0] if writers[0].code in (Code.UNARY, Code.BINARY) else None


def _squares(step: Step, maker: Step) -> Step | None:
    is_square = maker.code is Code.UNARY and maker.kind == Unary.SQUARE
    is_product = maker.code is Code.BINARY and maker.kind == Binary.MUL and maker.views[2] == maker.views[3]
    factor = _regrouped(maker.views[2], step) if is_square or is_product else None
    return None if factor is None else Step(Code.REDUCE, {0: step.views[0], 2: factor}, Reduction.SUM_SQUARE)


def _dot(step: Step, maker: Step) -> Step | None:
    before, length, after = step.views[2].dims
    if maker.code is not Code.BINARY or maker.kind != Binary.MUL or after != 1:
        return None
    factors = [maker.views[slot].reshaped((before, length)) for slot in (2, 3)]
    target = step.views[0].reshaped((before,))
    if target is None or factors[0] is None or factors[1] is None:
        return None
    return Step(Code.DOT, {0: target, 2: factors[0], 3: factors[1]})


def _regrouped(view: View, step: Step) -> View | None:
    return view.reshaped(step.views[2].dims)
