"""Whole plain requests, read without a parser: most requests of a ranking service come in one piece.

A parser that takes bytes as they come tells of each header, and of each part, by a call. What is not plain to see goes
to it: whatever is longer, shorter, repeated, encoded, upgraded, or not quite as RFC 9112 has it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from rankine._native import read_plain_request

__all__ = ["MOST_HEAD_BYTES", "Plain", "read_plain"]

MOST_HEAD_BYTES = 4 << 10


class Plain(Struct):
    """A request: which of the lines that were meant is its first, and its headers, names in lower case."""

    line: int
    headers: dict[bytes, bytes]
    body: bytes


def read_plain(data: bytes, lines: Sequence[bytes]) -> Plain | None:
    """The JSON request that ``data`` is, no more and no less; None where it is anything else.

    Args:
        data: all that has come on a connection since the last request.
        lines: the first lines of requests that are meant.
    """
    found = read_plain_request(data, lines, MOST_HEAD_BYTES)
    if found is None:
        return None
    line, headers, head_bytes = found
    return Plain(line, headers, data[head_bytes:])
