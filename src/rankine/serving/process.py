"""One of several server processes of a host: what it is told when it starts, and how it starts."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rankine.config import Frozen, parse
from rankine.errors import RankineError
from rankine.events import Event, Note, Progress, Started
from rankine.serving.board import Board
from rankine.serving.config import ServeConfig

__all__ = ["ProcessSettings", "ServerProcess", "main"]


class ProcessSettings(Frozen):
    """What the supervisor tells a process that it starts.

    Attributes:
        config: of the one process: its own cores, the ports that all share, and how many ``processes`` there are.
        number: of the process, from 0.
        parent: the supervisor's process id.
        board_fd, listener_fd: inherited: the board's file, and the socket on which all listen.
        tell_fd: inherited: a pipe to the supervisor, which reads lines of JSON: what the process does while it starts,
            then that it is ready, or the error.
        folder: of the Unix sockets over which requests are handed over.
        cores: that are its part, also where all processes run on all of them.
    """

    config: ServeConfig
    number: int
    parent: int
    board_fd: int
    listener_fd: int
    tell_fd: int
    folder: Path
    cores: float


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A process among its neighbors."""

    number: int
    board: Board
    folder: Path
    parent: int
    cores: float

    def socket_of(self, number: int) -> Path:
        """Where a process takes requests that others hand over."""
        return self.folder / f"{number}.sock"


def main() -> None:
    """Serve as one process of several; the first argument is :class:`ProcessSettings` as JSON."""
    settings = parse(ProcessSettings, json.loads(sys.argv[1]), source="process")
    from rankine.serving.server import serve_process

    process = ServerProcess(settings.number, Board(settings.board_fd), settings.folder, settings.parent, settings.cores)
    os.close(settings.board_fd)  # it is mapped
    listener = socket.socket(fileno=settings.listener_fd)
    listener.set_inheritable(False)
    with os.fdopen(settings.tell_fd, "w", encoding="utf-8") as supervisor:
        try:
            serve_process(settings.config, process, listener, lambda event: _tell(supervisor, event))
        except RankineError as error:
            _write(supervisor, {"error": error.as_dict()})
            sys.exit(error.exit_status)
        finally:
            if os.getppid() != settings.parent:
                _clear_up(process)


def _clear_up(process: ServerProcess) -> None:
    """What the supervisor would have done: the last of the processes removes the folder."""
    process.socket_of(process.number).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        process.folder.rmdir()


def _tell(supervisor: TextIO, event: Event) -> None:
    if isinstance(event, Note) and "url" in event.figures:
        _write(supervisor, {"text": event.text, "figures": dict(event.figures)})
    elif isinstance(event, Started | Progress):  # a start that takes long is told from one that hangs
        _write(supervisor, {"doing": event.task})


def _write(supervisor: TextIO, line: object) -> None:
    supervisor.write(json.dumps(line) + "\n")
    supervisor.flush()
