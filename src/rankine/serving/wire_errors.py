"""Answers to what never becomes a request, ready to be written; the connection is closed after them."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

import msgspec

from rankine.errors import RankineError

__all__ = ["ClosingAnswer", "closing_answer"]


class ClosingAnswer(NamedTuple):
    """The bytes of a whole response, and what it says, for the log."""

    raw: bytes
    says: str


def closing_answer(
    error: RankineError, status: int | None = None, *, retry_after_s: int | None = None
) -> ClosingAnswer:
    """A whole HTTP/1.1 response with the error as JSON, in the form of all others; ``status`` if not the class's.

    There is no request id: the head that could have held one was not read.
    """
    told = HTTPStatus(status or error.http_status)
    body = msgspec.json.encode({"error": error.as_dict()})
    lines = [
        f"HTTP/1.1 {told.value} {told.phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
        *([] if retry_after_s is None else [f"retry-after: {retry_after_s}"]),
    ]
    return ClosingAnswer("\r\n".join([*lines, "", ""]).encode() + body, str(error))
