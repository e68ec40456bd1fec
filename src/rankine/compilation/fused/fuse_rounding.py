"""What is done right before rounding becomes a part of the rounding."""

from __future__ import annotations

import numpy as np

from rankine.compilation.fused.program import Binary, Code, Unary
from rankine.compilation.fused.steps import LINEARS, Draft, Step
from rankine.compilation.fused.views import Constants, View

__all__ = ["fuse_factors", "fuse_rectifiers"]

_QUANT = 3


def fuse_factors(draft: Draft) -> None:
    """``Mul`` by constants, then rounding: the factor of each column goes into its step."""
    for step in _roundings(draft):
        maker = _maker(draft, step)
        if maker is None or maker.code is not Code.BINARY or maker.kind != Binary.MUL:
            continue
        for slot in (2, 3):
            factor, source = maker.views[slot], maker.views[5 - slot]
            if isinstance(factor.base, Constants) and _replaces(source, step):
                quant = step.arrays[_QUANT] * factor.numbers().reshape(-1)
                step.arrays = {**step.arrays, _QUANT: quant.astype(np.float32)}
                step.views = {**step.views, 2: source}
                break


def fuse_rectifiers(draft: Draft) -> None:
    """``Relu``, then rounding with a zero point of 0: clamping does it. A layer before it does it better itself."""
    for step in _roundings(draft):
        maker = _maker(draft, step)
        if maker is None or maker.code is not Code.UNARY or maker.kind != Unary.RELU or step.numbers[0] != 0:
            continue
        source = maker.views[2]
        if _replaces(source, step) and not any(writer.code in LINEARS for writer in _writers(draft, source)):
            step.views = {**step.views, 2: source}


def _roundings(draft: Draft) -> list[Step]:
    return [step for step in draft.steps if step.code is Code.QUANTIZE]


def _maker(draft: Draft, step: Step) -> Step | None:
    """The step that computes all of what a rounding reads, in its order."""
    writers = _writers(draft, step.views[2])
    if len(writers) != 1 or not step.views[2].is_whole or not writers[0].writes[0].is_whole:
        return None
    return writers[0]


def _writers(draft: Draft, view: View) -> list[Step]:
    return [] if isinstance(view.base, Constants) else draft.writers(view.base)


def _replaces(source: View, step: Step) -> bool:
    return not isinstance(source.base, Constants) and source.is_flat and source.size == step.views[2].size
