"""What the queue decides: the next batch, and whether a request fits into the plan."""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

from rankine.policy.batching import Shape, Waiting
from rankine.policy.reason import Reason

__all__ = ["Decision", "Fit", "Slice", "words"]

W = TypeVar("W", bound=Waiting)


class Slice(Struct, Generic[W], frozen=True):
    """Rows ``first_row .. first_row + rows`` of a request; the request is done when all of its slices are."""

    work: W
    first_row: int
    rows: int


class Decision(Struct, Generic[W], frozen=True):
    """What to do with the queue now.

    Attributes:
        slices: the next batch, in the order of its rows; empty where nothing is left to run.
        expired: requests whose deadline has passed, and ``hopeless`` ones that cannot be done by it: they have left
            the queue, and what runs of them already is of no use.
        rows, requests: of the batch.
        predicted_s: mean time of the batch.
        rung: that a session of the batch keeps to; None where the ladder may choose.
        reason: why no further request is in the batch; ``text`` says it in words.
    """

    slices: tuple[Slice[W], ...]
    expired: tuple[W, ...]
    hopeless: tuple[W, ...]
    rows: int
    requests: int
    predicted_s: float
    rung: int | None
    reason: Reason
    text: str


class Fit(Struct, frozen=True):
    """Whether a request fits into the plan.

    Attributes:
        fits: it, and everything that waits, is predicted to be on time; what was late before does not count.
        finish_s: when it is predicted to be done.
        lacks_s: by how much the tightest of all misses its time; not positive where everything is on time.
        reason: ``ADMITTED``, ``TOO_LATE`` (itself) or ``OTHERS_LATE``.
    """

    fits: bool
    finish_s: float
    lacks_s: float
    reason: Reason


def words(reason: Reason, taken: int, waited: int, shape: Shape) -> str:
    """Why a batch ends where it ends, for people."""
    some = f"first {taken} of {waited} by deadline"
    match reason:
        case Reason.ALONE:
            return "alone: nothing else waits"
        case Reason.ALL:
            return f"joined all {waited} that waited"
        case Reason.EFFICIENT:
            return f"{some}: {shape.target_rows} rows are efficient"
        case Reason.LARGEST:
            return f"{some}: a batch has at most {shape.most_rows} rows"
        case Reason.URGENT:
            return f"{some}: with more, the first would be late"
        case Reason.SPLIT:
            return f"a part of one request: a batch has at most {shape.most_rows} rows"
        case Reason.OWN_SIZE:
            return f"{some}: more is not efficient on this device"
        case Reason.OTHER_RUNG:
            return f"{some}: the session of the next keeps to another variant"
        case _:
            return f"{some}: the next would gain nothing by joining"
