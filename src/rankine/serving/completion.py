"""What an engine computes of items ahead of time, for many: in pieces, so that whoever waits sees how far it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rankine.models.columns import Columns, row_count, take

__all__ = ["Advance", "Complete", "complete_all", "nobody_waits"]

Complete = Callable[[Columns], Columns]
"""Encoded columns of some items, to these and what the engine computes of an item ahead of time, if anything."""
Advance = Callable[[int, str], None]
"""Told how many items are done, and that in words; see :func:`rankine.events.step`."""
_ITEMS_AT_ONCE = 1 << 16


def nobody_waits(done: int, detail: str) -> None:
    """Where no progress is told."""


def complete_all(complete: Complete, items: Columns, advance: Advance = nobody_waits) -> Columns:
    """``complete`` of all items, ``(n, ...)`` each column; what it adds are arrays.

    Args:
        advance: told after each piece; what it raises ends the completion.
    """
    count = row_count(items)
    if count <= _ITEMS_AT_ONCE:
        return complete(items)
    found: dict[str, np.ndarray] = {}
    for start in range(0, count, _ITEMS_AT_ONCE):
        rows = np.arange(start, min(start + _ITEMS_AT_ONCE, count))
        completed = complete(take(items, rows))
        added = {name: column for name, column in completed.items() if name not in items}
        if not added:
            return items
        for name, column in added.items():
            values = np.asarray(column)
            if name not in found:
                found[name] = np.empty((count, *values.shape[1:]), values.dtype)
            found[name][rows] = values
        advance(int(rows[-1]) + 1, f"{rows[-1] + 1} of {count} items computed ahead of time")
    return {**items, **found}
