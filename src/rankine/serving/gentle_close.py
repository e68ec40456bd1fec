"""Closing a listening socket without resetting a client that is just connecting.

``close`` resets whatever is in the backlog or in the middle of its handshake. On Linux a socket filter can drop new
handshakes (a client then tries again after a second, and finds the port closed) while those that have begun complete;
once the backlog is accepted, the socket can be closed. See socket(7), SO_ATTACH_FILTER; RFC 9293 for the flags.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys

__all__ = ["ignore_new_connections"]

_SO_ATTACH_FILTER = 26
_FLAGS_OFFSET = 13
_SYN = 0x02
_LOAD_BYTE, _JUMP_IF_ANY_SET, _RETURN = 0x30, 0x45, 0x06
_ALL = 0xFFFFFFFF
# Classic BPF, (code, jump if true, jump if false, operand): drop segments that open a connection, keep all others.
_PROGRAM = (
    (_LOAD_BYTE, 0, 0, _FLAGS_OFFSET),
    (_JUMP_IF_ANY_SET, 0, 1, _SYN),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, _ALL),
)


def ignore_new_connections(listener: socket.socket) -> None:
    """Let ``listener`` answer no new handshake; those that have begun go on.

    Where the system cannot do it, nothing happens: a client that connects in the instant of closing may be reset.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in _PROGRAM))
    program = struct.pack("HP", len(_PROGRAM), ctypes.addressof(code))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
