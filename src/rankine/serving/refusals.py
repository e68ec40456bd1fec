"""What a request is told that is not let into the queue."""

from __future__ import annotations

from typing import ClassVar

from rankine.errors import CapacityExceeded, DeadlineExceeded, RankineError
from rankine.policy.admission import DEADLINE_MISSED, Admission
from rankine.policy.reason import Reason

__all__ = ["OverQuota", "QueueRefused", "refusal"]


class QueueRefused(CapacityExceeded):
    """A request was not let into the queue; ``retry_after_s`` says when to try again, ``reason`` why."""

    def __init__(self, message: str, retry_after_s: float, reason: Reason = Reason.QUEUE_FULL) -> None:
        super().__init__(message, hint=f"Try again in {retry_after_s:.3g} s.")
        self.retry_after_s = retry_after_s
        self.reason = reason

    def as_dict(self) -> dict[str, str]:
        """The error as a JSON object, with its reason."""
        return super().as_dict() | {"reason": self.reason.value}


class OverQuota(QueueRefused):
    """A tenant has used up its quota, or its share while others wait."""

    code = "quota"
    http_status: ClassVar[int] = 429


def refusal(found: Admission) -> RankineError:
    """The error that says what an admission decided."""
    if found.status == DeadlineExceeded.http_status:
        if found.reason is Reason.EXPIRED:
            return DeadlineExceeded(found.text, where="deadline")
        return DeadlineExceeded(DEADLINE_MISSED, where="deadline", got=found.text)
    kind = OverQuota if found.status == OverQuota.http_status else QueueRefused
    return kind(found.text, found.retry_after_s, found.reason)
