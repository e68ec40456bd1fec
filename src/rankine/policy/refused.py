"""What a refusal tells of requests that are like the refused one: under overload most are, and need not be asked.

For a moment the front end and the plan only get fuller. So where a request was refused, so is one that asks for no
less: due no later, with as many rows. Of the front end that is certain. The plan divides its queue into batches, and
now and then has room for a larger request where it had none for a smaller one: for 2 in 1000 that are like a refused
one. And where the queue stands and one would have waited too long, so would all who are due after it and have no more
time left than makes that wait long.
"""

from __future__ import annotations

import math

from msgspec import Struct

from rankine.policy.reason import Reason
from rankine.policy.standing import Standing

__all__ = ["FOR_S", "Like", "RefusedLately"]

FOR_S = 2e-3
"""For so long a refusal tells of others."""
_STANDS_FOR_S, _STANDS_SHARE = 10e-3, 0.5
"""And where it was since the queue stands, up to half of what it would have waited: until then the queue is no shorter
than half of what it was."""
_LEAST_FOR_S = 1e-3
"""What would tell of others for less time ends what the rest tell: it is left out."""
_MOST = 8


class Like(Struct, frozen=True):
    """Requests that would be refused as one was.

    Attributes:
        due_s: they are due by then, and not before ``from_s``. ``left_s``: no more is left until they are.
        rows: they have at least so many.
        waited_s: they have waited for so long when they are read.
        reason: of the refusal.
    """

    due_s: float
    left_s: float
    rows: int
    waited_s: float
    reason: Reason
    from_s: float = -math.inf

    def tells_of(self, due_s: float, rows: int, waited_s: float, now_s: float) -> bool:
        """Whether a request is one of them, as the reactor compares."""
        due = self.from_s <= due_s <= self.due_s and due_s - now_s <= self.left_s
        return due and rows >= self.rows and waited_s >= self.waited_s


class RefusedLately:
    """The refusals of a moment.

    Attributes:
        until_s: from then on they tell nothing.
    """

    def __init__(self) -> None:
        self._likes: list[Like] = []
        self._of_standing = False
        self.until_s = -math.inf

    def behind(self, by_s: float, left_s: float, waited_s: float, now_s: float, waits_s: float | None = None) -> None:
        """Nobody could be in time, whatever the engine does, who is due by ``by_s``, has no more left than ``left_s``,
        and has waited for ``waited_s``; or nobody is let in of whom that holds, since the queue stands and they would
        wait for ``waits_s``."""
        self._add(Like(by_s, left_s, 0, waited_s, Reason.FRONT_END), now_s, waits_s)

    def planned(self, reason: Reason, due_s: float, rows: int, now_s: float, waits_s: float | None = None) -> None:
        """The plan had no room for a request: others would be late, or the queue is full, or stands.

        One that would only be late itself tells next to nothing: who is due before it may be ahead of all.

        Args:
            waits_s: where the queue stands: so long would wait whoever is due later.
        """
        if reason is Reason.OTHERS_LATE:
            self._add(Like(due_s, math.inf, rows, 0.0, reason), now_s)
        elif reason is Reason.QUEUE_FULL:
            self._add(Like(math.inf, math.inf, rows, 0.0, reason), now_s)
        elif reason is Reason.KEPT_SHORT and waits_s is not None:
            self._add(Like(math.inf, Standing.least_left_s(waits_s), 0, 0.0, reason, due_s), now_s, waits_s)

    def likes(self) -> list[Like]:
        """What they tell, the newest first."""
        return self._likes[::-1]

    def like(self, due_s: float, rows: int, waited_s: float, now_s: float) -> Like | None:
        """The refusal that one is like which is due then and is read now, if there is any."""
        if now_s >= self.until_s:
            return None
        return next((one for one in reversed(self._likes) if one.tells_of(due_s, rows, waited_s, now_s)), None)

    def _add(self, like: Like, now_s: float, waits_s: float | None = None) -> None:
        """Keep what a refusal tells; ``waits_s``: that it would have waited, where the queue stands."""
        for_s = FOR_S if waits_s is None else min(_STANDS_FOR_S, _STANDS_SHARE * waits_s)
        if for_s < _LEAST_FOR_S:
            return
        if now_s >= self.until_s or self._of_standing != (waits_s is not None):
            self._likes.clear()
            self.until_s, self._of_standing = now_s + for_s, waits_s is not None
        self.until_s = min(self.until_s, now_s + for_s)
        self._likes = [one for one in self._likes if not _tells_more(like, one)][-_MOST + 1 :]
        self._likes.append(like)


def _tells_more(one: Like, other: Like) -> bool:
    """Whether ``one`` tells of all that ``other`` does."""
    later = one.due_s >= other.due_s and one.left_s >= other.left_s and one.from_s <= other.from_s
    return later and one.rows <= other.rows and one.waited_s <= other.waited_s
