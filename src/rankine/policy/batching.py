"""Which of the waiting requests run together next: work-conserving, earliest deadline first.

Work-conserving: an idle worker never waits for more requests to come. Requests join a batch only because they queued
while the worker was busy, so an unloaded server adds no delay, and batches grow with the load by themselves.
Earliest deadline first is optimal for meeting deadlines on one machine without preemption of known work (Jackson 1955);
requests without a deadline come last, in the order of their arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Decision", "Waiting", "form_batch"]


class Waiting(Protocol):
    """A request in the queue, as the policy sees it. Times are seconds of one monotonic clock."""

    @property
    def rows(self) -> int: ...
    @property
    def arrived_s(self) -> float: ...
    @property
    def deadline_s(self) -> float:
        """When the answer is of no use any more; infinity where the client gave no deadline."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with the queue now.

    Attributes:
        taken: positions in the queue that form the next batch, in the order of its rows.
        expired: positions whose deadline has passed: they are answered as such and do not run.
        reason: a few words for the reply and the metrics.
    """

    taken: tuple[int, ...]
    expired: tuple[int, ...]
    reason: str


def form_batch(queue: Sequence[Waiting], now_s: float, max_rows: int) -> Decision:
    """Choose the next batch.

    A request is never split and never overtaken by a smaller one with a later deadline, so that large requests do not
    starve; one that is larger than ``max_rows`` runs alone.
    """
    if len(queue) == 1 and queue[0].deadline_s > now_s:
        return Decision((0,), (), "alone: nothing else waits")
    expired = tuple(at for at, waiting in enumerate(queue) if waiting.deadline_s <= now_s)
    alive = [at for at in range(len(queue)) if queue[at].deadline_s > now_s]
    alive.sort(key=lambda at: (queue[at].deadline_s, queue[at].arrived_s))
    taken: list[int] = []
    rows = 0
    for at in alive:
        if taken and rows + queue[at].rows > max_rows:
            break
        taken.append(at)
        rows += queue[at].rows
    return Decision(tuple(taken), expired, _reason(len(taken), len(alive), max_rows))


def _reason(taken: int, alive: int, max_rows: int) -> str:
    if not alive:
        return "nothing to run"
    if taken < alive:
        return f"first {taken} of {alive} by deadline: a batch has at most {max_rows} rows"
    return "alone: nothing else waits" if taken == 1 else f"joined all {taken} that waited"
