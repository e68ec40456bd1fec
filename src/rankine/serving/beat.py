"""What a process tells the others, a hundred times a second, from its event loop: one that hangs is silent."""

from __future__ import annotations

import asyncio
import os
import signal
from time import perf_counter
from typing import TYPE_CHECKING

from rankine.serving.board import Slot, State
from rankine.serving.process import ServerProcess

if TYPE_CHECKING:
    from rankine.serving.app import App

__all__ = ["Beat"]

_EVERY_S = 0.01


class Beat:
    """Tells the board while the event loop runs; drains the process if its supervisor is gone."""

    def __init__(self, app: App, process: ServerProcess) -> None:
        self._app = app
        self._process = process
        self._orphan = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self.start)
        self._tell(State.DRAINING if self._app.leaving else State.READY)
        if not self._orphan and os.getppid() != self._process.parent:
            self._orphan = True
            self._process.board.leave()
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(self) -> None:
        """The event loop ends: silence means nothing from now on."""
        if self._timer is not None:
            self._timer.cancel()
        self._process.board.put(self._process.number, Slot(perf_counter(), State.DOWN, os.getpid()))

    def _tell(self, state: State) -> None:
        app = self._app
        signals = app.signals
        slot = Slot(
            beat_s=perf_counter(),
            state=state if app.pool.alive else State.DRAINING,
            pid=os.getpid(),
            finish_s=app.predicted_finish_s,
            middling_s=app.pool.middling_s,
            queued_rows=app.pool.queued_rows,
            utilization=signals.utilization,
            shed=signals.shed,
            debt=signals.debt,
            connections=app.connections(),
        )
        self._process.board.put(self._process.number, slot)
