"""A request that is answered without a task, as uvicorn's protocol sees it."""

from __future__ import annotations

import asyncio

from rankine.serving.http import Request
from rankine.serving.quick import Quick

__all__ = ["QuickCycle"]


class QuickCycle:
    """A request on its way through :class:`~rankine.serving.quick.Quick`: what uvicorn's protocol asks of a cycle.

    Attributes:
        parts: of its body.
        keep_alive: the connection goes on after the reply; the server's shutdown says no.
        disconnected: the client has left.
    """

    __slots__ = ("disconnected", "keep_alive", "parts", "quick", "request", "response_complete")
    message_event = asyncio.Event()
    """uvicorn sets it where a task may wait; here none does."""

    def __init__(self, request: Request, quick: Quick) -> None:
        self.request, self.quick = request, quick
        self.parts: list[bytes] = []
        self.keep_alive, self.disconnected, self.response_complete = True, False, False
