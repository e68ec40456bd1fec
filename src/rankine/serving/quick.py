"""Small rank requests, from the body to the reply in two steps of the event loop: without a task, without ASGI.

Most requests of a ranking service are of a few hundred ids and have come whole when their head is read. What a general
server does for any request (a scope, a task, a body that may be read in parts, a reply that may be sent in parts) costs
as much as ranking them. Whatever is not small and plain goes the general way, and is answered alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from rankine.serving.bodies import ClientGone
from rankine.serving.http import JSON, Head, Reply, Request
from rankine.serving.logs import LOGGER
from rankine.serving.spans import Marks
from rankine.serving.work import Outcome, Work

if TYPE_CHECKING:
    from rankine.serving.app import App
    from rankine.serving.protocols.rank import Ranking, RankProtocol

__all__ = ["CLIENT_GONE", "SMALL_BODY_BYTES", "Answer", "Quick"]

SMALL_BODY_BYTES = 32 << 10
"""Larger ones are read in parts, and decoded in a thread."""
CLIENT_GONE = 499
"""Status under which requests are counted whose client left; nothing is sent (as nginx has it)."""
Answer = Callable[[bytes, bool], None]
"""Sends a whole response, and then closes the connection if told so."""


class Quick:
    """Answers rank requests that were let in at the door and whose bodies have come; on the event loop only.

    Args:
        prepare: of a request, what its head has told, and its body.
        label: under which they are counted.
    """

    def __init__(
        self, app: App, rank: RankProtocol, prepare: Callable[[Request, Head, bytes], Ranking], label: str
    ) -> None:
        self._app, self._rank, self._prepare, self._label = app, rank, prepare, label

    def takes(self, request: Request) -> bool:
        """Whether a request that was let in may be answered here, if its body is small."""
        headers = request.headers
        return request.head is not None and headers.get(b"content-type", JSON) == JSON and _ENCODING not in headers

    def begin(self, request: Request, body: bytes, answer: Answer) -> None:
        """Prepare a request and queue it; ``answer`` is called once it is ranked, unless its client has left."""
        try:
            head = self._app.reception.admit(request)
            ranking = self._prepare(request, head, body)
            ready_s = perf_counter()
            self._queue(request, ranking.work, partial(self._ranked, request, ranking, ready_s, answer))
        except ClientGone:
            self.left(request)
        except Exception as error:  # noqa: BLE001  explained, and logged where it is our own
            self._fail(request, error, answer)

    def _queue(self, request: Request, work: Work, then: Callable[[Outcome | Exception], None]) -> None:
        work.future = pending = _Pending(then)
        try:
            self._app.queue(request, work)
        except Exception:
            pending.forget()
            raise

    def left(self, request: Request) -> None:
        """Count a request whose client is gone; one that was taken back is counted by the process that took it."""
        if not request.final:
            self._app.finish(request, self._label, CLIENT_GONE)

    def _ranked(
        self, request: Request, ranking: Ranking, ready_s: float, answer: Answer, found: Outcome | Exception
    ) -> None:
        if isinstance(found, ClientGone) or (request.presence is not None and request.presence.gone):
            self.left(request)
            return
        if not isinstance(found, Outcome):
            self._fail(request, found, answer)
            return
        try:
            request.marks = Marks(ready_s, found.queue_s, found.run_s, perf_counter())
            reply = Reply(200, self._rank.reply(ranking, found, request.id))
        except Exception as error:  # noqa: BLE001  as above
            self._fail(request, error, answer)
        else:
            self._send(request, reply, answer)

    def _fail(self, request: Request, error: Exception, answer: Answer) -> None:
        self._send(request, self._app.told(request, self._app.explain(request, error), plain=False), answer)

    def _send(self, request: Request, reply: Reply, answer: Answer) -> None:
        try:
            whole, closes = self._app.written(request, reply)
        except Exception as error:  # noqa: BLE001  an error of ours: the client learns that there is no answer
            self._app.explain(request, error)
            reply, whole, closes = Reply(500, b""), b"", True
        answer(whole, closes)
        taken_back = request.final and request.presence is not None and request.presence.gone
        if not taken_back:  # else the process that took it back counts it
            self._app.finish(request, self._label, reply.status)


class _Pending:
    """Waits for the outcome of a request as a future would; but it goes on at once, not in the loop's next turn.

    It forgets what it was to go on with when it has: that knows the work, which has this. Such a ring is left to the
    garbage collector, and a collection holds everybody up for milliseconds.

    Args:
        then: called with the outcome or the error. Others are answered after it: what it raises is logged.
    """

    __slots__ = ("_done", "_loop", "_then")

    def __init__(self, then: Callable[[Outcome | Exception], None]) -> None:
        self._then, self._done = then, False
        self._loop = asyncio.get_running_loop()

    def done(self) -> bool:
        return self._done

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def set_result(self, outcome: Outcome, /) -> None:
        self._go_on(outcome)

    def set_exception(self, error: Exception, /) -> None:
        self._go_on(error)

    def forget(self) -> None:
        """Nobody waits any more."""
        self._then, self._done = _nothing, True

    def _go_on(self, found: Outcome | Exception) -> None:
        then = self._then
        self.forget()
        try:
            then(found)
        except Exception:  # noqa: BLE001  a reply that fails must not take those behind it along
            LOGGER.exception("a reply failed")


def _nothing(found: Outcome | Exception) -> None:
    """Whoever waited knows already."""


_ENCODING = b"content-encoding"
