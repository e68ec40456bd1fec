"""Errors of the client: those that a server told, as the same classes; and those that only a client has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from rankine import errors
from rankine.errors import BadRequest, CapacityExceeded, DeadlineExceeded, RankineError

__all__ = ["RequestRefused", "ServerUnreachable", "TryElsewhere", "error_of", "retry_after_of", "told_error"]


class ServerUnreachable(RankineError):
    """No server could be reached, or the connection broke before the answer was whole."""

    code = "unreachable"
    exit_status = 6
    http_status: ClassVar[int] = 502


class RequestRefused(CapacityExceeded):
    """Every server that was asked had no room; ``retry_after_s`` says when to try again."""

    retry_after_s: float = 0.0


class TryElsewhere(Exception):
    """Of one attempt: it did no harm, and another server may well answer. ``error`` is for the caller if none does."""

    def __init__(self, error: RankineError) -> None:
        super().__init__(str(error))
        self.error = error


class _Told(msgspec.Struct):
    """An error as :meth:`rankine.errors.RankineError.as_dict` writes it."""

    code: str = ""
    message: str = ""
    where: str | None = None
    got: str | None = None
    allowed: str | None = None
    hint: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Told
    request_id: str = ""


_DECODER = msgspec.json.Decoder(_ErrorBody)
_BY_CODE: Mapping[str, type[RankineError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, RankineError) and kind is not CapacityExceeded
}


def error_of(status: int, body: bytes, headers: Mapping[str, str], server: str) -> RankineError:
    """The error that an HTTP reply with a status other than 200 stands for.

    Args:
        body: JSON as Rankine writes it; anything else (a proxy's page) gives an error by the status alone.
    """
    try:
        read = _DECODER.decode(body)
        fields = {name: value for name, value in msgspec.structs.asdict(read.error).items() if value}
        request_id = read.request_id
    except msgspec.MsgspecError:
        fields, request_id = {"message": f"the server answered with status {status}"}, ""
    return told_error(status, fields, server, request_id or headers.get("x-request-id", ""), retry_after_of(headers))


def told_error(
    status: int, fields: Mapping[str, str], server: str, request_id: str, retry_after_s: float
) -> RankineError:
    """An error of the class that its ``code``, else its HTTP status, names; with a note of the server and request."""
    kind = _BY_CODE.get(fields.get("code", "")) or _by_status(status)
    where, got, allowed, hint = (fields.get(name) for name in ("where", "got", "allowed", "hint"))
    error = kind(fields.get("message", ""), where=where, got=got, allowed=allowed, hint=hint)
    if isinstance(error, RequestRefused):
        error.retry_after_s = retry_after_s
    error.add_note(f"answered by {server}" + (f", request {request_id}" if request_id else ""))
    return error


def retry_after_of(headers: Mapping[str, str]) -> float:
    """Seconds of ``retry-after``; 0 where there is none. A date (RFC 9110 allows one) reads as one second."""
    raw = headers.get("retry-after", "")
    if raw.isascii() and raw.isdigit():
        return float(raw)
    return 1.0 if raw else 0.0


def _by_status(status: int) -> type[RankineError]:
    if status in (429, 503):
        return RequestRefused
    if status == 504:
        return DeadlineExceeded
    if status == 502:
        return ServerUnreachable
    return BadRequest if 400 <= status < 500 else RankineError
