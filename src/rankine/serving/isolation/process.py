"""The front end's handle of one worker process. One thread at a time tells it something and waits for the answer."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from time import perf_counter

import numpy as np

from rankine.models.columns import Batch
from rankine.serving.isolation.frame import NO_TABLE, compacted, pack
from rankine.serving.isolation.lost import WorkerDied, WorkerHung
from rankine.serving.isolation.messages import Told, WorkerSpec, decode_error, receive, send
from rankine.serving.isolation.pace import Pace
from rankine.serving.isolation.region import Region
from rankine.serving.isolation.tables import SentTable, Tables

__all__ = ["WorkerProcess"]

_SLICES = 10
"""In which a wait is counted: time in which this process itself did not run (it was stopped, or starved) counts as one
of them at most, and is not held against the worker."""


class WorkerProcess:
    """A worker process, from its start to its end.

    It is started by a thread that outlives it: the kernel ends it with that thread.

    Args:
        number: of the worker, for people.
        spec: what it opens; :meth:`opened` tells when it has.
        tables: of items that batches may refer to.

    Attributes:
        lost: why it counts no more; empty while it does.
        pidfd: readable once the process has ended.
        pace: of its batches.
    """

    def __init__(self, number: int, spec: WorkerSpec, tables: Tables) -> None:
        self.number, self.lost, self.pace = number, "", Pace()
        self.started_s = perf_counter()
        self._tables = tables
        self._busy = threading.Lock()
        self._sent: dict[int, SentTable] = {}
        with contextlib.ExitStack() as undo:  # what was opened is closed again where the rest fails
            self._region = Region()
            undo.callback(self._region.close)
            self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self._channel.close)
            with theirs:
                self._process = _start(theirs.fileno(), self._region.fd)
            undo.callback(self._process.wait)
            undo.callback(self._process.kill)
            self.pidfd = os.pidfd_open(self._process.pid)
            undo.callback(os.close, self.pidfd)
            raw = spec.model_dump_json().encode()
            self._region.ensure(len(raw))
            self._region.memory[: len(raw)] = raw
            self._tell(Told.OPEN, 0, len(raw))
            undo.pop_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended, also if nobody was told yet."""
        return self._process.poll() is not None

    def fileno(self) -> int:
        """Of the channel: readable once it has answered, or is gone."""
        return self._channel.fileno()

    def opened(self) -> None:
        """Take the answer to the start, once there is one.

        Raises:
            ArtifactError, EngineError, EngineMissing: it cannot open what it should.
            WorkerLost: it ended.
        """
        self._await(1.0)

    def run(self, rung: int, batch: Batch, out: np.ndarray, limit_s: float) -> None:
        """See :meth:`rankine.compilation.engine.Runner.run`.

        Args:
            limit_s: without an answer for so long, the process counts as hung.

        Raises:
            BadRequest, EngineError: as the engine raised it.
            WorkerDied, WorkerHung: the process is of no more use.
        """
        with self._busy:
            if self._process.returncode is not None:  # what it held is closed, and its numbers may be another's
                raise self._died()
            table = self._tables.find(batch.item)
            if table is None:
                batch = compacted(batch)
            elif table.number not in self._sent:
                self._send_table(table, limit_s)
            number = NO_TABLE if table is None else table.number
            logits, start, length = pack(self._region, batch, rung=rung, table=number, out=out)
            self._tell(Told.RUN, start, length)
            self._await(limit_s)
            out[...] = logits

    def kill(self) -> None:
        """End it now, whatever it does; also a process that is stopped."""
        if self._process.returncode is None:
            self._process.kill()

    def leave(self) -> None:
        """Tell it that nothing more comes: it ends once it has answered."""
        self._channel.shutdown(socket.SHUT_RDWR)

    def reap(self, timeout_s: float = 0.0) -> str:
        """How it ended, in words; frees what it held.

        Raises:
            subprocess.TimeoutExpired: it has not ended yet.
        """
        status = self._process.wait(timeout_s)
        with self._busy:  # who waits for it sees its end, and looks no more at what is closed here
            self._channel.close()
            os.close(self.pidfd)
            self._region.close()
        if status >= 0:
            return f"ended with status {status}"
        return f"killed by {signal.Signals(-status).name}"

    def _send_table(self, table: SentTable, limit_s: float) -> None:
        raw = table.described
        self._region.ensure(len(raw))
        self._region.memory[: len(raw)] = raw
        self._tell(Told.TABLE, 0, len(raw), table.files)
        self._await(limit_s)
        self._sent = {at: one for at, one in self._sent.items() if at >= table.oldest} | {table.number: table}

    def _tell(self, told: Told, start: int, length: int, files: tuple[int, ...] = ()) -> None:
        try:
            send(self._channel, told, start, length, files)
        except OSError:
            raise self._died() from None

    def _await(self, limit_s: float) -> None:
        """Wait for the answer."""
        waiting = select.poll()
        waiting.register(self._channel, select.POLLIN)
        slice_ms = max(1.0, 1000 * limit_s / _SLICES)
        if not any(waiting.poll(slice_ms) for _ in range(_SLICES)):
            message = f"worker process {self.pid} did not answer for {limit_s:.3g} s"
            raise WorkerHung(message, hint="It is replaced; try again.")
        try:
            answer = receive(self._channel)
        except OSError:
            answer = None
        if answer is None:
            raise self._died()
        told, start, length, _ = answer
        if told is Told.FAILED:
            if start + length > self._region.size_bytes:
                self._region.follow()
            raise decode_error(self._region.memory[start : start + length])

    def _died(self) -> WorkerDied:
        return WorkerDied(f"worker process {self.pid} died while it ran", hint="It is replaced; try again.")


def _start(*descriptors: int) -> subprocess.Popen[bytes]:
    """A worker process that has these open; in a group of its own, so that no Ctrl-C reaches it before it ignores that.

    Raises:
        OSError: there is no room for one more.
    """
    return subprocess.Popen(
        # -P: what lies in the folder that the server was started in is not imported.
        [sys.executable, "-P", "-m", "rankine.serving.isolation.worker", *map(str, descriptors)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=descriptors,
        process_group=0,
    )
