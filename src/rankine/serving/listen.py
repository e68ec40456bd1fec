"""Where a server listens."""

from __future__ import annotations

import socket

from rankine.errors import UsageError
from rankine.serving.config import ServeConfig

__all__ = ["ACCEPTED", "bind", "cannot_listen", "reserve", "several"]

ACCEPTED = 16
"""Connections that are accepted in a turn of the event loop: together they take about as long as a turn may."""


def bind(config: ServeConfig) -> socket.socket:
    """A socket at the HTTP address, which does not listen yet.

    Raises:
        UsageError: the address cannot be had.
    """
    return _bound(config.host, config.port, socket.SO_REUSEADDR, "--port")


def reserve(config: ServeConfig) -> socket.socket | None:
    """A socket that holds the gRPC port and never listens, so that several processes can; None without gRPC.

    Raises:
        UsageError: the port is taken.
    """
    if config.grpc_port is None:
        return None
    # Not shared at first: by SO_REUSEPORT alone two servers of one user would divide their calls without a word.
    _bound(config.host, config.grpc_port, socket.SO_REUSEADDR, "--grpc-port").close()
    return _bound(config.host, config.grpc_port, socket.SO_REUSEPORT, "--grpc-port")


def several(listener: socket.socket) -> list[socket.socket]:
    """The same listening socket several times over, so that an event loop accepts as many connections a turn.

    libuv accepts one for each that it listens on (since 1.45). A client that opens a connection for each request that
    is under way opens a thousand when a server falls behind, and with turns of a millisecond and more the last of
    them would wait for seconds, unseen.
    """
    return [listener, *(listener.dup() for _ in range(ACCEPTED - 1))]


def cannot_listen(error: OSError, host: str, port: int, option: str = "--port") -> UsageError:
    """What the system says of an address, in words; ``option`` is the one that chooses the port."""
    hint = f"Give another {option}, or 0 for a free one." if port else None
    return UsageError(f"cannot listen: {error.strerror}", where=f"{host}:{port}", hint=hint)


def _bound(host: str, port: int, how: int, option: str) -> socket.socket:
    """A socket at the address; ``how`` it may be shared, as an option of the socket."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise cannot_listen(error, host, port, option) from None
    try:
        found.setsockopt(socket.SOL_SOCKET, how, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        raise cannot_listen(error, host, port, option) from None
    return found
