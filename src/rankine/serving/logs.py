"""The server's log: one JSON object a line, on stderr. Set up by the server when it starts, never at import."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

from rankine.serving.log_lines import LineHandler

__all__ = ["LOGGER", "set_up_logs"]

LOGGER = logging.getLogger("rankine.serving")
_STDERR = 2
_LOGGERS = ("rankine", "uvicorn", "uvicorn.error", "asyncio", "grpc")


class _JsonLines(logging.Formatter):
    """``{"time", "level", "logger", "message", ...fields, "traceback"}``; fields are ``extra={"fields": {...}}``."""

    def __init__(self, process: int | None) -> None:
        super().__init__()
        self._process: dict[str, object] = {} if process is None else {"process": process}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | self._process
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= fields
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def set_up_logs(level: int = logging.INFO, *, process: int | None = None) -> None:
    """Send this package's and the HTTP server's log to stderr as JSON lines, with ``process`` if there are several."""
    handler = LineHandler(_STDERR)
    handler.setFormatter(_JsonLines(process))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        for former in logger.handlers:
            former.close()
        logger.handlers = [handler]
        logger.propagate = False
        # The HTTP server tells of every start and stop in its own words; ours say it already.
        logger.setLevel(level if name == "rankine" else logging.WARNING)
