"""How an event loop and the engine share a core: what the loop runs itself, what it waits for, when it stands aside."""

from __future__ import annotations

__all__ = [
    "HELD_S",
    "MOMENT_S",
    "REFUSES_FOR_S",
    "Company",
    "counted_s",
    "is_at_ease",
    "is_enough",
    "may_join",
    "may_run_here",
    "rest_s",
]

MOMENT_S = 1e-3
"""How long the loop waits for others to join; timers are no finer."""
HELD_S = 2e-3
"""The longest that a request waits to be joined with others."""
REFUSES_FOR_S = 0.1
"""After a refusal others are expected for so long."""
_ALONE_S, _JOINED_S = 3e-4, 1e-3
_SHARED_S = 1e-2
_EASE = 0.25
_BUSY = 0.6
_MOST_BETWEEN = 4.0
_COMES, _CAME_RATE, _TRIED_EVERY = 0.2, 0.1, 16
_REST_S, _SHORT_REST_S = 4e-3, 2e-3
_WORTH_S = 2e-4


def may_run_here(predicted_s: float, *, joined: bool, one_core: bool = False) -> bool:
    """Whether a batch is short enough for the loop: nothing else runs there meanwhile, not even a refusal.

    One request alone that takes longer than 0.3 ms is worth waking a worker for, if that has a core of its own. If it
    shares the loop's (``one_core``), the loop would only wait for it, and to change between them costs as much as to
    read a request.
    """
    if one_core:
        return predicted_s <= _SHARED_S
    return predicted_s <= (_JOINED_S if joined else _ALONE_S)


def is_at_ease(busy_s: float, left_s: float) -> bool:
    """Whether there is time for all that waits and runs several times over, so that nobody needs a place in a plan."""
    return busy_s <= _EASE * left_s


def counted_s(alone_s: float, with_loop_s: float) -> float:
    """What a batch is counted to take that waited for the loop: with what the loop did before it, up to a bound.

    Where that is more, the front end is the bottleneck, and predicts itself.

    Args:
        alone_s: of the batch. ``with_loop_s``: from when it could have run, had the loop had nothing else to do.
    """
    return min(with_loop_s, _MOST_BETWEEN * alone_s)


def is_enough(rows: int, target_rows: int, predicted_s: float) -> bool:
    """Whether what is held is worth a call of the engine while others wait to join it.

    An efficient batch is, unless it is so short that what is counted around a call takes as long as the call.
    """
    return rows >= target_rows and predicted_s >= _ALONE_S


def may_join(predicted_s: float, left_s: float) -> bool:
    """Whether a request goes along with what is about to run, though there is no time to spare: where all are in time.

    What takes no longer than to plan it, and to plan everybody who comes until the plan is empty again, need not be
    planned.

    Args:
        predicted_s: of all of them. ``left_s``: until the first of them is due.
    """
    return predicted_s <= min(left_s, _JOINED_S)


class Company:
    """Whether it pays to wait a moment for others: a call of the engine, with all that is counted around it, is paid
    once for all of them.

    It does where the loop works most of the time, and others do come: where one client asks again when it has its
    answer, the loop is busy as well, and nobody comes.
    """

    def __init__(self) -> None:
        self._came = 1.0
        self._asked = 0

    def is_expected(self, busy: float) -> bool:
        """Whether to wait, where the loop works this share of its time.

        Where nobody came lately that is tried now and then.
        """
        if busy <= _BUSY:
            return False
        self._asked += 1
        return self._came >= _COMES or self._asked % _TRIED_EVERY == 0

    def waited(self, *, came: bool) -> None:
        """Somebody has waited, and others came meanwhile or not."""
        self._came += _CAME_RATE * (came - self._came)


def rest_s(left_s: float, *, refuses: bool) -> float:
    """How long the loop stands aside for a batch that runs on its core and has ``left_s`` to go; 0 for not at all.

    It would else interrupt the batch for each request that comes, and find the caches full of the engine's tables each
    time. Where requests are refused it rests shorter: they should learn it soon.
    """
    return min(left_s, _SHORT_REST_S if refuses else _REST_S) if left_s >= _WORTH_S else 0.0
