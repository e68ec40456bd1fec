"""Whole plain requests, read without a parser: most requests of a ranking service come in one piece.

A parser that takes bytes as they come tells of each header, and of each part, by a call. What is not plain to see goes
to it: whatever is longer, shorter, repeated, encoded, upgraded, or not quite as RFC 9112 has it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from rankine._native import read_http_head
from rankine.serving.http import JSON

__all__ = ["Plain", "read_plain"]

_MOST_HEAD_BYTES = 4 << 10
_DIGITS = 9
_SPECIAL = frozenset(
    {
        b"content-encoding",
        b"expect",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


class Plain(Struct):
    """A request; header names are lower case."""

    url: bytes
    headers: dict[bytes, bytes]
    body: bytes


def read_plain(data: bytes, urls: Mapping[bytes, bytes]) -> Plain | None:
    """The JSON request that ``data`` is, no more and no less; None where it is anything else.

    Args:
        data: all that has come on a connection since the last request.
        urls: of the requests that are meant, by their first line.
    """
    found = read_http_head(data, _MOST_HEAD_BYTES)
    if found is None:
        return None
    first, headers, head_bytes = found
    url, length = urls.get(first), headers.get(b"content-length", b"")
    if url is None or b"host" not in headers or not _SPECIAL.isdisjoint(headers):
        return None
    if not length.isdigit() or len(length) > _DIGITS or int(length) != len(data) - head_bytes:
        return None
    if headers.get(b"content-type", JSON) != JSON or headers.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    return Plain(url, headers, data[head_bytes:])
