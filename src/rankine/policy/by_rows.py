"""The first policies, which know rows and no times: what the pool follows until it keeps a backlog.

A queue is bounded in rows; a batch takes what is due first, up to a number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Admission", "Decision", "Waiting", "admit", "form_batch"]


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision on one request.

    Attributes:
        admitted: whether it may queue.
        retry_after_s: whole seconds after which to try again; 0 where it was admitted.
        reason: a sentence for the client.
    """

    admitted: bool
    retry_after_s: int
    reason: str


_ADMITTED = Admission(True, 0, "admitted")


def admit(rows: int, *, queued_rows: int, max_queue_rows: int, rows_per_s: float, draining: bool) -> Admission:
    """Decide on a request of ``rows`` rows.

    Args:
        queued_rows: rows that wait now.
        max_queue_rows: the bound; a request that finds the queue empty is let in whatever its size.
        rows_per_s: what the server computes lately (0 where unknown): gives the time until there is room again.
        draining: the server is going away and takes nothing new.
    """
    if draining:
        return Admission(False, 1, "the server is shutting down and takes no new requests")
    if queued_rows == 0 or queued_rows + rows <= max_queue_rows:
        return _ADMITTED
    wait_s = queued_rows / rows_per_s if rows_per_s > 0 else 1.0
    reason = f"the queue is full: {queued_rows} rows wait, at most {max_queue_rows} may"
    return Admission(False, min(60, max(1, math.ceil(wait_s))), reason)


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
