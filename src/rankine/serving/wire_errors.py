"""Answers to what never becomes a request, ready to be written; the connection is closed after them."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from rankine.errors import RankineError

__all__ = ["closing_answer"]


def closing_answer(status: HTTPStatus, error: RankineError, *, retry_after_s: int | None = None) -> bytes:
    """A whole HTTP/1.1 response with the error as JSON, in the form of all others; ``status`` counts, not the class's.

    There is no request id: the head that could have held one was not read.
    """
    body = msgspec.json.encode({"error": error.as_dict()})
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
        *([] if retry_after_s is None else [f"retry-after: {retry_after_s}"]),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
