"""Requests and replies as the handlers see them, and the errors that only HTTP has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from math import isfinite
from typing import ClassVar

import msgspec
from msgspec import Struct

from rankine.errors import BadRequest, DeadlineExceeded, PayloadTooLarge, RankineError
from rankine.policy.admission import DEADLINE_PASSED
from rankine.policy.priorities import Priority
from rankine.serving.spans import Marks
from rankine.serving.work import Presence

__all__ = [
    "CLOSE",
    "JSON",
    "Head",
    "Header",
    "Headers",
    "LengthRequired",
    "MethodNotAllowed",
    "Reply",
    "Request",
    "UnsupportedMedia",
    "bytes_of",
    "candidates_header",
    "deadline_of",
    "error_reply",
    "json_reply",
    "lines_of",
    "priority_header",
    "usual_bytes_of",
]

JSON = b"application/json"
CLOSE = (b"connection", b"close")
"""The header by which a connection ends with its reply."""
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_USUAL = b"%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b"
Header = tuple[bytes, bytes]
Headers = Iterable[Header] | Mapping[bytes, bytes]


class MethodNotAllowed(BadRequest):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    http_status: ClassVar[int] = 405


class LengthRequired(BadRequest):
    """A body was expected and none was announced."""

    code = "length_required"
    http_status: ClassVar[int] = 411


class UnsupportedMedia(BadRequest):
    """The body's type or encoding is not one that the server reads."""

    code = "unsupported_media"
    http_status: ClassVar[int] = 415


class Head(Struct, frozen=True):
    """What the head of a request that was let in has told.

    Attributes:
        deadline_s: when the answer must be there; ``plan_s``: when its scores must, so that it can be.
        announced: number of candidates; None where it was not announced.
        tenant: whose it is, as the operator's rules name it.
        least: how many of its candidates are scored at least, where it gives prior scores; None: all.
        rows: that are known to be ranked: one at least.
    """

    deadline_s: float
    plan_s: float
    announced: int | None
    tenant: str = ""
    priority: Priority = Priority.NORMAL
    least: int | None = None
    rows: int = 1


@dataclass(slots=True)
class Request:
    """One HTTP request; header names are lower case. ``arrived_s`` is on the clock of ``time.perf_counter``.

    ``presence`` tells whether the client is still there, where the HTTP server says so; ``head`` is set once the
    request is let in, ``marks`` once it has run.

    A request that is ``final`` was handed over by another process of the host; one that has an
    ``elsewhere`` was answered by the process of that number.
    """

    id: str
    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    arrived_s: float
    presence: Presence | None = None
    head: Head | None = None
    marks: Marks | None = None
    final: bool = False
    elsewhere: int | None = None

    @property
    def announced(self) -> int:
        """Rows that are known to be ranked for it: one at least."""
        return 1 if self.head is None else self.head.rows


class Reply(Struct, frozen=True):
    """One HTTP response."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[Header, ...] = ()


def lines_of(headers: Iterable[Header]) -> bytes:
    """Headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])  # a generator would be slower


def bytes_of(reply: Reply, headers: Iterable[Header]) -> bytes:
    """A whole response as HTTP/1.1 has it."""
    return b"%b%b\r\n%b" % (_STATUS_LINES[reply.status], lines_of(headers), reply.body)


def usual_bytes_of(reply: Reply, request_id: str, lines: bytes) -> bytes:
    """The same of a response with the headers that every one has, and these."""
    return _USUAL % (
        _STATUS_LINES[reply.status], reply.content_type, len(reply.body), request_id.encode(), lines, reply.body
    )  # fmt: skip


def json_reply(value: object, status: int = 200, headers: tuple[Header, ...] = ()) -> Reply:
    """``value`` as JSON."""
    return Reply(status, msgspec.json.encode(value), JSON, headers)


def error_reply(error: RankineError, request_id: str, *, plain: bool, headers: tuple[Header, ...] = ()) -> Reply:
    """An error as its protocol wants it: an object, or (``plain``: the Open Inference Protocol) one text."""
    if plain:
        return json_reply({"error": str(error)}, error.http_status, headers)
    return json_reply({"error": error.as_dict(), "request_id": request_id}, error.http_status, headers)


def deadline_of(request: Request, default_ms: float | None) -> float:
    """When the answer is of no use any more, on the clock of ``arrived_s``; infinity without a deadline.

    Raises:
        BadRequest: the header is not a number.
        DeadlineExceeded: the deadline had passed on arrival.
    """
    raw = request.headers.get(b"x-rankine-deadline-ms")
    if raw is None:
        return float("inf") if default_ms is None else request.arrived_s + default_ms / 1000
    where = "header x-rankine-deadline-ms"
    try:
        remaining_ms = float("nan") if b"_" in raw else float(raw)  # Python alone reads 1_0 as ten
    except ValueError:
        remaining_ms = float("nan")
    if not isfinite(remaining_ms):
        got = raw.decode("latin-1")
        raise BadRequest("must be the remaining time in milliseconds", where=where, got=got, allowed="a finite number")
    if remaining_ms <= 0:
        allowed = "more than 0 ms when the request arrives"
        raise DeadlineExceeded(DEADLINE_PASSED, where=where, got=f"{remaining_ms:g}", allowed=allowed)
    return request.arrived_s + remaining_ms / 1000


def candidates_header(request: Request, max_candidates: int) -> int | None:
    """The announced number of candidates, checked before the body is read; None where it was not announced.

    Raises:
        BadRequest: it is not a positive whole number.
        PayloadTooLarge: it is more than this server takes.
    """
    raw = request.headers.get(b"x-rankine-candidates")
    if raw is None:
        return None
    where = "header x-rankine-candidates"
    if not raw.isdigit() or len(raw) > 18 or int(raw) == 0:
        got = raw.decode("latin-1")
        raise BadRequest("must be the number of candidates", where=where, got=got, allowed="a positive whole number")
    if int(raw) > max_candidates:
        raise PayloadTooLarge("too many candidates", where=where, got=int(raw), allowed=f"at most {max_candidates}")
    return int(raw)


def priority_header(request: Request) -> Priority | None:
    """The priority that a request asks for; None where it asks for none.

    Raises:
        BadRequest: there is no such priority.
    """
    raw = request.headers.get(b"x-rankine-priority")
    if raw is None:
        return None
    try:
        return Priority[raw.decode("latin-1").upper()]
    except KeyError:
        where, allowed = "header x-rankine-priority", "high, normal, low"
        raise BadRequest("unknown priority", where=where, got=raw.decode("latin-1"), allowed=allowed) from None
