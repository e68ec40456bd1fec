"""Log lines whose cause may come a thousand times a second: one now and then, which tells how many there were."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from rankine.serving.logs import LOGGER

__all__ = ["Seldom"]


class Seldom:
    """One warning, at most once in ``every_s`` seconds; the next one has as ``more`` those that were left out."""

    def __init__(self, message: str, every_s: float = 1.0) -> None:
        self._message, self._every_s = message, every_s
        self._told_s = float("-inf")
        self._more = 0

    def warn(self, fields: Mapping[str, object]) -> None:
        """Tell it, or count it."""
        now_s = perf_counter()
        if now_s - self._told_s < self._every_s:
            self._more += 1
            return
        more = {"more": self._more} if self._more else {}
        self._told_s, self._more = now_s, 0
        LOGGER.warning(self._message, extra={"fields": {**fields, **more}})
