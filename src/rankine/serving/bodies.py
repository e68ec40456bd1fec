"""Reading a request body within limits, and undoing its compression within limits."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rankine.errors import BadRequest, PayloadTooLarge
from rankine.serving.http import LengthRequired, UnsupportedMedia

__all__ = ["BodyUnread", "ClientGone", "compress", "decompress", "encoding_of", "given_again", "read_body"]

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_CHUNK_BYTES = 1 << 20
_MAX_MEMBERS = 16
_DROPPED_BYTES = 256 << 20
"""Most clients send all before they listen: closing earlier resets the connection, and they would see no answer."""


class BodyUnread(PayloadTooLarge):
    """The body is so large that it was not even read off: the connection cannot be used any more."""


class ClientGone(Exception):
    """The client closed the connection before its body was whole: there is nobody to answer."""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """The whole body as it was sent.

    Raises:
        LengthRequired: neither a length nor chunks are announced.
        PayloadTooLarge: it is longer than ``max_bytes``. Up to 256 MiB are read off and dropped first, so that a client
            that only listens after it has sent everything gets the answer; unless it waits to be told to go on.
        ClientGone: the connection closed.
    """
    length = headers.get(b"content-length")
    if length is None and b"transfer-encoding" not in headers:
        raise LengthRequired("a body is needed", where="header content-length")
    announced = int(length) if length is not None else 0
    waits = announced > max_bytes and b"expect" in headers
    most = max(max_bytes, _DROPPED_BYTES)
    parts: list[bytes] = []
    size = 0
    while announced <= most and size <= most and not waits:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size <= max_bytes:
            parts.append(part)
        if not message.get("more_body", False):
            break
    if max(size, announced) > max_bytes:
        got = f"{max(size, announced)} bytes"
        allowed = f"at most {max_bytes} bytes"
        refuse = BodyUnread if waits or max(size, announced) > most else PayloadTooLarge
        raise refuse("the body is too large", where="body", got=got, allowed=allowed)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def given_again(body: bytes) -> Receive:
    """A body that was read once, for another to read."""

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def encoding_of(headers: Mapping[bytes, bytes]) -> str:
    """``identity``, ``gzip`` or ``deflate``.

    Raises:
        UnsupportedMedia: the body is encoded in another way.
    """
    raw = headers.get(b"content-encoding", b"identity").strip().lower()
    if raw in (b"identity", b""):
        return "identity"
    if raw in (b"gzip", b"x-gzip"):
        return "gzip"
    if raw == b"deflate":
        return "deflate"
    where = "header content-encoding"
    raise UnsupportedMedia(
        "unknown encoding", where=where, got=raw.decode("latin-1"), allowed="identity, gzip, deflate"
    )


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """``body`` without its compression; never more than ``max_bytes`` are produced.

    Raises:
        BadRequest: it is not what its encoding says, or is cut off.
        PayloadTooLarge: it would be longer than ``max_bytes``.
    """
    if encoding == "identity":
        return body
    parts: list[bytes] = []
    size = 0
    rest = body
    members = 0
    while rest:  # a gzip body may be several members, one after the other
        members += 1
        if members > _MAX_MEMBERS:  # thousands of empty ones would cost a copy of the rest each
            raise BadRequest("too many gzip members", where="body", allowed=f"at most {_MAX_MEMBERS}")
        # RFC 9110 calls the zlib format "deflate"; some senders leave the zlib header out.
        raw_deflate = encoding == "deflate" and not parts and not _has_zlib_header(rest)
        stream = zlib.decompressobj(-zlib.MAX_WBITS if raw_deflate else _GZIP_OR_ZLIB)
        pending = rest
        while not stream.eof:
            try:
                part = stream.decompress(pending, min(_CHUNK_BYTES, max_bytes - size + 1))
            except zlib.error as error:
                raise BadRequest(f"the body is not {encoding}", where="body", got=str(error)) from None
            if not part and not stream.unconsumed_tail and not stream.eof:
                raise BadRequest(f"the {encoding} body is cut off", where="body")
            parts.append(part)
            size += len(part)
            if size > max_bytes:
                allowed = f"at most {max_bytes} bytes"
                raise PayloadTooLarge("the body is too large once decompressed", where="body", allowed=allowed)
            pending = stream.unconsumed_tail
        rest = stream.unused_data
    return b"".join(parts)


def compress(body: bytes, accepted: bytes) -> tuple[bytes, bytes | None]:
    """``body`` as a client accepts it, and the content encoding (None for none)."""
    offers = {name for name, quality in map(_offer, accepted.lower().split(b",")) if quality > 0}
    if b"gzip" in offers:
        packer = zlib.compressobj(1, wbits=16 + zlib.MAX_WBITS)
        return packer.compress(body) + packer.flush(), b"gzip"
    if b"deflate" in offers:
        return zlib.compress(body, 1), b"deflate"
    return body, None


def _offer(text: bytes) -> tuple[bytes, float]:
    """Name and quality of one element of Accept-Encoding (RFC 9110, 12.5.3); what is malformed is not accepted."""
    name, *parameters = (part.strip() for part in text.split(b";"))
    for parameter in parameters:
        if parameter.startswith(b"q="):
            try:
                return name, float(parameter[2:])
            except ValueError:
                return name, 0.0
    return name, 1.0


def _has_zlib_header(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
