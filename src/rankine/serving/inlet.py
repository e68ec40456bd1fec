"""Where plain requests come in, those of all connections together: what most clients send, most of the time.

An event loop calls a function for each connection that has something to read. Here one native call reads all of them,
and answers what is known to be refused: under overload that is most, and what a refusal costs is what those that could
be answered lack. Whatever is not plain is left to the connection's own parser, which keeps the connection until it has
answered it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from rankine._native import Reactor
from rankine.policy.reason import Reason
from rankine.policy.refused import Like
from rankine.serving.plain import MOST_HEAD_BYTES
from rankine.serving.request_ids import ID_DIGITS

__all__ = ["Entrance", "Inlet", "Reads", "Refused"]

_MOST = 64
"""Connections that are read in a turn of the event loop."""
_TRIES, _SETTLED = 4, 16
Refused = Callable[[Sequence[tuple[Reason, float]], int], None]
"""Told of requests that were refused: the reason and the seconds waited of each, and the rows of all."""


class Reads(Protocol):
    """A connection that has entered."""

    def take(self, data: bytes, line: int, headers: dict[bytes, bytes], head_bytes: int, waited_s: float) -> None:
        """A whole plain request has come; ``data`` is all of it, and its first line the one of that number."""
        ...

    def turned_away(self) -> None:
        """A request was refused and answered here."""
        ...

    def fail(self, error: Exception) -> None:
        """One of these has failed."""
        ...

    def go_on_alone(self, data: bytes) -> None:
        """Something else has come, or (empty) the connection has ended: the connection reads by itself from now on."""
        ...


class Inlet:
    """The connections that are read together, on the running event loop.

    Args:
        lines: first lines of the requests that are meant. ``most_body``: bytes of their bodies.
        most_rows: that one may announce.
        budget_ms: of one without deadline; None: for ever. ``most_wait_ms``: by which each is due.
        id_prefix: of the ids of requests that are refused here, as long as that of others.
        refused: see :data:`Refused`.
    """

    def __init__(
        self,
        lines: Sequence[bytes],
        *,
        most_body: int,
        most_rows: int,
        budget_ms: float | None,
        most_wait_ms: float,
        id_prefix: str,
        refused: Refused,
    ) -> None:
        self._native = Reactor(
            lines,
            most_head=MOST_HEAD_BYTES,
            most_body=most_body,
            most_rows=most_rows,
            budget_s=math.inf if budget_ms is None else budget_ms / 1000,
            most_wait_s=most_wait_ms / 1000,
            id_prefix=id_prefix.encode(),
            id_digits=ID_DIGITS,
        )
        self._refused = refused
        self._reasons = tuple(Reason)
        self._connections: dict[int, Reads] = {}
        self._keys = itertools.count(1)
        asyncio.get_running_loop().add_reader(self._native.descriptor, self._read)

    @staticmethod
    def is_possible() -> bool:
        """Whether this system has what it takes."""
        return sys.platform == "linux"

    def enter(self, connection: Reads, descriptor: int) -> int:
        """Read a connection here, whose own transport does not meanwhile; its key."""
        key = next(self._keys)
        self._native.add(descriptor, key)
        self._connections[key] = connection
        return key

    def leave(self, key: int) -> None:
        """The connection reads by itself, or is closed."""
        self._native.remove(key)
        self._connections.pop(key, None)

    def ready(self, key: int) -> None:
        """All that came on a connection is answered: what comes next may be refused here."""
        self._native.ready(key)

    def send(self, key: int, data: bytes) -> int:
        """How many bytes of ``data`` were sent at once."""
        return self._native.send(key, data)

    def refuse(self, likes: Sequence[Like], parts: Sequence[bytes], until_s: float) -> None:
        """Refuse requests like these, by parts of an answer between which their ids stand."""
        bounds = [
            (one.from_s, one.due_s, one.left_s, one.rows, one.waited_s, self._reasons.index(one.reason))
            for one in likes
        ]
        self._native.refuse(bounds, parts, until_s)

    def _read(self) -> None:
        for key, *came in self._native.read(_MOST):
            connection = self._connections.get(key)
            if connection is None:
                continue
            try:
                if len(came) == 1:
                    connection.go_on_alone(*came)
                else:
                    connection.take(*came)
            except Exception as error:  # noqa: BLE001  the requests of all others have been read as well
                connection.fail(error)
        turned, rows = self._native.take_refused()
        if turned:
            self._refused([(self._reasons[kind], waited_s) for kind, waited_s, _ in turned], rows)
            for _, _, key in turned:
                refused = self._connections.get(key)
                if refused is not None:
                    refused.turned_away()


class Entrance:
    """A connection's way into the inlet, and out of it.

    Args:
        transport: of the connection, which reads where the inlet does not. ``descriptor``: of its socket.
    """

    def __init__(self, inlet: Inlet, connection: Reads, transport: asyncio.Transport, descriptor: int) -> None:
        self._inlet, self._connection, self._transport, self._descriptor = inlet, connection, transport, descriptor
        self._key: int | None = None
        self._tries = self._taken = 0

    @property
    def inside(self) -> bool:
        """Whether the inlet reads."""
        return self._key is not None

    def enter(self) -> None:
        """Have the inlet read, unless the connection has left it several times lately: then it sends other things."""
        if self._key is None and self._tries < _TRIES and not self._transport.is_closing():
            self._key = self._inlet.enter(self._connection, self._descriptor)
            self._tries += 1
            self._transport.pause_reading()

    def took(self) -> None:
        """A plain request has come by the inlet."""
        self._taken += 1
        if self._taken >= _SETTLED:
            self._tries = 0

    def ready(self) -> None:
        """All that came is answered: what comes next may be refused at the inlet."""
        if self._key is not None and not (self._transport.is_closing() or self._transport.get_write_buffer_size()):
            self._inlet.ready(self._key)

    def leave(self) -> None:
        """Have the transport read."""
        if self._key is None:
            return
        self._inlet.leave(self._key)
        self._key, self._taken = None, 0
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def send(self, whole: bytes) -> None:
        """Send a whole response: at once, where the system takes it."""
        if self._key is not None and not (self._transport.is_closing() or self._transport.get_write_buffer_size()):
            whole = whole[self._inlet.send(self._key, whole) :]
        if whole:
            self._transport.write(whole)
