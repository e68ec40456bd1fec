"""Constants that elementwise operations repeat are written out where that makes their loops longer."""

from __future__ import annotations

from rankine.compilation.fused.program import Code
from rankine.compilation.fused.steps import Draft
from rankine.compilation.fused.views import Constants, coalesced, constant_view

__all__ = ["spread_constants"]

_SHORT = 64
"""Elements: loops that are at least so long are not worth more constants."""
_MOST = 1024
"""Elements that a constant may have then: it shares the first cache with what it is combined with."""


def spread_constants(draft: Draft) -> None:
    """One slope for each of 8 columns, repeated for 20 positions, becomes 160 slopes: one loop instead of 20."""
    for step in draft.steps:
        for slot in (2, 3):
            view = step.views.get(slot)
            if step.code is not Code.BINARY or view is None or not isinstance(view.base, Constants):
                continue
            spread = {**step.views, slot: view}
            dims, _ = coalesced(list(spread.values()))
            if len(dims) > 1 and dims[-1] < _SHORT and view.size <= _MOST:
                spread[slot] = constant_view(view.numbers())
                if len(coalesced(list(spread.values()))[0]) < len(dims):
                    step.views = spread
