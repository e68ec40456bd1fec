"""When and where a certificate was made."""

from __future__ import annotations

import platform
from datetime import UTC, datetime

import numpy as np

from rankine.environment import instruction_set
from rankine.errors import UsageError

__all__ = ["created_at", "this_environment"]


def created_at(created: datetime | None) -> datetime:
    """``created`` in UTC, or the time now.

    Raises:
        UsageError: ``created`` has no time zone.
    """
    if created is None:
        return datetime.now(UTC)
    if created.tzinfo is None:
        raise UsageError("needs a time zone", where="created", got=created.isoformat())
    return created.astimezone(UTC)


def this_environment() -> dict[str, str | int | float]:
    """The versions that the statistics ran with, and where the scores were computed; a caller who knows more (engines,
    processor) passes its own."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "device": "cpu",
        "instruction_set": instruction_set(),
    }
