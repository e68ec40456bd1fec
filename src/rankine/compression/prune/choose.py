"""Which groups go: the least important for what they save, until a budget is met."""

from __future__ import annotations

import numpy as np

from rankine.compression.prune.costs import Costs

__all__ = ["choose"]


def choose(costs: Costs, importance: np.ndarray, macs: int) -> list[int]:
    """Numbers of groups, in the order in which they go; ``costs`` is left as it is without them.

    What a group saves depends on the widths that are left, so it is asked again after every one. What it saves beyond
    the budget does not count: a whole feature does not go where a few neurons are enough.

    Args:
        importance: ``(groups,)``.
        macs: to arrive at, if that is possible.
    """
    chosen: list[int] = []
    going = np.ones(len(importance), bool)
    while costs.macs > macs:
        saved, worth = costs.saved()
        possible = going & costs.allowed() & (saved > 0)
        if not possible.any():
            break
        useful = worth * np.minimum(1.0, (costs.macs - macs) / np.maximum(saved, 1))
        ratio = np.divide(importance, useful, out=np.full(len(saved), np.inf), where=possible)
        best = int(np.argmin(ratio))
        costs.remove(best)
        going[best] = False
        chosen.append(best)
    return chosen
