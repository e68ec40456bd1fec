"""The worker process: opens the variants, then runs one batch after the other until the front end is gone."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
from dataclasses import replace

import msgspec

from rankine.artifact import Artifact
from rankine.compilation.compile import open_runner
from rankine.compilation.engine import Runner
from rankine.errors import ArtifactError, EngineError
from rankine.models.columns import Columns
from rankine.serving.cores import pin
from rankine.serving.isolation.frame import NO_TABLE, unpack
from rankine.serving.isolation.messages import Told, WorkerSpec, encode_error, receive, send
from rankine.serving.isolation.region import Region
from rankine.serving.isolation.tables import Described, map_table
from rankine.serving.rungs import VariantRunner

__all__ = ["Worker", "main"]

_PR_SET_PDEATHSIG = 1


class Worker:
    """One side of the channel: answers every message, in the order in which they come.

    Args:
        channel: to the front end.
        region: where batches come and logits go.
    """

    def __init__(self, channel: socket.socket, region: Region) -> None:
        self._channel, self._region = channel, region
        self._runners: tuple[Runner, ...] = ()
        self._tables: dict[int, Columns] = {}

    def serve(self) -> None:
        """Answer until the other side is gone."""
        while (message := receive(self._channel)) is not None:
            told, start, length, files = message
            try:
                self._do(told, start, length, files)
            except Exception as error:  # noqa: BLE001  told to the front end, whatever the engine raised
                raw = encode_error(error)
                self._region.ensure(len(raw))
                self._region.memory[: len(raw)] = raw
                send(self._channel, Told.FAILED, 0, len(raw))
            else:
                send(self._channel, Told.DONE)

    def _do(self, told: Told, start: int, length: int, files: list[int]) -> None:
        if start + length > self._region.size_bytes:
            self._region.follow()
        if told is Told.RUN:
            self._run(start, length)
            return
        raw = self._region.memory[start : start + length]
        if told is Told.TABLE:
            described = msgspec.msgpack.decode(raw, type=Described)
            self._tables = {at: table for at, table in self._tables.items() if at >= described.oldest}
            self._tables[described.number] = map_table(described, files)
        else:
            self._open(WorkerSpec.model_validate_json(raw))

    def _run(self, start: int, length: int) -> None:
        frame, batch, out = unpack(self._region, start, length)
        if frame.table != NO_TABLE:
            batch = replace(batch, item=self._tables[frame.table])
        self._runners[frame.rung].run(batch, out)

    def _open(self, spec: WorkerSpec) -> None:
        _end_with(spec.parent_pid)
        if spec.cores is not None:
            pin(spec.cores)
        artifact = Artifact.open(spec.artifact)
        if artifact.digest != spec.digest:
            message = "the artifact is another one than when the server started"
            hint = "Artifacts are never replaced in place: start a new server on the new one."
            raise ArtifactError(message, where=spec.artifact, got=artifact.digest, allowed=spec.digest, hint=hint)
        runners: list[Runner] = []
        for one in spec.rungs:
            runner = open_runner(
                artifact,
                one.variant,
                one.engine,
                device=spec.device,
                threads=spec.threads,
                split=spec.split,
                options=spec.options,
            )
            runners.append(VariantRunner(one.variant, runner) if one.named else runner)
        self._runners = tuple(runners)
        gc.collect()
        gc.freeze()  # what lives now lives until the end


def main() -> None:
    """``python -m rankine.serving.isolation.worker CHANNEL REGION``: descriptors that the front end left open."""
    # What ends the front end reaches the whole group: it decides when its workers go, once all is answered.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel, region = (int(argument) for argument in sys.argv[1:3])
    try:
        Worker(socket.socket(fileno=channel), Region(region)).serve()
    except OSError:  # the front end is gone while it was told something
        sys.exit(1)


def _end_with(parent_pid: int) -> None:
    """Have the kernel end this process with the front end, also while an engine runs, hangs or is stopped."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise EngineError("a worker process cannot be bound to its server", got=os.strerror(ctypes.get_errno()))
    if os.getppid() != parent_pid:  # it has ended already
        os._exit(1)


if __name__ == "__main__":
    main()
