"""Keep the process, or one thread of it, on some cores."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rankine.errors import UsageError

__all__ = ["core_numbers", "give_way", "pin", "pinned", "usable_cores"]

_STEPS, _LAST = 10, 19
_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


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


def core_numbers() -> tuple[int, ...]:
    """The cores that this process may run on; none where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def usable_cores() -> float:
    """How many cores this process may use, as the system and its container's limit say (cgroup v2, ``cpu.max``)."""
    cores = float(len(core_numbers()) or os.cpu_count() or 1)
    try:
        quota, period = _CGROUP_LIMIT.read_text().split()
        return cores if quota == "max" else min(cores, int(quota) / int(period))
    except (OSError, ValueError):  # no Linux, or another cgroup
        return cores


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


def give_way() -> None:
    """Have this thread run when others of the process have nothing to do, by ten steps of ``nice``; on Linux only.

    Where a worker and the event loop share a core, the scheduler gives each a half. The loop needs little, but at once:
    what it has not read yet, nobody has let in or refused.
    """
    if sys.platform == "linux":  # elsewhere it would hold of the whole process
        now = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(_LAST, now + _STEPS))
