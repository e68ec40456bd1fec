"""What the front end and a worker process tell each other: small messages beside the memory that they share."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from enum import IntEnum

import msgspec
from pydantic import Field

from rankine.config import Frozen
from rankine.errors import EngineError, RankineError
from rankine.serving.told_errors import error_of

__all__ = ["RungToOpen", "Told", "WorkerSpec", "decode_error", "encode_error", "receive", "send"]

_FORMAT = struct.Struct("<Bqq")
_MOST_FILES = 253
_MOST_BYTES = 64 << 10
_CUT_CHARS = 4000


class Told(IntEnum):
    """The first byte of a message."""

    OPEN = 1
    TABLE = 2
    RUN = 3
    DONE = 4
    FAILED = 5


class RungToOpen(Frozen):
    """A variant that a worker process runs; ``named``: it shares the items with other variants."""

    variant: str
    engine: str
    named: bool = False


class WorkerSpec(Frozen):
    """What a worker process opens.

    Attributes:
        digest: of the artifact, which may have been replaced since the server started.
        cores: that it keeps to; None: those of the server.
        options: of the engine itself.
        parent_pid: whose end is its own.
    """

    artifact: str
    digest: str
    rungs: tuple[RungToOpen, ...]
    device: str | None
    threads: int
    split: bool
    cores: tuple[int, ...] | None = None
    options: Mapping[str, str] = Field(default_factory=dict)
    parent_pid: int


def send(channel: socket.socket, told: Told, start: int = 0, length: int = 0, files: tuple[int, ...] = ()) -> None:
    """Tell of ``length`` bytes from ``start`` on in the shared memory.

    Raises:
        OSError: the other side is gone.
    """
    message = _FORMAT.pack(told, start, length)
    if files:
        socket.send_fds(channel, [message], files)
    else:
        channel.send(message)


def receive(channel: socket.socket) -> tuple[Told, int, int, list[int]] | None:
    """The next message and the files that came with it; None where the other side is gone."""
    message, files, _, _ = socket.recv_fds(channel, _FORMAT.size, _MOST_FILES)
    if not message:
        return None
    told, start, length = _FORMAT.unpack(message)
    return Told(told), start, length, files


def encode_error(error: Exception) -> bytes:
    """An error as bytes, with all that a client may be told of it."""
    if not isinstance(error, RankineError):
        error = EngineError(f"the engine failed: {type(error).__name__}: {error}"[:_CUT_CHARS])
    return msgspec.msgpack.encode(error.as_dict())


def decode_error(raw: bytes) -> RankineError:
    """The error of :func:`encode_error`; of a kind that this version does not have, an :class:`EngineError`."""
    return error_of(msgspec.msgpack.decode(raw, type=dict[str, str]), otherwise=EngineError)
