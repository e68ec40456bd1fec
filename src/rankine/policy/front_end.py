"""How long a front end takes to get to a request, and to send its reply: what the engine's queue does not show.

Of a small model the front end is the bottleneck: reading, checking and encoding a request takes longer than ranking it.
So requests that are let in wait in a line of their own, and how fast it moves tells how long one more would wait.
"""

from __future__ import annotations

import math

from msgspec import Struct

from rankine.policy.standing import Standing

__all__ = ["Ahead", "FrontEnd", "Outlook", "Terms"]

_FIRST_GAP_S = 0.0005
_MOST_GAP_S = 0.02
"""A longer one was no work: the process was held up as a whole."""
_GAP_RATE = 0.02
_REPLY_RATE = 0.05
_DEVIATIONS = 2.0
_MOST_REPLY_S = 0.02
_LATE_SHARE = 0.003
_MARGIN_STEP, _MOST_MARGIN = 0.02, 0.5
_FORGOTTEN_S = 2.0
_REPLY_SHARE = 0.3
"""A reply is not predicted to take more of the time that is left: what noise has driven up would refuse everybody."""
_PROBE_S = 0.01
_STANDING_SHARE, _STANDS_S = 0.1, 0.1
_BEHIND_S = 0.002
"""A server that is less behind is not."""


class Outlook(Struct, frozen=True):
    """What a request that comes now has before it, beside the engine's queue.

    Attributes:
        entry_s: until it is ready for that queue; ``reply_s``: from its scores to its reply.
        kept_s: for the unforeseen.
    """

    entry_s: float
    reply_s: float
    kept_s: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.entry_s + self.reply_s + self.kept_s


class Ahead(Struct, frozen=True):
    """What the engine has to do before a request that comes now.

    Attributes:
        queue_s: predicted time for all in its queue; ``line_s``: for those in line for it.
        kept_s: for requests of higher priorities.
    """

    queue_s: float
    line_s: float = 0.0
    kept_s: float = 0.0


class Terms(Struct, frozen=True):
    """On what terms a request goes on that comes now.

    Attributes:
        behind_s: since it came, with what the front end has still to do before and after it; ``is_behind``: that is
            more than where it keeps up.
        refuses: it could not be in time even if the engine had nothing else to do; or the queue stands.
        plan_s: when the engine's queue must be expected to be done with it, and with all who are in line before it;
            ``scores_s``: when it must be.
        alike_by_s, alike_left_s, alike_waited_s: who is due by then, with no more time left, and has waited for so long
            is refused if this one is.
        line_s: that those in line take here.
        is_kept_out: it is refused since the queue stands, and it would wait for those.
        is_long: those in line take much of the time that it has.
    """

    behind_s: float
    is_behind: bool
    refuses: bool
    plan_s: float
    scores_s: float
    alike_by_s: float = math.inf
    alike_left_s: float = math.inf
    alike_waited_s: float = 0.0
    line_s: float = 0.0
    is_kept_out: bool = False
    is_long: bool = False


class FrontEnd:
    """What a request has before and behind the engine's queue, learned from those before it.

    Args:
        standing: of the line here and the engine's queue, which are one for those that wait.

    The time of a reply is predicted as that of an acknowledgement in TCP (RFC 6298): the mean, and some deviations.

    Attributes:
        margin: share of the time that is left which is kept for the unforeseen. It grows with every request that was
            let in and not answered in time, and shrinks with every one that was, until 3 in 1000 are late (as
            :class:`~rankine.policy.margin.Margin`, but a share: what is unforeseen here is mostly other work). And it
            is forgotten within seconds: after a burst that was too much, the next one need not be.
    """

    def __init__(self, standing: Standing) -> None:
        self._gap_s = _FIRST_GAP_S
        self._reply_s = self._deviation_s = 0.0
        self.margin = 0.0
        self._answered_s = 0.0
        self._let_in_s = -math.inf
        self._unseen_since_s = math.inf
        self._standing = standing

    def outlook(self, now_s: float, left_s: float, waiting: int, lag_s: float) -> Outlook:
        """What a request has before it that comes now.

        Where nobody was let in lately nothing is predicted: only requests that are let in can show that what was
        learned does not hold any more.

        Args:
            left_s: time until its answer is due.
            waiting: requests in line before it.
            lag_s: how long a turn of the event loop takes, where the request is not in that line.
        """
        if now_s - self._let_in_s >= _PROBE_S and not waiting:
            return Outlook(0.0, 0.0, 0.0)
        left_s = max(0.0, left_s)
        reply_s = min(self._reply_s + _DEVIATIONS * self._deviation_s, _REPLY_SHARE * left_s)
        return Outlook(max(lag_s, waiting * self._gap_s), reply_s, self.margin * left_s)

    def terms(
        self,
        arrived_s: float,
        deadline_s: float,
        now_s: float,
        *,
        last_s: float | None = None,
        waiting: int = 0,
        lag_s: float | None = None,
        ahead: Ahead | None,
    ) -> Terms:
        """On what terms a request goes on that came at ``arrived_s`` and is read now, which is asked once.

        Args:
            last_s: when its answer is due, if that is before the deadline.
            waiting: requests in line before it.
            lag_s: how long a turn of the event loop takes, where the request is not in that line.
            ahead: what the engine has to do before it; None: no queue is kept short, as there is a cheaper rung.
        """
        last_s = deadline_s if last_s is None else last_s
        before = self.outlook(now_s, last_s - now_s, waiting, lag_s or 0.0)
        line_s = waiting * self._gap_s
        keeps_out = ahead is not None and self._keeps_out(line_s, ahead, last_s - now_s, now_s)
        waited_s = now_s - arrived_s
        behind_s = waited_s + before.entry_s + before.reply_s
        is_behind = behind_s > _BEHIND_S  # else it is the deadline that is too short
        stands = lag_s is None and self.unseen_stands(waited_s, last_s - arrived_s, now_s)
        refuses = stands or (is_behind and now_s + before.seconds > last_s)
        is_kept_out = keeps_out and not refuses
        scores_s = deadline_s - before.reply_s
        before_plan_s = (lag_s or 0.0) + (before.kept_s if is_behind else 0.0)
        plan_s = scores_s - before_plan_s
        if stands:  # so does whoever has waited as long, of no more time in all
            long_s = _long_s(last_s - arrived_s)
            alike = last_s + waited_s - long_s, math.inf, long_s
        elif is_kept_out:
            alike = math.inf, Standing.least_left_s(line_s), 0.0
        else:
            alike = math.inf, before.seconds, max(0.0, _BEHIND_S - before.entry_s - before.reply_s)
        is_long = Standing.is_much(line_s, last_s - now_s)
        refuses = refuses or is_kept_out
        return Terms(behind_s, is_behind, refuses, plan_s, scores_s, *alike, line_s, is_kept_out, is_long)

    def _keeps_out(self, line_s: float, ahead: Ahead, left_s: float, now_s: float) -> bool:
        """Whether the queue stands, and what a request would wait here alone is much of the time that it has.

        What those in line take in the engine they do while others are read, or that is a part of what they take here.
        """
        self._standing.look(max(line_s, ahead.line_s) + ahead.queue_s, left_s, now_s)
        return line_s > 0.0 and self._standing.refuses(line_s + ahead.kept_s, left_s, now_s)

    def unseen_stands(self, waited_s: float, whole_s: float, now_s: float) -> bool:
        """Whether the queue that nobody sees stands: for 100 ms no request was read that had not waited for long.

        It is in the kernel, first in, first out. Where it stands, every request has lost most of its time before it is
        looked at, and more are let in than can be done, for as long as the load lasts. To refuse is so much cheaper
        than to answer that refusing them drains it at once. (Controlled delay, as in Maurer, "Fail at Scale", ACM Queue
        13(8), 2015.)

        Args:
            waited_s: before it was read; a tenth of ``whole_s``, of the time that it had, is long, from 2 ms on.
        """
        if waited_s <= _long_s(whole_s):
            self._unseen_since_s = math.inf
            return False
        self._unseen_since_s = min(self._unseen_since_s, now_s)
        return now_s - self._unseen_since_s > _STANDS_S

    def let_in(self, now_s: float) -> None:
        """A request was let in."""
        self._let_in_s = now_s

    def wait_s(self, waiting: int) -> float:
        """How long a request usually takes here, behind so many others in line."""
        return waiting * self._gap_s + self._reply_s

    def moved(self, gap_s: float) -> None:
        """The line moved on by one, so long after it had last moved, and was never empty meanwhile."""
        self._gap_s += _GAP_RATE * (min(gap_s, _MOST_GAP_S) - self._gap_s)

    def replied(self, spent_s: float) -> None:
        """A reply was sent so long after its scores were there."""
        spent_s = min(max(spent_s, 0.0), _MOST_REPLY_S)
        self._deviation_s += _REPLY_RATE * (abs(spent_s - self._reply_s) - self._deviation_s)
        self._reply_s += _REPLY_RATE * (spent_s - self._reply_s)

    def answered(self, late: bool, now_s: float) -> None:
        """A request that was let in was answered, or refused after all."""
        self.margin *= math.exp(min(0.0, self._answered_s - now_s) / _FORGOTTEN_S)
        self._answered_s = now_s
        moved = _MARGIN_STEP * ((1.0 if late else 0.0) - _LATE_SHARE)
        self.margin = min(_MOST_MARGIN, max(0.0, self.margin + moved))


def _long_s(whole_s: float) -> float:
    """What is long to wait for a request that had so much time."""
    return max(_BEHIND_S, _STANDING_SHARE * whole_s)
