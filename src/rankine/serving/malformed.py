"""What is wrong with bytes that are no request: what the parser tells, in words that say what to do.

Keys are llhttp's reasons. What decides where a message ends is told exactly (RFC 9112, 6): where a proxy and the server
read that differently, one's body is the other's request. The rest goes by what the parser says.
"""

from __future__ import annotations

from typing import ClassVar

import httptools

from rankine.errors import BadRequest, RankineError
from rankine.serving.logs import LOGGER

__all__ = ["VersionNotSupported", "explained", "misread_head", "own_fault"]

_LENGTH, _CODING = "header content-length", "header transfer-encoding"
_BOTH = BadRequest(
    "a body has a length or comes in chunks, not both",
    where=f"{_LENGTH}, {_CODING}",
    allowed="one of them",
)
_NO_LENGTH = BadRequest("is no length", where=_LENGTH, allowed="decimal digits, less than 2^64")
_NO_CODING = BadRequest("unknown coding of the message", where=_CODING, allowed="chunked, as the last one")
_NO_CHUNK = BadRequest(
    "a chunk does not begin with its size", where="body", allowed="hexadecimal digits, less than 2^64"
)
_LONG_CHUNK = BadRequest("a chunk does not end where its size says", where="body")
_KNOWN = {
    "Duplicate Content-Length": BadRequest("the length is given twice", where=_LENGTH, allowed="one length"),
    "Content-Length can't be present with Transfer-Encoding": _BOTH,
    "Transfer-Encoding can't be present with Content-Length": _BOTH,
    "Invalid character in Content-Length": _NO_LENGTH,
    "Empty Content-Length": _NO_LENGTH,
    "Content-Length overflow": _NO_LENGTH,
    "Request has invalid `Transfer-Encoding`": _NO_CODING,
    "Invalid `Transfer-Encoding` header value": _NO_CODING,
    "Invalid character in chunk size": _NO_CHUNK,
    "Chunk size overflow": _NO_CHUNK,
    "Expected LF after chunk data": _LONG_CHUNK,
}
_TLS, _H2 = b"\x16\x03", "Pause on PRI/Upgrade"
_VERSION = "Invalid HTTP version"
_SPEAK = "Speak HTTP/1.1, e.g. curl --http1.1."


class VersionNotSupported(BadRequest):
    """The request is of another version of HTTP."""

    code = "version_not_supported"
    http_status: ClassVar[int] = 505


def explained(error: httptools.HttpParserError, data: bytes) -> RankineError:
    """What a client is told for whom the parser has raised ``error`` at ``data``."""
    reason = str(error)
    if isinstance(error, httptools.HttpParserCallbackError):  # raised where the parser has called us
        cause = error.__context__
        if not isinstance(cause, httptools.HttpParserError):
            return own_fault(cause)
        reason = str(cause)
    if data.startswith(_TLS):
        hint = "Ask for http://, or start the server with --tls-cert and --tls-key."
        return BadRequest("this is TLS, and the server speaks plain HTTP", hint=hint)
    if reason == _H2:
        return _other_version("HTTP/2")
    if reason == _VERSION:
        return _other_version(None)
    return _KNOWN.get(reason) or BadRequest("this is no HTTP/1.1 request", got=reason, hint=_SPEAK)


def own_fault(cause: BaseException | None) -> RankineError:
    """What a client is told where reading its request failed for a fault of ours, which the log has whole."""
    LOGGER.error("internal error", exc_info=cause)
    return RankineError("internal error", hint="The server's log has the details.")


def misread_head(version: str, hosts: int) -> RankineError | None:
    """What is wrong with a head of which the parser is content, by its version and how often it has ``host``."""
    if version not in ("1.1", "1.0"):
        return _other_version(f"HTTP/{version}")
    if hosts > 1 or (hosts == 0 and version == "1.1"):  # RFC 9112, 3.2
        return BadRequest(
            "a request names its host", where="header host", got=f"{hosts} of them", allowed="exactly one"
        )
    return None


def _other_version(got: str | None) -> VersionNotSupported:
    return VersionNotSupported(
        "this version of HTTP is not spoken here",
        where="request line",
        got=got,
        allowed="HTTP/1.1, HTTP/1.0",
        hint=_SPEAK,
    )
