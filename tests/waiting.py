"""Waiting for what is bound to come, with an end: a test that would hang fails instead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["until", "wait_until"]

_POLL_S = 0.005
_LIMIT_S = 60.0
"""Long, since a machine may be busy: it is only waited for where something is wrong."""


def wait_until(condition: Callable[[], object], limit_s: float = _LIMIT_S) -> None:
    """Return once ``condition`` holds.

    Raises:
        AssertionError: it did not within ``limit_s``.
    """
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"it did not happen within {limit_s:g} s"
        time.sleep(_POLL_S)


async def until(condition: Callable[[], object], limit_s: float = _LIMIT_S) -> None:
    """The same on an event loop, which goes on meanwhile."""
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"it did not happen within {limit_s:g} s"
        await asyncio.sleep(_POLL_S)
