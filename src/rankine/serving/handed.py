"""Connections over which another server process of the host hands requests over."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from rankine.serving.heads import LimitedProtocol
from rankine.serving.neighbors import ARRIVED, HANDED

__all__ = ["HandedProtocol"]


class HandedProtocol(LimitedProtocol):
    """A connection as clients have, but for when its requests came: when they came to the process that hands them over.

    Its word is trusted, as the socket lies in a folder that only the server's user can enter.

    Args:
        together: all of them that are open, this one among them.
    """

    def __init__(self, *arguments: Any, together: set[HandedProtocol], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._together = together

    def connection_made(self, transport: Any) -> None:
        self._together.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._together.discard(self)
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        arrived_s = dict(self.headers).get(ARRIVED)
        if arrived_s is not None:
            self._head_waited_s = max(0.0, perf_counter() - float(arrived_s))
        super().on_headers_complete()

    def _made_extensions(self) -> dict[str, Any]:
        return {**super()._made_extensions(), HANDED: {}}
