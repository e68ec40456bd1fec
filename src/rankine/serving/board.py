"""What the server processes of one host tell each other: a table in shared memory, a slot a process.

A slot is some aligned doubles that only its own process writes; the supervisor writes to it while that process does not
live, and counts its starts in a cell that is the supervisor's alone. Each number is stored in one piece and used by
itself, so readers need no lock. Times are seconds of ``time.perf_counter``, on Linux one clock for all processes
(CLOCK_MONOTONIC; see clock_gettime(2)).
"""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

__all__ = ["Board", "Slot", "State"]

_HEADER = 8
_SLOT = 16  # two cache lines: neighbors do not write to the same one
_DOUBLE_BYTES = 8
_PROCESSES, _LEAVING = 0, 1
_BEAT, _STATE, _PID, _FINISH, _MIDDLING, _ROWS, _UTILIZATION, _SHED, _DEBT, _CONNECTIONS, _USED, _STARTS = range(12)
_MEMORY = Path("/dev/shm")
"""A mapping of it never touches a disk."""


class State(IntEnum):
    """What a process does; only one that is ``READY`` is handed requests."""

    DOWN = 0
    STARTING = 1
    READY = 2
    DRAINING = 3


@dataclass(frozen=True, slots=True)
class Slot:
    """What one process tells.

    Attributes:
        beat_s: when it last did.
        finish_s: seconds that a request of middling size, if it came now, would take there, with its wait.
        middling_s: without its wait.
        queued_rows: rows that wait.
        utilization: work that is offered over what its workers can do, see :mod:`rankine.policy.autoscale`.
        shed: share of the requests that was refused for want of capacity.
        debt: AUC that is given up because of the load.
        connections: of clients, over HTTP.
    """

    beat_s: float = 0.0
    state: State = State.DOWN
    pid: int = 0
    finish_s: float = 0.0
    middling_s: float = 0.0
    queued_rows: int = 0
    utilization: float = 0.0
    shed: float = 0.0
    debt: float = 0.0
    connections: int = 0


class Board:
    """The table, mapped from a file without a name that processes inherit.

    Args:
        fd: of the file; it may be closed afterwards.
    """

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._cells = memoryview(self._memory).cast("d")

    @classmethod
    def create(cls, processes: int) -> tuple[Board, int]:
        """A table of ``processes`` processes, all of them down, and its file's descriptor, for them to inherit."""
        with tempfile.TemporaryFile(dir=_MEMORY if _MEMORY.is_dir() else None) as file:
            file.truncate(_DOUBLE_BYTES * (_HEADER + _SLOT * processes))
            fd = os.dup(file.fileno())
        board = cls(fd)
        board._cells[_PROCESSES] = float(processes)
        return board, fd

    def __len__(self) -> int:
        return int(self._cells[_PROCESSES])

    @property
    def leaving(self) -> bool:
        """The whole server is going away, not one of its processes alone."""
        return bool(self._cells[_LEAVING])

    def leave(self) -> None:
        """Tell all processes that the whole server is going away."""
        self._cells[_LEAVING] = 1.0

    def __getitem__(self, number: int) -> Slot:
        start = _HEADER + _SLOT * number
        beat_s, state, pid, finish_s, middling_s, rows, *rest = self._cells[start : start + _USED]
        utilization, shed, debt, connections = rest
        return Slot(
            beat_s, State(int(state)), int(pid), finish_s, middling_s, int(rows), utilization, shed, debt,
            int(connections),
        )  # fmt: skip

    def put(self, number: int, slot: Slot) -> None:
        """Tell ``slot``; its beat last, so that who sees it sees the rest."""
        start = _HEADER + _SLOT * number
        for at, value in (
            (_STATE, slot.state),
            (_PID, slot.pid),
            (_FINISH, slot.finish_s),
            (_MIDDLING, slot.middling_s),
            (_ROWS, slot.queued_rows),
            (_UTILIZATION, slot.utilization),
            (_SHED, slot.shed),
            (_DEBT, slot.debt),
            (_CONNECTIONS, slot.connections),
            (_BEAT, slot.beat_s),
        ):
            self._cells[start + at] = float(value)

    def mark(self, number: int, state: State) -> None:
        """Tell the state of a process that does not live, or does not yet."""
        self.put(number, Slot(state=state))

    def count_start(self, number: int) -> None:
        """A process was started under this number; the supervisor's to tell."""
        self._cells[_HEADER + _SLOT * number + _STARTS] += 1.0

    def starts_of(self, number: int) -> int:
        """How many processes there were under this number."""
        return int(self._cells[_HEADER + _SLOT * number + _STARTS])

    def beat_of(self, number: int) -> float:
        """When a process last told something."""
        return self._cells[_HEADER + _SLOT * number + _BEAT]

    def close(self) -> None:
        """Unmap it."""
        self._cells.release()
        self._memory.close()
