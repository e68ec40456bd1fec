"""What a request is told whose worker process was lost while it ran."""

from __future__ import annotations

from rankine.errors import CapacityExceeded, EngineError

__all__ = ["WorkerDied", "WorkerHung", "WorkerLost", "lost_twice"]


class WorkerLost(CapacityExceeded):
    """The worker process ended, or was ended, while it ran a batch: nothing of the batch is known."""


class WorkerDied(WorkerLost):
    """The process ended by itself, or somebody killed it."""

    code = "worker_died"


class WorkerHung(WorkerLost):
    """The process did not answer in time, and was killed."""

    code = "worker_hung"


def lost_twice(lost: WorkerLost) -> EngineError:
    """For a request that lost a worker again when it ran alone: not to be tried once more, here or elsewhere."""
    hint = "It is likely the request itself: the server's log names the worker, and how it ended."
    return EngineError("two workers were lost while they ran this request", got=lost.message, hint=hint)
