"""The supervisor and real processes, small ones that stand for servers."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rankine.errors import RankineError
from rankine.events import ignore
from rankine.serving import ServeConfig
from rankine.serving.board import Board, State
from rankine.serving.child import Child
from rankine.serving.process import ProcessSettings
from rankine.serving.supervisor import Patience, Supervisor

_WAIT_S = 60.0
_OPEN = """
import json, os, sys, time
from rankine.serving.board import Board, Slot, State
settings = json.loads(sys.argv[1])
board = Board(settings["board_fd"])

def tell(line):
    os.write(settings["tell_fd"], (json.dumps(line) + chr(10)).encode())

def put(state):
    board.put(0, Slot(time.perf_counter(), state, os.getpid()))
"""
STUCK = (
    _OPEN
    + """
tell({"doing": "open the catalog"})
time.sleep(600)
"""
)
SLOW = (
    _OPEN
    + """
for step in range(30):
    tell({"doing": f"step {step}"})
    time.sleep(0.1)
tell({"text": "ready", "figures": {}})
while True:
    put(State.READY)
    time.sleep(0.01)
"""
)
NEVER_OVER = (
    _OPEN
    + """
tell({"text": "ready", "figures": {}})
put(State.READY)
put(State.DOWN)
time.sleep(600)
"""
)
NO_START = "raise SystemExit(7)"


@contextmanager
def supervised(program: str, patience: Patience) -> Iterator[tuple[Child, Board]]:
    """One process that runs ``program``, under a supervisor in a thread."""
    board, board_fd = Board.create(1)
    listener = socket.socket()

    def settings(number: int, tell_fd: int) -> ProcessSettings:
        return ProcessSettings(
            config=ServeConfig(artifact=Path("x")),
            number=number,
            parent=os.getpid(),
            board_fd=board_fd,
            listener_fd=listener.fileno(),
            tell_fd=tell_fd,
            folder=Path("x"),
            cores=1.0,
        )

    child = Child(0, settings, program)
    supervisor = Supervisor([child], board, listener, ignore, patience)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield child, board
    finally:
        supervisor.leave()
        child.kill()
        thread.join(_WAIT_S)
        os.close(board_fd)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_a_process_is_started_again_when_it_hangs_while_it_starts() -> None:
    with supervised(STUCK, Patience(start_s=1.0)) as (child, board):
        wait_for(lambda: child.doing == "open the catalog")
        wait_for(lambda: board.starts_of(0) == 2)
        assert child.first  # none was ready yet, and yet the server goes on


def test_a_process_is_left_alone_when_its_start_is_slow_and_tells_of_each_step() -> None:
    with supervised(SLOW, Patience(start_s=2.0)) as (child, board):
        wait_for(lambda: child.ready is not None and board[0].state is State.READY)
        assert board.starts_of(0) == 1


def test_a_process_is_started_again_when_it_does_not_end_after_its_last_beat() -> None:
    with supervised(NEVER_OVER, Patience(end_s=0.5)) as (_, board):
        wait_for(lambda: board.starts_of(0) == 2)


def test_supervisor_ends_with_an_error_when_a_process_cannot_start() -> None:
    board, board_fd = Board.create(1)
    with socket.socket() as listener:

        def settings(number: int, tell_fd: int) -> ProcessSettings:
            return ProcessSettings(
                config=ServeConfig(artifact=Path("x")),
                number=number,
                parent=os.getpid(),
                board_fd=board_fd,
                listener_fd=listener.fileno(),
                tell_fd=tell_fd,
                folder=Path("x"),
                cores=1.0,
            )

        with pytest.raises(RankineError, match=r"process 0: a server process could not start .*exit status 7"):
            Supervisor([Child(0, settings, NO_START)], board, listener, ignore).run()
    os.close(board_fd)
