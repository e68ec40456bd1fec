"""A file that is read again when it changes, so that a server need not be started again for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from rankine.errors import ConfigError
from rankine.serving.logs import LOGGER

__all__ = ["WatchedFile"]

T = TypeVar("T")
_LOOK_AGAIN_S = 1.0


class WatchedFile(Generic[T]):
    """What a file holds. One that is wrong, or gone, changes nothing, and the log says so.

    Args:
        path: of the file, read at once.
        read: gives what the file holds, or raises a :class:`~rankine.errors.ConfigError`.
        what: that is, for the log: a plural.
        now_s: on the clock of the times that ``at`` is given.

    Raises:
        ConfigError: the file is missing or wrong.
    """

    def __init__(self, path: Path, read: Callable[[Path], T], what: str, now_s: float) -> None:
        self._path, self._read, self._what = path, read, what
        self._looked_s = now_s
        self._seen = _state_of(path)
        self._held = read(path)

    def at(self, now_s: float) -> T:
        """What holds now: the same object until it is something else."""
        if now_s - self._looked_s >= _LOOK_AGAIN_S:
            self._looked_s = now_s
            self._refresh()
        return self._held

    def _refresh(self) -> None:
        state = _state_of(self._path)
        if state == self._seen:
            return
        self._seen = state
        fields: dict[str, object] = {"file": str(self._path)}
        try:
            found = self._read(self._path)
        except ConfigError as error:
            LOGGER.error("%s stay as they were", self._what, extra={"fields": fields | {"error": str(error)}})
            return
        if found != self._held:
            self._held = found
            LOGGER.info("%s were read again", self._what, extra={"fields": fields})


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
