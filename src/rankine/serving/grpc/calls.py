"""One call: its metadata as a request of the application, its answer or error, and the bookkeeping of both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import grpc

from rankine.errors import BadRequest, CapacityExceeded, RankineError
from rankine.serving.app import CLIENT_GONE
from rankine.serving.bodies import ClientGone
from rankine.serving.grpc.messages import Message
from rankine.serving.grpc.statuses import Metadata, code_of, details_of, text_of
from rankine.serving.http import Request
from rankine.serving.trace import trace_of
from rankine.serving.work import Presence

if TYPE_CHECKING:
    from rankine.serving.app import App

__all__ = ["Answer", "Calls", "Read", "Refusal", "parse"]

Read = Callable[[], Awaitable[bytes]]
"""The message of a request, as it came: parsing is ours to limit and to explain."""
Answer = Callable[[Request, Read], Awaitable[bytes]]
"""From a request to the serialized reply. What metadata tell is looked at before the message is read."""
_DEADLINE = b"x-rankine-deadline-ms"
_LATE = 504


class Refusal(RankineError):
    """How a call ends that has no answer: as HTTP's ``status``."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.http_status = status  # type: ignore[misc]


class Calls:
    """Runs the handlers of calls for an application.

    Attributes:
        closing: new calls are refused.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.closing = False

    def unary(self, path: str, label: str, answer: Answer) -> Any:
        """A handler of calls with one message each way.

        The message is read by ourselves, as if it were the first of several: so a call can be refused before, and a
        client cannot take for ever to send it. On the wire there is no difference.

        Args:
            label: under which the calls are counted and timed.
        """

        async def handle(messages: object, context: grpc.aio.ServicerContext) -> bytes:
            request = self.request(path, context)

            try:
                reply = await self.run(
                    request, label, lambda: answer(request, lambda: self._read(context)), context.time_remaining
                )
            except RankineError as error:
                await self.abort(context, request, error)
            context.set_trailing_metadata(self._trailers(request))
            return reply

        return grpc.stream_unary_rpc_method_handler(handle)

    async def admit(self, request: Request, context: grpc.aio.ServicerContext) -> None:
        """Let a call in whose messages are answered one by one; it ends here where it brings no key that is known."""
        try:
            self._app.authenticate(request)
        except RankineError as error:
            self._app.finish(request, "grpc", error.http_status)
            await self.abort(context, request, error)

    async def _read(self, context: grpc.aio.ServicerContext) -> bytes:
        most_s = self._app.config.max_read_s
        try:
            async with asyncio.timeout(most_s):
                raw = await context.read()
        except TimeoutError:
            allowed = f"within {most_s:g} s"
            raise BadRequest("the message did not come in time", where="body", allowed=allowed) from None
        if raw is grpc.aio.EOF:
            raise BadRequest("the call has no message", where="body")
        return bytes(raw)

    async def run(
        self,
        request: Request,
        label: str,
        answer: Callable[[], Awaitable[bytes]],
        remaining_s: Callable[[], float | None],
    ) -> bytes:
        """The answer of one request, counted and logged whatever becomes of it.

        Raises:
            RankineError: as the client is to be told it.
            CancelledError: the client left, or its deadline passed; what it asked for leaves the queue.
        """
        status = 200
        try:
            if self.closing:
                raise CapacityExceeded("the server is going away", hint="Another one answers.")
            self._app.authenticate(request)
            return await answer()
        except asyncio.CancelledError:
            left_s = remaining_s()
            status = CLIENT_GONE if left_s is None or left_s > 0 else _LATE
            if request.presence is not None:
                request.presence.gone = True
            raise
        except ClientGone:
            status = CLIENT_GONE
            raise Refusal("the client is gone", status) from None
        except Exception as error:  # noqa: BLE001  explained, and logged where it is our own
            told = self._app.explain(request, error)
            status = told.http_status
            raise told from None
        finally:
            self._app.finish(request, label, status)

    def request(self, path: str, context: grpc.aio.ServicerContext) -> Request:
        """A call as a request: metadata are headers, the call's own timeout is the deadline if it is the earlier."""
        arrived_s = perf_counter()
        headers = {
            key.encode("latin-1"): value if isinstance(value, bytes) else value.encode("latin-1", "replace")
            for key, value in context.invocation_metadata() or ()
        }
        remaining_s = context.time_remaining()
        if remaining_s is not None:
            headers[_DEADLINE] = _earlier(headers.get(_DEADLINE), b"%.3f" % (1000 * max(remaining_s, 0.0)))
        return Request(self._app.ids.of(headers), "POST", path, b"", headers, arrived_s, Presence())

    async def abort(self, context: grpc.aio.ServicerContext, request: Request, error: RankineError) -> None:
        """End a call with an error."""
        trailers = (*self._trailers(request), *details_of(error))
        await context.abort(code_of(error.http_status), text_of(error), trailers)

    def _trailers(self, request: Request) -> Metadata:
        report = self._app.load_headers(request)
        if self._app.neighbors is not None:
            report += self._app.neighbors.headers_of(request)
        trace = trace_of(request.headers)
        told = () if trace is None else (("traceparent", trace.header),)
        return (("x-request-id", request.id), *told, *((name.decode(), value.decode()) for name, value in report))


def parse(kind: Any, raw: bytes) -> Message:
    """A message of its serialized form.

    Raises:
        BadRequest: it is none.
    """
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(raw)
    except DecodeError:
        raise BadRequest("not a message of this kind", where="body", allowed=kind.DESCRIPTOR.full_name) from None


def _earlier(given: bytes | None, remaining: bytes) -> bytes:
    """Of two remaining times in milliseconds the smaller; one that is no number is left for others to refuse."""
    try:
        return remaining if given is None or float(remaining) < float(given) else given
    except ValueError:
        return given or remaining
