"""What changes while a server is simulated: its requests, its workers, and what has ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankine.policy.backlog import Decision
from rankine.policy.cost import CostModel

__all__ = ["Ended", "ExactCost", "Request", "Worker"]


@dataclass(slots=True, eq=False)
class Request:
    """A request of the trace, as the policies see it."""

    number: int
    rows: int
    arrived_s: float
    deadline_s: float
    requests: int = 1
    left: int = 0


@dataclass(slots=True, eq=False)
class Worker:
    """A device and what it runs.

    Attributes:
        truth: what batches take, on the best rung.
        learned: what the server believes, by rung.
        expected_s: when it is predicted to be free.
        delay_s: by which the front end has held up the running batch.
        batches, rows: that it has run or runs.
    """

    name: str
    truth: CostModel
    noise: float
    learned: tuple[CostModel, ...]
    running: Decision[Request] | None = None
    rung: int = 0
    started_s: float = 0.0
    expected_s: float = 0.0
    delay_s: float = 0.0
    busy_s: float = 0.0
    batches: int = 0
    rows: int = 0


@dataclass(slots=True)
class Ended:
    """How requests ended, ``(requests,)`` each, filled while the simulation runs."""

    status: NDArray[np.int16]
    finish_s: NDArray[np.float64]
    rung: NDArray[np.int8]
    reasons: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    batch_rows: int = 0


class ExactCost(CostModel):
    """What a scheduler believes that knows service times: nothing to learn, and nothing kept for the unforeseen."""

    @property
    def tail_ratio(self) -> float:
        return 1.0

    def observe(self, rows: int, requests: int, co_running: int, seconds: float) -> None:
        """It knows already."""
