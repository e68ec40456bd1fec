"""Refusal at the door: what the head of a request tells is looked at before an application is asked.

Under overload most requests are refused, and what a refusal costs is what those that could be answered lack. So the
decision falls where the HTTP server has parsed the head, and the answer is written at once: no task, no body.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from rankine.errors import CapacityExceeded, DeadlineExceeded, RankineError
from rankine.policy.reason import Reason
from rankine.serving.http import Headers, Request
from rankine.serving.inlet import Inlet
from rankine.serving.kernel_wait import kernel_wait_s
from rankine.serving.quick import SMALL_BODY_BYTES, Quick
from rankine.serving.refusals import QueueRefused
from rankine.serving.same_refusal import OWN, SameRefusal
from rankine.serving.seldom import Seldom
from rankine.serving.work import Presence

if TYPE_CHECKING:
    from rankine.serving.app import App

__all__ = ["Door"]

_BEHIND_S, _BEHIND_FOR_S = 0.002, 0.1
_SAME_S = 5e-4
"""What one has not waited, the next has not either; the kernel counts in milliseconds."""
_DIGITS = 18
"""Of a length that is looked at: Python refuses to read numbers of thousands."""


class Door:
    """Where requests come in, of one application.

    Attributes:
        line: of those that are let in.
        lines: first lines of requests that may be answered without a task; ``urls``: of the same.
        inlet: where those of all connections are read together, if they are.

    Args:
        final: requests come from another process of the host, and are not handed on.
    """

    def __init__(self, app: App, *, final: bool = False) -> None:
        self._app = app
        self._final = final
        self._behind_until_s = self._none_until_s = 0.0
        self.line = app.reception.line
        self._again = SameRefusal(self._written)
        self._refusals = Seldom("a connection is refused")
        self._guarded = {path.encode(): route.label for path, route in app.guarded.items()}
        self._quick = {path: route.quick for path, route in app.guarded.items() if route.quick is not None}
        self.urls = tuple(path.encode() for path in self._quick)
        self.lines = tuple(b"POST %b HTTP/1.1" % url for url in self.urls)
        self.inlet: Inlet | None = None

    def open_inlet(self) -> None:
        """From now on read plain requests of all connections together, where the system can; on the event loop."""
        config = self._app.config
        if not self._final and self.lines and Inlet.is_possible():
            self.inlet = Inlet(
                self.lines,
                most_body=min(SMALL_BODY_BYTES, config.max_body_bytes),
                most_rows=config.max_candidates,
                budget_ms=config.default_deadline_ms,
                most_wait_ms=config.max_wait_ms,
                id_prefix=self._app.ids.other_prefix,
                refused=self._refused,
            )

    def waited_s(self, connection: socket.socket | None, *, fresh: bool = False) -> float:
        """How long what a connection has just read has lain in the kernel; 0 for next to nothing.

        The kernel is asked only while the event loop is late, or was lately, and where it has not just looked at the
        sockets: else it has only just come, and to ask costs as much as to read a head. Whoever has waited shows that
        others have.

        Args:
            fresh: the connection has just been accepted, and may have waited for that.
        """
        now_s = perf_counter()
        if self._app.reception.lag.seconds > 0 or len(self.line) > 0:
            self._behind_until_s = now_s + _BEHIND_FOR_S
        if now_s >= self._behind_until_s:
            return 0.0
        if not fresh and (now_s < self._none_until_s or now_s - self.line.looked_s < _BEHIND_S):
            return 0.0
        waited_s = kernel_wait_s(connection)
        if waited_s > _BEHIND_S:
            self._behind_until_s = now_s + _BEHIND_FOR_S
        else:
            self._none_until_s = now_s + _SAME_S
        return waited_s

    def guards(self, method: bytes, url: bytes) -> bool:
        """Whether requests of this kind may be refused here."""
        return method == b"POST" and url in self._guarded

    def knock(self, url: bytes, headers: Headers, waited_s: float, presence: Presence) -> Request:
        """The request of a head; see :meth:`~rankine.serving.app.App.request`."""
        request = self._app.request("POST", url.decode(), b"", headers, waited_s=waited_s, presence=presence)
        request.final = self._final
        return request

    def turns_away(self, request: Request) -> tuple[bytes, bool] | None:
        """The whole answer to a request that is refused, and whether the connection ends with it.

        None: the request is let in, or is for others to judge.

        One that is let in has its ``head`` set.
        """
        app = self._app
        length = request.headers.get(b"content-length")
        if length is None or not length.isdigit() or len(length) > _DIGITS or int(length) > app.config.max_body_bytes:
            return None
        try:
            app.authenticate(request)
            if not app.is_drawn_away(request):
                app.reception.admit(request, in_line=True)
        except (CapacityExceeded, DeadlineExceeded) as error:
            return self._answer(request, error)
        except RankineError:  # of the client's making: the application explains it better
            return None
        return None

    def quick(self, request: Request) -> Quick | None:
        """What answers a request of this kind without a task; None where there is nothing, or it is no small one.

        Its length was announced, and was looked at when it was let in.
        """
        quick = self._quick.get(request.path)
        if quick is None or not quick.takes(request) or int(request.headers[b"content-length"]) > SMALL_BODY_BYTES:
            return None
        return quick

    def tell_refused(self, client: tuple[str, int] | None, why: str) -> None:
        """Log that a connection ends before it has asked anything that could be answered."""
        self._refusals.warn({"client": None if client is None else f"{client[0]}:{client[1]}", "why": why})

    def _answer(self, request: Request, error: RankineError) -> tuple[bytes, bool]:
        app, label = self._app, self._guarded[request.path.encode()]
        app.pool.rest.refused()
        whole, closes = self._again.answer(request, error, label)
        app.finish(request, label, error.http_status)
        if self.inlet is not None and not closes and isinstance(error, QueueRefused):
            self._refuse_alike(self.inlet, request, error.reason, whole)
        return whole, closes

    def _refuse_alike(self, inlet: Inlet, request: Request, reason: Reason, whole: bytes) -> None:
        """Have others refused for the same reason, by the same words."""
        lately = self._app.reception.lately
        likes = [like for like in lately.likes() if like.reason is reason]
        if likes and self._app.may_refuse_unseen and request.path in self._quick and OWN.isdisjoint(request.headers):
            inlet.refuse(likes, whole.split(request.id.encode()), lately.until_s)

    def _refused(self, turned: Sequence[tuple[Reason, float]], rows: int) -> None:
        """Count requests that were refused unseen."""
        app = self._app
        label = self._guarded[self.urls[0]]
        app.pool.refused(rows, len(turned))
        for reason, waited_s in turned:
            app.metrics.decided(reason)
            app.metrics.answered(label, CapacityExceeded.http_status, waited_s)

    def _written(self, request: Request, error: RankineError, label: str) -> tuple[bytes, bool]:
        """A refusal, as bytes."""
        return self._app.written(request, self._app.told(request, error, plain=label == "oip"))
