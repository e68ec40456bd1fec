"""Several server processes on one host: started, watched, started again, and ended together.

All of them accept from one listening socket, which the supervisor holds: a process that is frozen accepts nothing, and
what waits to be accepted outlives any of them. See docs/explanation/process-model.md.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from rankine.errors import EngineError, RankineError
from rankine.events import Emit, Note
from rankine.serving.board import Board, State
from rankine.serving.child import Child
from rankine.serving.config import ServeConfig
from rankine.serving.cores import core_numbers, pin, usable_cores
from rankine.serving.grpc import check_grpc
from rankine.serving.listen import bind, reserve
from rankine.serving.logs import LOGGER, set_up_logs
from rankine.serving.process import ProcessSettings
from rankine.serving.stop_signals import is_in_a_hurry, stop_signals
from rankine.serving.tls import tls_context

__all__ = ["Patience", "Supervisor", "share_cores", "supervise"]

_TICK_S = 0.05
_MOST_COUNTED_S = 0.2
"""Of one look at the processes: where the supervisor itself was held up, so were the others."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
_RETRY_S = 2.0
_STEADY_S = 30.0
"""A process that lived so long after it was ready is started again at once."""


@dataclass(frozen=True, slots=True)
class Patience:
    """For how many seconds there may be no sign of a process before it counts as hung.

    Attributes:
        start_s: while it starts; each step that it begins is a sign.
        serve_s: of the beat of its event loop.
        end_s: once its event loop has ended, until the process has.
    """

    start_s: float = 300.0
    serve_s: float = 5.0
    end_s: float = 30.0

    def of(self, state: State) -> float:
        """In a state that the board tells."""
        return {State.STARTING: self.start_s, State.DOWN: self.end_s}.get(state, self.serve_s)


_USUAL = Patience()


def supervise(config: ServeConfig, emit: Emit) -> None:
    """Serve by ``config.processes`` processes until SIGTERM, SIGINT or SIGHUP; then all drain, and it returns.

    Emits the ``Note`` of :func:`~rankine.serving.server.serve` once all of them answer, with the figure ``processes``.

    Raises:
        UsageError: the address cannot be listened on, or a core does not exist.
        RankineError: a process could not start: its own error.
    """
    if config.cores is not None:
        pin(config.cores)
    tls_context(config)  # what is wrong with its files is told before anything starts
    check_grpc(config)
    with contextlib.ExitStack() as leave:
        listener = leave.enter_context(bind(config))
        holder = reserve(config)
        if holder is not None:
            leave.enter_context(holder)
        folder = Path(leave.enter_context(tempfile.TemporaryDirectory(prefix="rankine-")))
        board, board_fd = Board.create(config.processes)
        leave.callback(os.close, board_fd)
        set_up_logs()
        ports = {"port": listener.getsockname()[1]}
        if holder is not None:
            ports["grpc_port"] = holder.getsockname()[1]
        cores = usable_cores() / config.processes
        shares = share_cores(core_numbers(), config.processes)

        def settings(number: int, tell_fd: int) -> ProcessSettings:
            own = config.model_copy(update=ports | {"cores": shares[number] if shares else None})
            return ProcessSettings(
                config=own,
                number=number,
                parent=os.getpid(),
                board_fd=board_fd,
                listener_fd=listener.fileno(),
                tell_fd=tell_fd,
                folder=folder,
                cores=cores,
            )

        children = [Child(number, settings) for number in range(config.processes)]
        supervisor = Supervisor(children, board, listener, emit, Patience(config.start_limit_s))
        with _signals(supervisor):
            supervisor.run()


def share_cores(cores: Sequence[int], processes: int) -> tuple[tuple[int, ...], ...]:
    """Neighboring cores for each of ``processes`` processes; none where there are too few to give each its own."""
    if len(cores) < processes:
        return ()
    ends = [len(cores) * at // processes for at in range(processes + 1)]
    return tuple(tuple(cores[ends[at] : ends[at + 1]]) for at in range(processes))


class Supervisor:
    """Looks after processes until :meth:`leave`.

    Args:
        children: the processes, not started.
        listener: on which all listen; closed when they are to leave, so that it ends with the last of them.
        emit: told once all are ready.
        patience: with processes of which there is no sign.
    """

    def __init__(
        self,
        children: Sequence[Child],
        board: Board,
        listener: socket.socket,
        emit: Emit,
        patience: Patience = _USUAL,
    ) -> None:
        self._children = tuple(children)
        self._board = board
        self._listener = listener
        self._emit = emit
        self._patience = patience
        self._asked = self._passed_on = 0
        self._looked_s = perf_counter()
        self._told = False

    def leave(self, *, in_a_hurry: bool = True) -> None:
        """Have all drain and end; a second time, at once if in a hurry. May be called from a signal handler."""
        if in_a_hurry or not self._asked:
            self._asked += 1

    def run(self) -> None:
        """Returns when all have ended.

        Raises:
            RankineError: one could not start at all.
        """
        try:
            for child in self._children:
                self._start(child)
            while not self._asked or any(child.process is not None for child in self._children):
                pipes = [child.pipe for child in self._children if child.pipe is not None]
                select.select(pipes, (), (), _TICK_S)
                self._look()
        finally:
            for child in self._children:
                child.kill()

    def _look(self) -> None:
        now_s = perf_counter()
        passed_s = min(now_s - self._looked_s, _MOST_COUNTED_S)
        self._looked_s = now_s
        if self._asked > self._passed_on:
            self._passed_on = self._asked
            self._board.leave()
            self._listener.close()
            for child in self._children:
                child.send(signal.SIGTERM)
        for child in self._children:
            self._look_at(child, now_s, passed_s)
        if not self._told and all(child.ready is not None for child in self._children):
            self._told = True
            first = self._children[0].ready or {}
            count = len(self._children)
            text = f"{first['text']}, by {count} processes"
            self._emit(Note("serve", text, {**first["figures"], "processes": count}))

    def _look_at(self, child: Child, now_s: float, passed_s: float) -> None:
        child.listen(now_s)
        if child.process is None:
            if not self._asked and now_s >= child.start_s:
                self._start(child)
            return
        if child.ended:
            self._ended(child, now_s)
            return
        slot = self._board[child.number]
        if not child.hung and child.silent_for(slot, passed_s) > self._patience.of(slot.state):
            child.hung = True
            fields = {"process": child.number, "pid": child.process.pid, "state": slot.state.name.lower()}
            fields |= {"silent_s": round(child.silent_s, 1), "doing": child.doing}
            LOGGER.error("a process hangs", extra={"fields": fields})
            child.send(signal.SIGKILL)

    def _start(self, child: Child) -> None:
        self._board.mark(child.number, State.STARTING)
        try:
            child.start()
        except OSError as error:  # no memory or too many processes: the others go on
            if not self._told:
                raise EngineError(f"a process cannot be started: {error}", where=f"process {child.number}") from error
            self._board.mark(child.number, State.DOWN)
            child.start_s = perf_counter() + _RETRY_S
            LOGGER.error(
                "a process cannot be started", extra={"fields": {"process": child.number, "error": str(error)}}
            )
            return
        self._board.count_start(child.number)

    def _ended(self, child: Child, now_s: float) -> None:
        self._board.mark(child.number, State.DOWN)
        status = child.reap()
        if self._asked:
            return
        if child.first and not child.hung:
            raise child.error or RankineError(
                "a server process could not start", where=f"process {child.number}", got=f"exit status {status}"
            )
        pause_s = child.pause_s(now_s, steady_s=_STEADY_S, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
        child.start_s = now_s + pause_s
        why = {"error": str(child.error)} if child.error is not None else {}
        fields = {"process": child.number, "status": status, "restart_in_s": round(pause_s, 3), **why}
        LOGGER.error("a process ended", extra={"fields": fields})


@contextlib.contextmanager
def _signals(supervisor: Supervisor) -> Iterator[None]:
    """Signals end it; in another thread than the main one the owner has to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        supervisor.leave(in_a_hurry=is_in_a_hurry(number))

    before = {number: signal.signal(number, handle) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
