"""One refusal for all who come within a millisecond to a server that is full: they differ in their ids alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

from rankine.errors import RankineError
from rankine.policy.reason import Reason
from rankine.serving.http import Request
from rankine.serving.load_report import ASKS
from rankine.serving.refusals import QueueRefused
from rankine.serving.trace import TRACEPARENT

__all__ = ["OWN", "SameRefusal"]

_FOR_S = 1e-3
_MARK = "~"
"""Stands for a character of the id; nothing else in a refusal has it."""
OWN = frozenset((ASKS, TRACEPARENT, b"x-request-id"))
"""Who sends one of these is answered in a way of their own."""

Write = Callable[[Request, RankineError, str], tuple[bytes, bool]]


_SAME = frozenset((Reason.FRONT_END, Reason.OTHERS_LATE, Reason.QUEUE_FULL, Reason.KEPT_SHORT))
"""What is told for these is told of the server; for others, of whoever asks."""


class SameRefusal:
    """Refusals of one server.

    Args:
        write: a refusal as bytes, and whether the connection ends with it, for a request, an error and a label.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._until_s = -math.inf
        self._known: dict[tuple[str, Reason, int], list[bytes]] = {}

    def answer(self, request: Request, error: RankineError, label: str) -> tuple[bytes, bool]:
        """The refusal of a request; what it tells of the load is of a moment ago."""
        if not isinstance(error, QueueRefused) or error.reason not in _SAME or not OWN.isdisjoint(request.headers):
            return self._write(request, error, label)
        now_s = perf_counter()
        if now_s >= self._until_s:
            self._known.clear()
            self._until_s = now_s + _FOR_S
        key = (label, error.reason, len(request.id))
        found = self._known.get(key)
        if found is None:
            mark = len(request.id) * _MARK
            whole, closes = self._write(replace(request, id=mark), error, label)
            if closes:  # that is meant for one connection
                return request.id.encode().join(whole.split(mark.encode())), True
            found = self._known[key] = whole.split(mark.encode())
        return request.id.encode().join(found), False
