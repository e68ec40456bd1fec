"""How long what was read had lain in the kernel: under overload requests wait there before anybody sees them."""

from __future__ import annotations

import socket
import struct
from typing import Any

__all__ = ["kernel_wait_s", "tcp_socket"]

_TCP_INFO: int = getattr(socket, "TCP_INFO", 0)  # Linux has it
_INFO_BYTES, _LAST_RECEIVED_AT = 104, 52
"""Of the kernel's ``struct tcp_info``: ``tcpi_last_data_recv``, milliseconds since data came in."""


def tcp_socket(transport: Any) -> socket.socket | None:
    """The socket of a connection, where the kernel tells how long data have lain in it."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if not _TCP_INFO or connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return connection


def kernel_wait_s(connection: socket.socket | None) -> float:
    """How long what came last has lain in the kernel; 0 where it does not tell."""
    if connection is None:
        return 0.0
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO_BYTES)
    except OSError:  # closed meanwhile
        return 0.0
    if len(info) < _LAST_RECEIVED_AT + 4:
        return 0.0
    waited_ms: int = struct.unpack_from("=I", info, _LAST_RECEIVED_AT)[0]
    return waited_ms / 1000
