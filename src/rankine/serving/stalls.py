"""Connections whose clients keep the server waiting, or do not read what it has sent them."""

from __future__ import annotations

from enum import Enum

__all__ = ["STALL_S", "Stall", "Verdict"]

STALL_S = 20.0
_SILENT_S = 75.0
"""For so long a connection may stay silent, new or between requests."""


class Verdict(Enum):
    """What becomes of a connection."""

    GOES_ON = "goes on"
    CLOSE = "close"
    ABORT = "abort"


class Stall:
    """How long a connection has kept the server waiting; times are on the event loop's clock.

    Args:
        now_s: when it was made.
        max_s: for a whole request, and for a client to read an answer.

    Attributes:
        progress_s: when something last came that counts. ``begun_s``: when the request did that is not whole.
    """

    __slots__ = ("_max_s", "_written_s", "begun_s", "progress_s")

    def __init__(self, now_s: float, max_s: float) -> None:
        self._max_s = max_s
        self.progress_s = self._written_s = now_s
        self.begun_s = 0.0

    def verdict(self, now_s: float, *, writes_wait: bool, reads_wait: bool, in_message: bool, owes: bool) -> Verdict:
        """What becomes of it now.

        Args:
            writes_wait: the client does not read its answers. ``reads_wait``: it is the server that does not read.
            in_message: a request has begun and is not whole. ``owes``: one is not answered.
        """
        if writes_wait:
            return Verdict.ABORT if now_s - self._written_s > self._max_s else Verdict.GOES_ON
        self._written_s = now_s
        if reads_wait:
            self.progress_s = self.begun_s = now_s
            return Verdict.GOES_ON
        if not in_message and owes:
            return Verdict.GOES_ON
        too_slow = in_message and now_s - self.begun_s > self._max_s
        silent = now_s - self.progress_s > (STALL_S if in_message else _SILENT_S)
        return Verdict.CLOSE if too_slow or silent else Verdict.GOES_ON
