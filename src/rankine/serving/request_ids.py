"""The ids of requests, which replies and logs tell."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping

__all__ = ["ID_DIGITS", "RequestIds"]

ID_DIGITS = 12
"""Of the numbers in ids of our own, which are all of one length."""
_MOST_CHARS = 128


class RequestIds:
    """The ids of one server's requests.

    Attributes:
        other_prefix: with :data:`ID_DIGITS` digits more an id that is as long as ours, and none of them.
    """

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self.other_prefix = f"{self._prefix}_"

    def of(self, headers: Mapping[bytes, bytes]) -> str:
        """The client's ``x-request-id`` where it is a short plain word, else one of our own."""
        given = headers.get(b"x-request-id", b"")
        if 0 < len(given) <= _MOST_CHARS and given.isascii() and given.decode("ascii").isprintable():
            return given.decode("ascii")
        return f"{self._prefix}-{next(self._numbers):0{ID_DIGITS}x}"
