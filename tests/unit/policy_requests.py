"""Requests and cost models for tests of the policies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import strategies as st

from rankine.policy.cost import CostModel

__all__ = ["NEVER", "Ask", "asks", "big", "costs"]

NEVER = math.inf


@dataclass(slots=True, eq=False)
class Ask:
    """A request that waits."""

    rows: int
    deadline_s: float = NEVER
    arrived_s: float = 0.0
    requests: int = 1


def big() -> CostModel:
    """About 0.6 ms a call and 20 us a row: a heavy model on one core."""
    return CostModel([(1, 0.0006), (64, 0.0019), (512, 0.0108), (2048, 0.0415)], per_request_s=20e-6)


@st.composite
def costs(draw: st.DrawFn) -> CostModel:
    """Monotone curves, with steps and flat parts."""
    rows = sorted(draw(st.sets(st.integers(1, 4096), min_size=1, max_size=6)))
    times_s = draw(st.lists(st.floats(1e-4, 0.05), min_size=len(rows), max_size=len(rows)))
    per_request_s = draw(st.floats(0.0, 5e-4))
    return CostModel(zip(rows, sorted(times_s), strict=True), per_request_s=per_request_s)


def asks(most_deadline_s: float = 0.2) -> st.SearchStrategy[Ask]:
    """Requests of all sizes, some without a deadline."""
    return st.builds(Ask, st.integers(1, 3000), st.floats(0.001, most_deadline_s) | st.just(NEVER), st.floats(0.0, 0.0))
