"""The HTTP server's connections, with bounds: by itself it keeps whatever a client sends as headers, for ever.

A connection's ``Presence`` is handed to the application in each request's scope, as ASGI extension
``rankine.presence``: so a request whose client left can be dropped from the queue, without a task that listens for it.
Extension ``rankine.waited`` tells for how many seconds its first bytes have lain in the kernel: under overload requests
wait there, in sockets and in connections that nobody has accepted yet, long before anybody could look at a clock.
Extension ``rankine.request`` is the request itself, where the :class:`~rankine.serving.door.Door` has let it in; then
``rankine.write`` takes the bytes of a whole response, and tells whether it has sent them.
"""

from __future__ import annotations

import socket
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from rankine.errors import CapacityExceeded, PayloadTooLarge
from rankine.serving.descriptors import REFUSED
from rankine.serving.door import Door
from rankine.serving.endings import EndingProtocol
from rankine.serving.half_close import find_out_whether_gone
from rankine.serving.http import Request
from rankine.serving.inlet import Entrance
from rankine.serving.kernel_wait import kernel_wait_s, tcp_socket
from rankine.serving.malformed import explained, misread_head, own_fault
from rankine.serving.plain import read_plain
from rankine.serving.quick import SMALL_BODY_BYTES
from rankine.serving.quick_cycle import QuickCycle
from rankine.serving.wire_errors import closing_answer
from rankine.serving.work import Presence

__all__ = [
    "MAX_HEAD_BYTES",
    "PRESENCE",
    "REQUEST",
    "WAITED",
    "WRITE",
    "LimitedProtocol",
]

PRESENCE, WAITED, REQUEST, WRITE = "rankine.presence", "rankine.waited", "rankine.request", "rankine.write"
MAX_HEAD_BYTES = 64 << 10
_LINE_BYTES = len(b": \r\n")
_FULL = closing_answer(CapacityExceeded("there are too many connections"), retry_after_s=1)
_TOO_LARGE = closing_answer(
    PayloadTooLarge("the request's head is too large", allowed=f"at most {MAX_HEAD_BYTES} bytes"),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
)


class LimitedProtocol(EndingProtocol):
    """Answers 431 (RFC 6585) and closes a connection whose request head has more than ``MAX_HEAD_BYTES``.

    Args:
        max_connections: of the server; one more is answered by 503 and closed.
        door: refuses requests whose heads tell enough, where no other request of the connection is under way.
    """

    def __init__(
        self,
        *arguments: Any,
        max_connections: int = 10_000,
        door: Door | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self._door = door
        self._entrance: Entrance | None = None
        self._asked = self._turned_away = self._closes = self._refused_here = False
        self._quick: QuickCycle | None = None
        self._let_in: Request | None = None
        self._version = ""
        self._head_waited_s = 0.0
        self._socket: socket.socket | None = None
        self._max_connections = max_connections
        self._running: RequestResponseCycle | None = None
        self._presence = Presence()
        self._unread_bytes = 0

    @property
    def fresh(self) -> bool:
        """Nothing was asked on this connection yet."""
        return self.cycle is None and not self._asked

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._socket = tcp_socket(transport)
        too_many = len(self.connections) - self._max_connections
        if too_many > 0:
            self._refuse(_FULL)
        if too_many > REFUSED:  # there are no descriptors to let all of them linger
            transport.close()
            return
        inlet = None if self._door is None else self._door.inlet
        if inlet is not None and self._socket is not None:
            self._entrance = Entrance(inlet, self, transport, self._socket.fileno())
            self.loop.call_soon(self._enter)  # it cannot stop reading before it has begun

    def connection_lost(self, exc: Exception | None) -> None:
        if self._entrance is not None:
            self._entrance.leave()
        self._presence.gone = True
        if self._quick is not None:  # its body was still to come
            self._quick.quick.left(self._quick.request)
            self._quick = None
        if self._running is not None:  # uvicorn tells only the last of pipelined requests
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays open, since its client, which sends nothing more, may wait for answers.

        Not over TLS, which has no such state, and not where the last request will never be whole.
        """
        if not self._owes or self.scheme == "https" or (self._in_message and not self._refused):
            return False
        if not self._refused:
            self.cycle.keep_alive = False  # with the last answer the connection ends
        find_out_whether_gone(self.transport, self._socket, self._may_send_interim)
        return True

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if not self._in_head:  # a head must end in time as a whole: a byte now and then does not count
            self._stall.progress_s = self.loop.time()
        self._refused_here = False
        if not self._is_plain(data):
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        # Bytes that the parser holds back, or has put into headers or trailers, since the last part that it gave away.
        self._unread_bytes += len(data)
        self._feed(data)
        if self._unread_bytes > MAX_HEAD_BYTES and (self._in_head or self._in_message):
            self._break_off(_TOO_LARGE)

    def take(self, data: bytes, line: int, headers: dict[bytes, bytes], head_bytes: int, waited_s: float) -> None:
        """See :class:`~rankine.serving.inlet.Reads`."""
        door = self._door
        if door is None or self.transport.is_closing() or not self._may_begin:
            self.go_on_alone(data)
        elif self._begins(door, line, headers, data[head_bytes:], waited_s):
            if self._entrance is not None:
                self._entrance.took()
        else:
            self.go_on_alone(data, parsed=True)

    def turned_away(self) -> None:
        """See :class:`~rankine.serving.inlet.Reads`."""
        self._asked = True
        self._stall.progress_s = self.loop.time()

    def fail(self, error: Exception) -> None:
        """See :class:`~rankine.serving.inlet.Reads`."""
        self._break_off(closing_answer(own_fault(error)))

    def go_on_alone(self, data: bytes, *, parsed: bool = False) -> None:
        """See :class:`~rankine.serving.inlet.Reads`; ``parsed``: it is known to be for the parser."""
        if self._entrance is not None:
            self._entrance.leave()
        if not data or self.transport.is_closing():
            return
        if parsed and not self._refused:
            self._refused_here = False
            self._parse(data)
        else:
            self.data_received(data)

    def _enter(self) -> None:
        """Have the inlet read, where nothing is under way here."""
        if self._entrance is not None and self._may_begin:
            self._entrance.enter()
            self._entrance.ready()

    def _send(self, whole: bytes) -> None:
        """Send a whole response."""
        if self._entrance is None:
            self.transport.write(whole)
        else:
            self._entrance.send(whole)

    @property
    def _may_begin(self) -> bool:
        """Whether a request may begin by itself: the parser has begun with nothing, and none waits to be answered."""
        under_way = self._in_message or self._unread_bytes or self._owes or self.flow.write_paused
        return not (under_way or self._refused)

    def _is_plain(self, data: bytes) -> bool:
        """Whether ``data`` was a whole request that needs no parser: it has begun, or is refused."""
        door = self._door
        if door is None or not self._may_begin:
            return False
        plain = read_plain(data, door.lines)
        if plain is None or len(plain.body) > SMALL_BODY_BYTES:
            return False
        waited_s = door.waited_s(self._socket, fresh=self.fresh)
        return self._begins(door, plain.line, plain.headers, plain.body, waited_s)

    def _begins(self, door: Door, line: int, headers: dict[bytes, bytes], body: bytes, waited_s: float) -> bool:
        """Whether a whole plain request has begun, or is refused; else others see to it."""
        try:
            request = door.knock(door.urls[line], headers, waited_s, self._presence)
            answer = door.turns_away(request)
            if answer is not None:
                self._asked = True
                whole, self._closes = answer
                self._send(whole)
                self._go_on()
                return True
            quick = door.quick(request)
            if quick is None:
                return False
            self._version = "1.1"
            cycle = QuickCycle(request, quick)
            cycle.parts.append(body)
            self.cycle = cast(Any, cycle)
            self._begin_quick(cycle)
        except Exception as error:  # noqa: BLE001  one request must not end the server
            if self.cycle is not None:  # nothing was owed when it came: it is its own
                self.cycle.disconnected = self.cycle.response_complete = True
            self._break_off(closing_answer(own_fault(error)))
        return True

    def _go_on(self) -> None:
        """After a refusal."""
        if self._closes:
            self.transport.close()
        self.on_response_complete()

    def _feed(self, data: bytes) -> None:
        """Have the parser read ``data``; what it cannot read ends the connection."""
        while data and not self._refused:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:  # an offer that is not taken up: HTTP/1.1 goes on behind it
                data = data[int(upgrade.args[0]) :]
            except httptools.HttpParserError as error:
                self._break_off(closing_answer(explained(error, data)))
            else:
                return

    def on_message_begin(self) -> None:
        self.url, self.headers, self.expect_100_continue = b"", [], False  # the scope is made where it is needed
        self._let_in = None
        door = self._door
        self._head_waited_s = (
            kernel_wait_s(self._socket) if door is None else door.waited_s(self._socket, fresh=self.fresh)
        )
        self._in_message = self._in_head = True
        self._stall.progress_s = self._stall.begun_s = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value.rstrip(b" \t"))  # which are no part of it (RFC 9110, 5.5)

    def on_headers_complete(self) -> None:
        read_bytes, self._in_head, self._unread_bytes = self._unread_bytes, False, 0
        hosts = [name for name, _ in self.headers].count(b"host")
        version = self._version = self.parser.get_http_version()
        if read_bytes > MAX_HEAD_BYTES and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(_TOO_LARGE)
        elif hosts != 1 or version != "1.1":
            wrong = misread_head(version, hosts)
            if wrong is not None:
                self._refuse(closing_answer(wrong))
        if not self._refused and not self._turns_away() and self._quick is None:
            self._make_scope()
            super().on_headers_complete()

    @property
    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + _LINE_BYTES for name, value in self.headers)

    def _make_scope(self) -> None:
        """The ASGI scope of the head that has come."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        scope: Any = self.scope
        scope.update(headers=headers, extensions=self._made_extensions())

    def _made_extensions(self) -> dict[str, Any]:
        """What is told to the application beyond HTTP."""
        extensions: dict[str, Any] = {PRESENCE: self._presence, WAITED: self._head_waited_s}
        if self._let_in is not None:
            extensions[REQUEST] = self._let_in
        return extensions

    def on_body(self, body: bytes) -> None:
        self._unread_bytes = 0
        if self._quick is not None:
            self._quick.parts.append(body)
        elif not self._refused and not self._turned_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message, self._unread_bytes = False, 0
        if self._turned_away:
            self._turned_away = False
            self._go_on()
        elif self._quick is not None:
            self._begin_quick(self._quick)
        elif not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request. uvicorn's sets a timer with every answer; here one look a second serves all."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            if self._entrance is not None:
                self._entrance.leave()
            return
        self._stall.progress_s = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        self._tell_refusal()
        self._enter()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        extensions: Any = cycle.scope["extensions"]
        request: Request | None = extensions.get(REQUEST)
        if self._door is None or request is None or request.head is None:  # one that nobody has let in waits for nobody
            super()._start_asgi_task(cycle, app)
        else:
            extensions[WRITE] = partial(self._write_whole, cycle)
            self._door.line.put(partial(super()._start_asgi_task, cycle, app), request.announced)

    def _write_whole(self, cycle: RequestResponseCycle, answer: bytes) -> bool:
        """Send a whole response at once: in two parts it costs two system calls. False: it has to go the long way."""
        if cycle.disconnected or cycle.response_started or self.flow.write_paused or not cycle.keep_alive:
            return False
        self.transport.write(answer)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _begin_quick(self, cycle: QuickCycle) -> None:
        """The body is there: it begins in its turn, and is answered by a callback."""
        self._quick = None
        body = cycle.parts[0] if len(cycle.parts) == 1 else b"".join(cycle.parts)
        begin = partial(cycle.quick.begin, cycle.request, body, partial(self._answer_quick, cycle))
        if self._door is not None:
            self._door.line.put(begin, cycle.request.announced)

    def _answer_quick(self, cycle: QuickCycle, answer: bytes, closes: bool) -> None:
        if cycle.disconnected:
            return
        self._send(answer)
        cycle.response_complete = True
        if closes or not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _may_send_interim(self) -> bool:
        """Whether an interim response would stand alone: not in the middle of another, nor to HTTP/1.0."""
        begun = bool(self.pipeline) or getattr(self.cycle, "response_started", False)
        return not begun and self._version == "1.1"

    def _turns_away(self) -> bool:
        """Whether the request whose head is complete has been refused; what still comes of it is dropped."""
        door = self._door
        # One in a read, and none while the client does not read: the others wait for it as any pipelined request does.
        if self._refused_here or self.flow.write_paused:
            return False
        plain = not self.expect_100_continue and self.parser.should_keep_alive() and not self.parser.should_upgrade()
        plain = plain and self._version == "1.1"
        if door is None or self._owes or not plain or not door.guards(self.parser.get_method(), self.url):
            return False
        request = door.knock(self.url, self.headers, self._head_waited_s, self._presence)
        answer = door.turns_away(request)
        if answer is None:
            quick = door.quick(request)
            if quick is None:
                self._let_in = request
            else:
                self._quick = QuickCycle(request, quick)
                self.cycle = cast(Any, self._quick)
            return False
        self._asked = self._turned_away = self._refused_here = True
        whole, self._closes = answer
        self.transport.write(whole)
        return True

    def _tell_refused(self, why: str) -> None:
        if self._door is not None:
            self._door.tell_refused(self.client, why)
