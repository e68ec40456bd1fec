"""Keep the process, or one thread of it, on some cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rankine.errors import UsageError

__all__ = ["pin", "pinned"]


def pin(cores: tuple[int, ...], where: str = "cores") -> None:
    """Keep the calling thread, and all that it starts from now on, on these cores.

    Raises:
        UsageError: there is no such core, or the system does not let cores be chosen.
    """
    try:
        os.sched_setaffinity(0, cores)
    except (OSError, ValueError):
        allowed = ", ".join(str(core) for core in sorted(os.sched_getaffinity(0)))
        raise UsageError("no such cores here", where=where, got=repr(cores), allowed=allowed) from None
    except AttributeError:
        raise UsageError("cores cannot be chosen on this system", where=where) from None


@contextmanager
def pinned(cores: tuple[int, ...] | None, where: str = "cores") -> Iterator[None]:
    """The same for a block, where cores are named: threads that an engine starts in it stay there.

    Raises:
        UsageError: as :func:`pin`.
    """
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    pin(cores, where)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
