"""Where each id is, by the id itself: of whole numbers that lie close together a table is quicker than any search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankine._native import find_places

__all__ = ["ABSENT", "Places", "places_of"]

ABSENT = -1
_MOST_SPAN = 1 << 22
"""Numbers between the least and the greatest id, at most: 16 MiB, which every process has for itself."""
_SPARSEST = 8


@dataclass(frozen=True, slots=True)
class Places:
    """Positions of ids from ``first`` on.

    Attributes:
        at: int32 ``(span + 1,)``: of id ``first + i``, -1 where there is none; the last stands for all others.
    """

    first: int
    at: np.ndarray

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Positions of ``ids (m,)`` int64, int64 ``(m,)``; -1 where one is not there."""
        flags = ids.flags
        if not (flags.c_contiguous and flags.aligned):  # a tensor within a request's body begins where it happens to
            ids = ids.copy()
        return find_places(ids, self.first, self.at)


def places_of(ids: np.ndarray) -> Places | None:
    """Of ``ids (n,)``, sorted and distinct; None where they are no numbers, or too far apart for a table."""
    if ids.dtype.kind != "i" or not len(ids):
        return None
    first, span = int(ids[0]), int(ids[-1]) - int(ids[0]) + 1
    if span > min(_MOST_SPAN, _SPARSEST * len(ids)):
        return None
    at = np.full(span + 1, ABSENT, np.int32)
    at[ids - first] = np.arange(len(ids), dtype=np.int32)
    return Places(first, at)
