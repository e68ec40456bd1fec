"""A server process as its supervisor sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from rankine.errors import RankineError
from rankine.serving.board import Slot, State
from rankine.serving.process import ProcessSettings
from rankine.serving.told_errors import error_of

__all__ = ["Child"]

_READ_BYTES = 1 << 16
_PROGRAM = "from rankine.serving.process import main; main()"
_END_S = 10.0

Settings = Callable[[int, int], ProcessSettings]


class Child:
    """One process after the other under one number.

    Args:
        settings: of a process, by its number and the descriptor of its pipe to here.
        program: in Python, that it runs.

    Attributes:
        process: the one that lives, or whose end was not looked at yet.
        pipe: what it tells comes here.
        ready: what the process told when it was ready: ``text`` and ``figures``; None while it is not.
        error: why the process, or the one before, did not serve, as far as it told.
        first: none was ready yet.
        start_s: when to start the next one.
        ready_s: when it was ready.
        doing: what it did last, as far as it told; of one that starts.
        silent_s: for how long there was no sign of it.
        hung: it is killed for that.
    """

    def __init__(self, number: int, settings: Settings, program: str = _PROGRAM) -> None:
        self.number = number
        self._settings, self._program = settings, program
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: int | None = None
        self.ready: dict[str, Any] | None = None
        self.error: RankineError | None = None
        self.first = True
        self.start_s = self.silent_s = 0.0
        self.ready_s = 0.0
        self.doing = ""
        self.hung = False
        self._failures = 0
        self._sign: tuple[State, float] | None = None
        self._heard = b""

    def start(self) -> None:
        """Start a process."""
        self.pipe, writing = os.pipe()
        os.set_blocking(self.pipe, False)
        self.ready = self.error = None
        self.silent_s, self._heard, self.doing, self.hung = 0.0, b"", "", False
        settings = self._settings(self.number, writing)
        inherited = (settings.board_fd, settings.listener_fd, writing)
        # -P: what happens to lie in the current folder is not imported. A process group of its own: Ctrl-C is for the
        # supervisor, which passes it on once.
        command = [sys.executable, "-P", "-c", self._program, settings.model_dump_json()]
        try:
            self.process = subprocess.Popen(command, pass_fds=inherited, process_group=0, stdin=subprocess.DEVNULL)
        finally:
            os.close(writing)

    @property
    def ended(self) -> bool:
        """Whether the process is over."""
        return self.process is not None and self.process.poll() is not None

    def listen(self, now_s: float) -> None:
        """Take what the process has told."""
        if self.pipe is None:
            return
        try:
            part = os.read(self.pipe, _READ_BYTES)
        except BlockingIOError:
            return
        if not part:  # it has ended, or will at once
            os.close(self.pipe)
            self.pipe = None
            return
        self._heard += part
        self.silent_s = 0.0
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "error" in told:
                self.error = error_of(told["error"])
            elif "doing" in told:
                self.doing = told["doing"]
            else:
                self.ready, self.first, self.ready_s = told, False, now_s

    def silent_for(self, slot: Slot, passed_s: float) -> float:
        """Seconds without a sign of the process, on the board or through the pipe, after another ``passed_s``."""
        sign = slot.state, slot.beat_s
        self.silent_s = self.silent_s + passed_s if sign == self._sign else 0.0
        self._sign = sign
        return self.silent_s

    def reap(self) -> int:
        """The exit status of the process that has ended; negative: a signal."""
        if self.process is None:
            return 0
        self.listen(perf_counter())
        status = self.process.wait()
        if self.pipe is not None:
            os.close(self.pipe)
        self.process = self.pipe = None
        return status

    def pause_s(self, now_s: float, *, steady_s: float, first_s: float, longest_s: float) -> float:
        """How long to wait before the next start: nothing at first, then twice as long each time."""
        steady = self.ready is not None and now_s - self.ready_s >= steady_s
        self._failures = 1 if steady else self._failures + 1
        return 0.0 if self._failures == 1 else float(min(longest_s, first_s * 2 ** min(self._failures - 2, 32)))

    def send(self, number: int) -> None:
        """Send a signal, if there is a process."""
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End the process, if there is one, without waiting for anybody."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(_END_S)
            self.reap()
