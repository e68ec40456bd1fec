"""One base class for every error that Rankine raises on purpose.

An error says *what* is wrong, *where*, what was *got*, what is *allowed* and what to do next. The class fixes
three things so that no caller has to decide them again: a stable machine-readable ``code``, the exit status of the
command line, and the HTTP status of the server.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "ArtifactError",
    "BadRequest",
    "CapacityExceeded",
    "CertificateRequired",
    "ConfigError",
    "ConformanceFailed",
    "DataError",
    "DeadlineExceeded",
    "EngineError",
    "EngineMissing",
    "ModelNotFound",
    "PayloadTooLarge",
    "QualityGateFailed",
    "RankineError",
    "SloNotMet",
    "UsageError",
    "did_you_mean",
]


class RankineError(Exception):
    """Base of all errors; ``str(error)`` is one readable paragraph.

    Args:
        message: what is wrong, as a sentence without its final period.
        where: the field, file or option concerned, e.g. ``candidates.ids[3]``.
        got: what was found (shown with ``repr`` unless it is a string).
        allowed: what would have been accepted.
        hint: what to do next.
    """

    code: ClassVar[str] = "internal"
    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        got: object = None,
        allowed: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.message = message
        self.where = where
        self.got = None if got is None else (got if isinstance(got, str) else repr(got))
        self.allowed = allowed
        self.hint = hint
        super().__init__(self._render())

    def _render(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        details = []
        if self.got is not None:
            details.append(f"got {_shorten(self.got)}")
        if self.allowed:
            details.append(f"allowed: {self.allowed}")
        if details:
            text += f" ({'; '.join(details)})"
        if self.hint:
            text += f". {self.hint}"
        return text

    def as_dict(self) -> dict[str, str]:
        """The error as the JSON object that ``--json`` and the server return."""
        fields = {
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "got": None if self.got is None else _shorten(self.got),
            "allowed": self.allowed,
            "hint": self.hint,
        }
        return {key: value for key, value in fields.items() if value is not None}


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


class UsageError(RankineError):
    """The command line or a function was called in a way that cannot work."""

    code = "usage"
    exit_status = 2
    http_status = 400


class ConfigError(UsageError):
    """A configuration or schema file is wrong."""

    code = "config"


class DataError(UsageError):
    """A data set cannot be read as the schema says."""

    code = "data"


class ArtifactError(RankineError):
    """An artifact or catalog is missing, corrupt, or of another version."""

    code = "artifact"
    exit_status = 2


class EngineError(RankineError):
    """An engine could not build or run a graph."""

    code = "engine"
    http_status = 500


class EngineMissing(EngineError):
    """An engine was asked for that is not installed, or that cannot run this graph."""

    code = "engine_missing"
    exit_status = 5


class ConformanceFailed(EngineError):
    """An engine does not do what every engine must."""

    code = "conformance"


class QualityGateFailed(RankineError):
    """A certificate did not pass."""

    code = "quality_gate_failed"
    exit_status = 3


class CertificateRequired(QualityGateFailed):
    """An artifact without a passed certificate was to be served."""

    code = "certificate_required"


class SloNotMet(RankineError):
    """No offered rate met the service level objective."""

    code = "slo_not_met"
    exit_status = 4


class BadRequest(RankineError):
    """A request body is malformed, or names something that does not exist."""

    code = "bad_request"
    exit_status = 2
    http_status = 400


class PayloadTooLarge(BadRequest):
    """A request body, before or after decompression, is over the limit."""

    code = "payload_too_large"
    http_status = 413


class ModelNotFound(BadRequest):
    """The named model, version or path is not served here."""

    code = "not_found"
    http_status = 404


class CapacityExceeded(RankineError):
    """The queue is full, or the server is draining: come back later."""

    code = "capacity"
    http_status = 503


class DeadlineExceeded(RankineError):
    """The request's deadline passed before it could be answered."""

    code = "deadline"
    http_status = 504


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint that names the closest known word, or lists what is known."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1)
    if close:
        return f"Did you mean '{close[0]}'?"
    if not choices:
        return None
    shown = ", ".join(choices[:12]) + (", …" if len(choices) > 12 else "")
    return f"Known: {shown}."
