"""The server as a plain ASGI application: reads requests, routes them, answers; a framework would cost more.

Small uncompressed bodies are handled on the event loop (a hand-over to a thread costs more than they do); the rest is
decompressed, decoded and encoded in threads, so that nothing heavy holds up the loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import perf_counter
from typing import Any, TypeVar

from rankine.errors import CapacityExceeded, DeadlineExceeded, RankineError
from rankine.policy.autoscale import Signals
from rankine.serving.bodies import BodyUnread, ClientGone, Receive, decompress, encoding_of, given_again, read_body
from rankine.serving.busy import Busy
from rankine.serving.config import ServeConfig
from rankine.serving.cores import usable_cores
from rankine.serving.heads import PRESENCE, REQUEST, WAITED, WRITE
from rankine.serving.http import (
    CLOSE,
    Header,
    Headers,
    MethodNotAllowed,
    Reply,
    Request,
    UnsupportedMedia,
    bytes_of,
    error_reply,
    usual_bytes_of,
)
from rankine.serving.load_report import ASKS, Load, LoadReport
from rankine.serving.logs import LOGGER
from rankine.serving.metrics import INFERENCE, ServerMetrics
from rankine.serving.model import ServedModel
from rankine.serving.neighbors import HANDED, Neighbors
from rankine.serving.pool import Pool
from rankine.serving.process import ServerProcess
from rankine.serving.quick import CLIENT_GONE, SMALL_BODY_BYTES
from rankine.serving.reception import ANONYMOUS, Reception
from rankine.serving.refusals import QueueRefused
from rankine.serving.request_ids import RequestIds
from rankine.serving.routes import Route, Routes
from rankine.serving.security import OPEN_PATHS, KeyRing, Unauthenticated
from rankine.serving.spans import Marks, open_spans
from rankine.serving.trace import TRACEPARENT, trace_of
from rankine.serving.work import Outcome, Presence, Work

__all__ = ["CLIENT_GONE", "App"]

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
T = TypeVar("T")
_SMALL_REPLY_ROWS = 2_000


class App:
    """The application.

    Args:
        model: what is served.
        pool: started; the application only queues work in it.
        metrics: counts every reply.
        process: which of several server processes of the host this is; None where it is alone.

    Attributes:
        open: the server has started and is not going away. The server sets it.
        leaving: the server is going away: replies ask clients to close their connections.
        connections: how many there are; set by the server.
        reception: decides which requests are let in. ``ids``: of requests.
    """

    def __init__(
        self,
        config: ServeConfig,
        model: ServedModel,
        pool: Pool,
        metrics: ServerMetrics,
        process: ServerProcess | None = None,
    ) -> None:
        self.config = config
        self.model = model
        self.pool = pool
        self.metrics = metrics
        self.process = process
        self.busy = Busy(usable_cores() if process is None else process.cores)
        self.neighbors = None
        if process is not None:
            self.neighbors = Neighbors(process, lambda: self.predicted_finish_s, metrics.decided)
        self.open = False
        self.leaving = False
        self.connections: Callable[[], int] = _none
        self.reception = Reception(config, pool, metrics)
        self._keys = None if config.api_keys is None else KeyRing(config.api_keys, perf_counter())
        self._spans = open_spans()
        self._report = LoadReport()
        self._routes = Routes(self)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="rankine-bodies")
        self._watcher = ThreadPoolExecutor(1, thread_name_prefix="rankine-watch")
        self.ids = RequestIds()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """ASGI 3 entry point; the server speaks HTTP only."""
        if scope["type"] != "http":
            return
        extensions = scope.get("extensions", {})
        request: Request = extensions.get(REQUEST) or self.request(
            scope["method"],
            scope["path"],
            scope["query_string"],
            scope["headers"],
            waited_s=extensions.get(WAITED, 0.0),
            presence=extensions.get(PRESENCE),
        )
        request.final = request.final or HANDED in extensions
        label, reply = await self._answer(request, receive)
        status = CLIENT_GONE if reply is None else reply.status
        if reply is not None:
            await self._send(request, reply, send, extensions.get(WRITE))
        if not (request.final and reply is None):  # one that was taken back is answered, and counted, by the other
            self.finish(request, label, status)

    def request(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: Headers,
        *,
        waited_s: float,
        presence: Presence | None,
    ) -> Request:
        """A request of which the head is there, and whose first bytes came ``waited_s`` ago."""
        arrived_s = perf_counter() - waited_s
        given = dict(headers)
        return Request(self.ids.of(given), method, path, query, given, arrived_s, presence)

    @property
    def may_refuse_unseen(self) -> bool:
        """Whether nobody wants to know of each request: it is neither logged nor traced, needs no key, and no other
        process of the host might take it."""
        return self._spans is None and not self.config.log_requests and self._keys is None and self.neighbors is None

    @property
    def guarded(self) -> Mapping[str, Route]:
        """The paths whose requests need the engine, and may be refused by their heads."""
        return self._routes.guarded

    @property
    def predicted_finish_s(self) -> float:
        """How long a request of middling size that came now would take, with what the front end has still to do.

        For ever, where this process is going away: others are sooner.
        """
        if self.leaving:
            return math.inf
        return self.pool.predicted_wait_s + self.pool.middling_s + self.reception.wait_s

    @property
    def signals(self) -> Signals:
        """What an autoscaler looks at, of this process."""
        found = self.pool.signals
        return replace(found, utilization=max(found.utilization, self.busy.share), shed=self.metrics.shed)

    @property
    def load(self) -> Load:
        """What replies tell of it: of all processes of the host."""
        return self.pool if self.neighbors is None else self.neighbors

    def offer(self, path: str, route: Route) -> None:
        """Take requests that other processes of the host hand over under this path."""
        self._routes.for_neighbors[path] = route

    def is_drawn_away(self, request: Request) -> bool:
        """Whether another process of the host would be done sooner with it."""
        return self.neighbors is not None and not request.final and self.neighbors.better() is not None

    @property
    def ready(self) -> bool:
        """What ``/v2/health/ready`` says: open, and with a worker to answer."""
        return self.open and self.pool.alive

    async def in_thread(self, do: Callable[[], T]) -> T:
        """The result of ``do``, computed off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, do)

    async def watch(self, do: Callable[[], T]) -> T:
        """The result of ``do``, computed off the event loop and never behind the bodies of requests."""
        return await asyncio.get_running_loop().run_in_executor(self._watcher, do)

    def authenticate(self, request: Request) -> None:
        """Let a request in, as its key's tenant if the key has one.

        Raises:
            Unauthenticated: keys are needed, and it brings none that is known.
        """
        if self._keys is None or request.path in OPEN_PATHS or request.final:  # then another process has let it in
            return
        tenant = self._keys.tenant_of(request.headers, request.arrived_s)
        request.headers = {**request.headers, b"x-rankine-tenant": ANONYMOUS if tenant is None else tenant.encode()}

    async def run(self, request: Request, work: Work) -> Outcome:
        """Queue the work of a request and wait for its outcome; see :meth:`~rankine.serving.pool.Pool.submit`."""
        ready_s = perf_counter()
        outcome = await self.submit(request, work)
        request.marks = Marks(ready_s, outcome.queue_s, outcome.run_s, perf_counter())
        return outcome

    def submit(self, request: Request, work: Work) -> asyncio.Future[Outcome]:
        """Queue the work of a request; see :meth:`~rankine.serving.pool.Pool.submit`."""
        self._tell(request, work)
        return self.pool.submit(work)

    def queue(self, request: Request, work: Work) -> None:
        """The same of work that has somebody who waits for it."""
        self._tell(request, work)
        self.pool.queue(work)

    def _tell(self, request: Request, work: Work) -> None:
        """What the pool has to know of a request."""
        work.presence = request.presence
        session = request.headers.get(b"x-rankine-session")
        if session is not None:
            work.session = session.decode("latin-1")
        if request.head is not None:
            work.tenant, work.priority, work.let_in = request.head.tenant, request.head.priority, True

    async def with_body(
        self, request: Request, receive: Receive, media: tuple[bytes, ...], prepare: Callable[[bytes], T]
    ) -> T:
        """``prepare`` called with the request's body, read, limited and without its compression."""
        media_type = request.headers.get(b"content-type", media[0]).split(b";")[0].strip().lower()
        if media_type not in media:
            got, allowed = media_type.decode("latin-1"), ", ".join(kind.decode() for kind in media)
            raise UnsupportedMedia("unknown media type", where="header content-type", got=got, allowed=allowed)
        encoding = encoding_of(request.headers)
        body = await read_body(request.headers, receive, self.config.max_body_bytes)
        if encoding == "identity":
            return await self.decode(len(body), lambda: prepare(body))
        most = self.config.max_decompressed_bytes
        return await self.in_thread(lambda: prepare(decompress(body, encoding, most)))

    async def decode(self, size_bytes: int, prepare: Callable[[], T]) -> T:
        """``prepare``, which reads so many bytes, called here if it is quick, else in a thread."""
        return prepare() if size_bytes <= SMALL_BODY_BYTES else await self.in_thread(prepare)

    async def render(self, rows: int, encode: Callable[[], T]) -> T:
        """``encode`` called here if it is quick, else in a thread."""
        return encode() if rows <= _SMALL_REPLY_ROWS else await self.in_thread(encode)

    def finish(self, request: Request, label: str, status: int) -> None:
        """Count a request that is over, and log it where that is asked for; ``status`` as HTTP has it."""
        if request.elsewhere is not None:  # it was counted there
            return
        now_s = perf_counter()
        seconds = now_s - request.arrived_s
        self.reception.answered(request, status, now_s)
        self.metrics.answered(label, status, seconds)
        if self._spans is None and not self.config.log_requests:
            return
        trace = trace_of(request.headers)
        if self._spans is not None and label in INFERENCE:
            attributes = {"rankine.request_id": request.id, "url.path": request.path, "rankine.status": status}
            self._spans.record(f"{request.method} {request.path}", request.arrived_s, request.marks, trace, attributes)
        if self.config.log_requests:
            fields = {
                "request_id": request.id,
                "method": request.method,
                "path": request.path,
                "status": status,
                "ms": round(1000 * seconds, 3),
            }
            given = request.headers
            fields |= {key: given[name].decode("latin-1") for key, name in _LOGGED.items() if name in given}
            if trace is not None:
                fields |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
            LOGGER.info("request", extra={"fields": fields})

    def explain(self, request: Request, error: Exception) -> RankineError:
        """What a client is told of an error; what it need not know is in the log."""
        if not isinstance(error, RankineError):  # one request must not end the server; the log has it whole
            fields = {"request_id": request.id, "path": request.path}
            LOGGER.error("internal error", exc_info=error, extra={"fields": fields})
            return RankineError("internal error", hint="The server's log has the details under this request id.")
        if error.http_status >= 500 and not isinstance(error, CapacityExceeded | DeadlineExceeded):
            LOGGER.warning("request failed", extra={"fields": {"request_id": request.id, "error": str(error)}})
        return error

    def close(self) -> None:
        """End its threads and what it has open."""
        self._threads.shutdown(wait=True)
        self._watcher.shutdown(wait=True)
        if self._spans is not None:
            self._spans.close()

    async def _answer(self, request: Request, receive: Receive) -> tuple[str, Reply | None]:
        """The label of its route and the reply, None if the client is gone; every error becomes a reply."""
        protocol, label = "oip" if request.path.startswith("/v2") else "http", "http"
        try:
            if request.head is None:  # else the door has looked at its key
                self.authenticate(request)
            route: Route = self._routes.find(request)
            protocol, label = route.protocol, route.label
            return label, await self._handled(route, request, receive)
        except ClientGone:
            return label, None
        except Exception as error:  # noqa: BLE001  explained, and logged where it is our own
            told = self.explain(request, error)
            return label, self.told(request, told, plain=protocol == "oip")

    async def _handled(self, route: Route, request: Request, receive: Receive) -> Reply:
        """The reply of a route, from a process of the host that is done sooner if there is one.

        That is decided when the body is there: while it was read, others have come into the queue.
        """
        if self.neighbors is None or route.method != "POST" or request.final:
            return await route.handle(request, receive)
        body = await read_body(request.headers, receive, self.config.max_body_bytes)
        to = self.neighbors.better()
        reply = None if to is None else await self.neighbors.ask(to, request, body)
        return await route.handle(request, given_again(body)) if reply is None else reply

    def told(self, request: Request, error: RankineError, *, plain: bool) -> Reply:
        """The reply of an error, see :func:`~rankine.serving.http.error_reply`."""
        return error_reply(error, request.id, plain=plain, headers=_headers_of(error))

    async def _send(self, request: Request, reply: Reply, send: Send, write: Callable[[bytes], bool] | None) -> None:
        headers = self.headers_of(request, reply)
        if write is not None and CLOSE not in headers and write(bytes_of(reply, headers)):
            return
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    def written(self, request: Request, reply: Reply) -> tuple[bytes, bool]:
        """A whole response, and whether the connection ends with it."""
        usual = self.neighbors is None and not self.leaving and not reply.headers
        if usual and TRACEPARENT not in request.headers and ASKS not in request.headers:
            return usual_bytes_of(reply, request.id, self._report.lines(self.pool, perf_counter())), False
        headers = self.headers_of(request, reply)
        return bytes_of(reply, headers), CLOSE in headers

    def headers_of(self, request: Request, reply: Reply) -> list[Header]:
        """All headers of the reply to a request."""
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", request.id.encode()),
            *self.load_headers(request),
            *reply.headers,
        ]
        trace = trace_of(request.headers)
        if trace is not None:
            headers.append((b"traceparent", trace.header.encode()))
        if self.neighbors is not None:
            headers += self.neighbors.headers_of(request)
        if self.leaving or (self.neighbors is not None and not request.final and self.neighbors.sheds_connection()):
            headers.append(CLOSE)
        return headers

    def load_headers(self, request: Request) -> tuple[Header, ...]:
        """What the reply to a request tells of the load."""
        return self._report.headers(self.load, request.headers, perf_counter())


def _none() -> int:
    """Where nobody counts."""
    return 0


_LOGGED = {"tenant": b"x-rankine-tenant", "session": b"x-rankine-session"}


def _headers_of(error: RankineError) -> tuple[tuple[bytes, bytes], ...]:
    if isinstance(error, QueueRefused):
        return ((b"retry-after", b"%d" % math.ceil(error.retry_after_s)),)
    if isinstance(error, Unauthenticated):
        return ((b"www-authenticate", b"Bearer"),)
    if isinstance(error, BodyUnread):
        return (CLOSE,)
    if isinstance(error, MethodNotAllowed) and error.allowed:
        return ((b"allow", error.allowed.encode()),)
    return ()
