"""Log lines on their way out: a full disk, or a reader that has stopped, holds up no request.

A thread writes; what it cannot write, and what there is no room for while it waits, is dropped, and told as soon as
something can be written again.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from queue import Empty, Full, Queue

import msgspec

__all__ = ["LineHandler"]

_MOST_LINES = 10_000
_LEAVE_S = 1.0
"""When the process ends, for lines that still wait."""


class LineHandler(logging.Handler):
    """Writes formatted records to a file descriptor, in their order.

    Args:
        descriptor: stays open when the handler is closed.
        most_lines: that may wait.

    Attributes:
        lost: lines that were dropped and are not told yet.
    """

    def __init__(self, descriptor: int, *, most_lines: int = _MOST_LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waiting: Queue[str | None] = Queue(most_lines)
        self.lost = 0
        self._torn = False
        self._thread = threading.Thread(target=self._write_all, name="rankine-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.put_nowait(self.format(record))
        except Exception:  # noqa: BLE001  full, or it cannot be written: that must not harm who tells it
            self.lost += 1

    def close(self) -> None:
        """Wait for what can be written within a second, and take nothing more."""
        atexit.unregister(self.close)
        try:
            self._waiting.put_nowait(None)
        except Full:  # nobody reads: there is nothing to wait for
            self._drop()
        self._thread.join(_LEAVE_S)
        super().close()

    def _drop(self) -> None:
        try:
            while True:
                self._waiting.get_nowait()
        except Empty:
            self._waiting.put_nowait(None)

    def _write_all(self) -> None:
        while (line := self._waiting.get()) is not None:
            if self.lost and self._write(_told(self.lost)):
                self.lost = 0
            if not self._write(line):
                self.lost += 1

    def _write(self, line: str) -> bool:
        """Whether the whole line is out; half a line that a full disk took is ended before the next one."""
        rest = f"\n{line}\n".encode() if self._torn else f"{line}\n".encode()
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self._torn, rest = True, rest[written:]
        except OSError:
            return False
        self._torn = False
        return True


def _told(lost: int) -> str:
    return msgspec.json.encode(
        {"level": "warning", "message": "log lines could not be written", "lines": lost}
    ).decode()
