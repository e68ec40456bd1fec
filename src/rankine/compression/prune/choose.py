"""Which groups go: the least important for what they save, until a budget is met."""

from __future__ import annotations

import numpy as np

from rankine.compression.prune.costs import Costs

__all__ = ["choose"]

_SHARES = (0.5, 0.25, 0.1, 0.0)


def choose(costs: Costs, importance: np.ndarray, macs: int) -> list[int]:
    """Numbers of groups, in the order in which they go; ``costs`` is left as it is without them.

    What a group saves depends on the widths that are left, so it is asked again after every one. What it saves beyond
    the budget does not count: a whole feature does not go where a few neurons are enough. No layer loses more than half
    at once, as long as others can do it: importance is that of one group alone, and the last channels of a layer are
    worth more than it says.

    Args:
        importance: ``(groups,)``.
        macs: to arrive at, if that is possible.
    """
    chosen: list[int] = []
    for share in _SHARES:
        while costs.macs > macs:
            best = _best(costs, importance, macs, share, chosen)
            if best is None:
                break
            costs.remove(best)
            chosen.append(best)
    return chosen


def _best(costs: Costs, importance: np.ndarray, macs: int, share: float, chosen: list[int]) -> int | None:
    """The group that is least important for what it saves; None where none may go."""
    saved, worth = costs.saved()
    possible = costs.allowed(share) & (saved > 0)
    possible[chosen] = False
    if not possible.any():
        return None
    useful = worth * np.minimum(1.0, (costs.macs - macs) / np.maximum(saved, 1))
    return int(np.argmin(np.divide(importance, useful, out=np.full(len(saved), np.inf), where=possible)))
