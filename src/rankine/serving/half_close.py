"""Clients that have ended their side of a connection: whether they wait for their answers, or have left.

TCP tells both in the same way, by FIN: a client that called ``shutdown(SHUT_WR)`` still listens, one that called
``close`` does not, and only what is sent to it finds out, as its system answers by a reset. So a client that has not
been answered within some milliseconds is sent an interim response (100 Continue), which every client of HTTP/1.1 has to
understand and to skip, asked for or not (RFC 9110, 15.2).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

__all__ = ["find_out_whether_gone"]

_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_ASK_AFTER_S = 0.005
"""Most are answered within it, and see no interim response."""
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.001, 0.25


def find_out_whether_gone(
    transport: asyncio.Transport, connection: socket.socket | None, may_ask: Callable[[], bool]
) -> None:
    """Abort a connection whose client is found to have left; nothing happens once it is closing.

    Args:
        connection: that the kernel tells of a reset; None where a write fails at once instead (Unix sockets).
        may_ask: whether an interim response may be sent now.
    """
    loop = asyncio.get_running_loop()

    def ask() -> None:
        if not transport.is_closing() and may_ask():
            transport.write(_INTERIM)
        look(_FIRST_LOOK_S)

    def look(again_s: float) -> None:
        if transport.is_closing():
            return
        if connection is not None and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0:
            transport.abort()
            return
        loop.call_later(again_s, look, min(2 * again_s, _LONGEST_LOOK_S))

    loop.call_later(_ASK_AFTER_S, ask)
