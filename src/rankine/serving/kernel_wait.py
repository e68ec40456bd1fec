"""How long what was read had lain in the kernel: under overload requests wait there before anybody sees them."""

from __future__ import annotations

import socket
from typing import Any

from rankine._native import ms_since_data

__all__ = ["kernel_wait_s", "tcp_socket"]


def tcp_socket(transport: Any) -> socket.socket | None:
    """The socket of a connection, where the kernel tells how long data have lain in it."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return connection


def kernel_wait_s(connection: socket.socket | None) -> float:
    """How long what came last has lain in the kernel; 0 where it does not tell.

    uvloop's sockets would make another of theirs for each question, at the cost of four system calls.
    """
    if connection is None:
        return 0.0
    return max(0, ms_since_data(connection.fileno())) / 1000
