"""Whether a request is let into the queue: it is bounded in rows, because rows are what takes time."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Admission", "admit"]


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
