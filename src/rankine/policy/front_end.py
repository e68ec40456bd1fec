"""How long a front end takes to get to a request, and to send its reply: what the engine's queue does not show.

Of a small model the front end is the bottleneck: reading, checking and encoding a request takes longer than ranking it.
So requests that are let in wait in a line of their own, and how fast it moves tells how long one more would wait.
"""

from __future__ import annotations

__all__ = ["FrontEnd"]

_FIRST_GAP_S = 0.0005
_MOST_GAP_S = 0.02
"""A longer one was no work: the process was held up as a whole."""
_GAP_RATE = 0.02
_REPLY_RATE = 0.05
_DEVIATIONS = 3.0
_MOST_REPLY_S = 0.02
_LATE_SHARE = 0.003
_MARGIN_STEP, _MOST_MARGIN = 0.02, 0.5


class FrontEnd:
    """What a request has before and behind the engine's queue, learned from those before it.

    The time of a reply is predicted as that of an acknowledgement in TCP (RFC 6298): the mean, and some deviations.

    Attributes:
        margin: share of the time that is left which is kept for the unforeseen. It grows with every request that was
            let in and not answered in time, and shrinks with every one that was, until 3 in 1000 are late (as
            :class:`~rankine.policy.margin.Margin`, but a share: what is unforeseen here is mostly other work).
    """

    def __init__(self) -> None:
        self._gap_s = _FIRST_GAP_S
        self._reply_s = self._deviation_s = 0.0
        self.margin = 0.0

    def entry_s(self, waiting: int) -> float:
        """How long until a request that comes now, behind so many others, is ready for the engine's queue."""
        return (waiting + 1) * self._gap_s

    @property
    def reply_s(self) -> float:
        """How long from a request's scores to its reply."""
        return self._reply_s + _DEVIATIONS * self._deviation_s

    def moved(self, gap_s: float) -> None:
        """The line moved on by one, so long after it had last moved, and was never empty meanwhile."""
        self._gap_s += _GAP_RATE * (min(gap_s, _MOST_GAP_S) - self._gap_s)

    def replied(self, spent_s: float) -> None:
        """A reply was sent so long after its scores were there."""
        spent_s = min(max(spent_s, 0.0), _MOST_REPLY_S)
        self._deviation_s += _REPLY_RATE * (abs(spent_s - self._reply_s) - self._deviation_s)
        self._reply_s += _REPLY_RATE * (spent_s - self._reply_s)

    def answered(self, late: bool) -> None:
        """A request that was let in was answered, or refused after all."""
        moved = _MARGIN_STEP * ((1.0 if late else 0.0) - _LATE_SHARE)
        self.margin = min(_MOST_MARGIN, max(0.0, self.margin + moved))
