"""Whether a request is handed to another server process of the host, and to which.

The power of two choices (Mitzenmacher, IEEE TPDS 12(10), 2001): of two others, drawn at random, the better one. To look
at all of them would send everybody to the same one, since what is known of them is some milliseconds old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

__all__ = ["HANDOVER_S", "better_process", "has_too_many"]

HANDOVER_S = 0.002
"""What it costs to hand a request over and its answer back, with some room for what is not known."""
_GAIN = 0.8
"""It must be done in less than this share of the time: else requests would go to and fro for next to nothing."""

_SPARE = 0.25
"""Of a fair share of the connections: to have so many more is nothing to mend."""

Draw = Callable[[Sequence[int], int], Sequence[int]]


def better_process(own_s: float, others_s: Mapping[int, float], draw: Draw) -> int | None:
    """The process that a request goes to; None where it stays.

    Args:
        own_s: seconds until it is predicted to be done where it came.
        others_s: the same elsewhere, without what handing over costs, by number of the process.
        draw: ``draw(numbers, count)`` gives so many different ones at random, as :func:`random.sample`.
    """
    if not others_s:
        return None
    best = min(draw(list(others_s), min(2, len(others_s))), key=others_s.__getitem__)
    return best if others_s[best] + HANDOVER_S < _GAIN * own_s else None


def has_too_many(own: int, others: Sequence[int]) -> bool:
    """Whether a process has so many more connections than the others that some of its clients should connect anew.

    The requests are balanced anyway. But whoever has the connections has their reading and writing too, and they all
    end with it, if it dies; and after another one has died, and was started again, it has them all.
    """
    fair = (own + sum(others)) / (1 + len(others))
    return own > fair + max(1.0, _SPARE * fair)
