"""What comes back from a server, apart from the library that fetches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Answer", "Broken"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply of any status; names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Broken(Exception):
    """There was no whole reply. ``gone``: not even a connection."""

    def __init__(self, reason: str, *, gone: bool) -> None:
        super().__init__(reason)
        self.gone = gone
