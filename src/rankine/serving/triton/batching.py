"""How large batches should be, from the artifact's measured profile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rankine.policy.batching import Limits, Shape
from rankine.policy.cost import CostModel

__all__ = ["BatchSizes", "batch_sizes"]


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """Limits of batches, and what they rest on.

    Attributes:
        max_rows: a batch that is larger is no more efficient, or takes too long.
        max_ms: what such a batch takes, with room for a slower moment; no batch is predicted to take longer.
        profile: measured milliseconds by rows; empty where there was no profile.
    """

    max_rows: int
    max_ms: float
    profile: Mapping[int, float]


def batch_sizes(profile: Mapping[int, float], *, longest_ms: float = 20.0, most_rows: int = 2048) -> BatchSizes:
    """The smallest batch that reaches most of the engine's peak rows per second, within what is measured.

    What was measured is continued in a straight line, as cost models do. A model that is joined by nothing, since its
    rate does not grow with rows, gets its largest measured batch: it need not be cut into smaller ones either.

    Args:
        profile: milliseconds of an engine call by its number of rows; may be empty.
        longest_ms: that a batch may take.
        most_rows: that it may have.
    """
    if not profile:
        return BatchSizes(most_rows, longest_ms, {})
    cost = CostModel([(rows, milliseconds / 1000) for rows, milliseconds in profile.items()])
    shape = Shape.of(cost, Limits(max_batch_rows=most_rows, max_batch_s=longest_ms / 1000))
    rows = min(shape.most_rows, max(shape.target_rows, *profile))
    return BatchSizes(rows, max(longest_ms, math.ceil(1000 * cost.mean_s(rows))), dict(sorted(profile.items())))
