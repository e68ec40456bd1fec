"""The other server processes of the host, as one of them sees them: to whom it hands requests over, and how.

The request travels as it came, head and body, over a Unix socket; the answer comes back the same way. Only the process
that has the connection answers the client, so nothing is answered twice whatever happens to the other one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from time import perf_counter
from urllib.parse import quote

from rankine.errors import EngineError
from rankine.policy.autoscale import Signals
from rankine.policy.balance import HANDOVER_S, better_process, has_too_many
from rankine.policy.reason import Reason
from rankine.serving.board import State
from rankine.serving.bodies import ClientGone
from rankine.serving.http import Header, Reply, Request
from rankine.serving.process import ServerProcess
from rankine.serving.unix_http import RawReply, UnixClient

__all__ = ["ARRIVED", "HANDED", "HANDED_BY", "PROCESS", "Neighbors", "ProcessDied"]

PROCESS = b"x-rankine-process"
"""In a reply: which process ranked."""
HANDED_BY = b"x-rankine-handed-over-by"
"""And which one handed it the request, where that is another one."""
ARRIVED = b"x-rankine-arrived"
"""In a request that is handed over: when its first bytes came, on the clock of ``time.perf_counter``."""
HANDED = "rankine.handed"
"""ASGI extension: the request came from another process."""
_UNFOLD = bytes.maketrans(b"\r\n", b"  ")
_SILENT_S = 0.3
"""Whoever has told nothing for so long is frozen, or as good as that."""
_LOOK_S = 0.05
_SHED_S = 0.05
"""Between two connections of which clients are asked to connect anew."""
_METRICS_S = 0.5
_HOP = frozenset({b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade", b"keep-alive", b"te"})
_OWN = _HOP | {b"content-type", b"x-request-id", b"traceparent", b"endpoint-load-metrics", PROCESS}
_OWN |= {b"x-rankine-predicted-wait-ms", b"x-rankine-queued-rows"}
"""Headers of a reply that the process with the connection writes itself."""


class ProcessDied(EngineError):
    """The process that a request was handed to ended when it may have begun with it: it is not run again."""

    code = "process_died"


class Neighbors:
    """Decides for one process of several; to be used in its event loop only.

    Args:
        finish_s: when a request of middling size that came now would be done here; what the others tell of themselves.
        decided: called with the reason where a request is handed over or taken back.
    """

    def __init__(
        self, process: ServerProcess, finish_s: Callable[[], float], decided: Callable[[Reason], None]
    ) -> None:
        self._process = process
        self._finish_s = finish_s
        self._decided = decided
        self._draw = random.Random().sample
        others = [number for number in range(len(process.board)) if number != process.number]
        self._clients = {number: UnixClient(process.socket_of(number)) for number in others}
        self._sent: dict[int, tuple[float, int]] = {}
        self._shed_s = 0.0
        self._loaded_s, self._known = 0.0, (0.0, 0)

    def better(self) -> int | None:
        """Who would be done sooner with a request that came now; None where that is this process."""
        own_s = self._finish_s()
        if own_s <= HANDOVER_S:
            return None
        now_s = perf_counter()
        others_s = {number: self._finish_of(number) for number in self._clients if self._is_ready(number, now_s)}
        return better_process(own_s, others_s, self._draw)

    async def ask(self, number: int, request: Request, body: bytes) -> Reply | None:
        """What another process answers; None where it did not, and the request is to be run here after all.

        Raises:
            ClientGone: nobody waits for the answer any more.
            ProcessDied: the other one ended when it may have begun with the request, so perhaps because of it.
        """
        slot = self._process.board[number]
        turn_s = perf_counter() + self._finish_of(number) - slot.middling_s
        known = self._sent.get(number)
        self._sent[number] = (slot.beat_s, known[1] + 1 if known is not None and known[0] == slot.beat_s else 1)
        self._decided(Reason.HANDED_OVER)
        try:
            found = await self._watched(number, request, _message(request, body))
        except EOFError:
            if perf_counter() >= turn_s:
                self._decided(Reason.PROCESS_LOST)
                raise _died(number) from None
            found = None
        if found is None or (found.status == 503 and not self._is_ready(number, perf_counter())):
            self._decided(Reason.TAKEN_BACK)
            return None
        request.elsewhere = number
        content_type = dict(found.headers).get(b"content-type", b"")
        headers = tuple((name, value) for name, value in found.headers if name not in _OWN)
        return Reply(found.status, found.body, content_type, headers)

    async def metrics(self) -> Mapping[int, bytes]:
        """What the others count, by their number; whoever does not answer in half a second is left out."""
        now_s = perf_counter()
        asked = [number for number in self._clients if self._is_alive(number, now_s)]
        texts = await asyncio.gather(*(self._text_of(number) for number in asked))
        return {number: text for number, text in zip(asked, texts, strict=True) if text is not None}

    def headers_of(self, request: Request) -> tuple[Header, ...]:
        """What a reply tells of who ranked."""
        own = b"%d" % self._process.number
        if request.elsewhere is None:
            return ((PROCESS, own),)
        return ((PROCESS, b"%d" % request.elsewhere), (HANDED_BY, own))

    def sheds_connection(self) -> bool:
        """Whether the client that is answered now should connect anew, perhaps to another process; now and then."""
        now_s = perf_counter()
        if now_s - self._shed_s < _SHED_S:
            return False
        self._shed_s = now_s
        board = self._process.board
        others = [board[number].connections for number in self._clients if self._is_ready(number, now_s)]
        return bool(others) and has_too_many(board[self._process.number].connections, others)

    @property
    def predicted_wait_s(self) -> float:
        """How long a request that came now would wait, where it would wait least."""
        return self._load()[0]

    @property
    def queued_rows(self) -> int:
        """Rows that wait, in all processes."""
        return self._load()[1]

    def _load(self) -> tuple[float, int]:
        """Both, once for each beat of this process."""
        beat_s = self._process.board.beat_of(self._process.number)
        if beat_s != self._loaded_s:
            now_s = perf_counter()
            slots = [
                self._process.board[each] for each in range(len(self._process.board)) if self._is_ready(each, now_s)
            ]
            wait_s = min((one.finish_s - one.middling_s for one in slots), default=0.0)
            self._loaded_s, self._known = beat_s, (max(0.0, wait_s), sum(one.queued_rows for one in slots))
        return self._known

    def signals(self) -> list[Signals]:
        """The load of all processes that are ready, this one among them."""
        board = self._process.board
        slots = [board[number] for number in range(len(board))]
        return [Signals(one.utilization, one.shed, one.debt) for one in slots if one.state is State.READY]

    def close(self) -> None:
        """Close connections to the others."""
        for client in self._clients.values():
            client.close()

    async def _watched(self, number: int, request: Request, message: bytes) -> RawReply | None:
        """The reply; None where the other one freezes, or has never read the request.

        Raises:
            EOFError: it ended, and had read the request. Where it had not, the kernel tells of a broken connection.
        """
        asking = asyncio.ensure_future(self._clients[number].ask(message))
        try:
            while not (await asyncio.wait((asking,), timeout=_LOOK_S))[0]:
                if request.presence is not None and request.presence.gone:
                    raise ClientGone
                if not self._is_alive(number, perf_counter()):
                    return None
            return asking.result()
        except OSError:
            return None
        finally:
            asking.cancel()

    async def _text_of(self, number: int) -> bytes | None:
        message = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n"
        try:
            async with asyncio.timeout(_METRICS_S):
                found = await self._clients[number].ask(message)
        except (OSError, EOFError):  # a timeout is an OSError too
            return None
        return found.body if found.status == 200 else None

    def _finish_of(self, number: int) -> float:
        """What it last told, and what this process has sent it since: else a burst would go to one place."""
        slot = self._process.board[number]
        beat_s, sent = self._sent.get(number, (slot.beat_s, 0))
        return slot.finish_s + (sent * slot.middling_s if beat_s == slot.beat_s else 0.0)

    def _is_ready(self, number: int, now_s: float) -> bool:
        return self._process.board[number].state is State.READY and self._is_alive(number, now_s)

    def _is_alive(self, number: int, now_s: float) -> bool:
        slot = self._process.board[number]
        return slot.state in (State.READY, State.DRAINING) and now_s - slot.beat_s < _SILENT_S


def _died(number: int) -> ProcessDied:
    hint = "It may have been the request itself: the server's log tells how the process ended."
    return ProcessDied("the process that was to answer has died", where=f"process {number}", hint=hint)


def _message(request: Request, body: bytes) -> bytes:
    """The request as it goes over the socket."""
    path = quote(request.path, safe="/").encode()
    if request.query:
        path += b"?" + request.query
    # Folded lines (RFC 9112, 5.2) become one; of gRPC's metadata those with any bytes stay behind.
    headers = {
        name: value.translate(_UNFOLD)
        for name, value in request.headers.items()
        if name not in _HOP and not name.endswith(b"-bin")
    }
    headers |= {b"content-length": b"%d" % len(body), b"x-request-id": request.id.encode()}
    headers.setdefault(b"host", b"localhost")  # gRPC and HTTP/1.0 do without
    headers[ARRIVED] = b"%.6f" % request.arrived_s
    lines = b"".join(b"%b: %b\r\n" % header for header in headers.items())
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (request.method.encode(), path, lines, body)
