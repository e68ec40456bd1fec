"""Where a server listens."""

from __future__ import annotations

import socket

from rankine.errors import UsageError
from rankine.serving.config import ServeConfig

__all__ = ["bind", "cannot_listen", "reserve"]


def bind(config: ServeConfig) -> socket.socket:
    """A socket at the HTTP address, which does not listen yet.

    Raises:
        UsageError: the address cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise cannot_listen(error, config.host, config.port) from None
    listener.set_inheritable(False)
    return listener


def reserve(config: ServeConfig) -> socket.socket | None:
    """A socket that holds the gRPC port and never listens, so that several processes can; None without gRPC.

    Raises:
        UsageError: the port is taken.
    """
    if config.grpc_port is None:
        return None
    try:
        family, *_, address = socket.getaddrinfo(config.host, config.grpc_port, type=socket.SOCK_STREAM)[0]
        holder = socket.socket(family, socket.SOCK_STREAM)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(address)
    except OSError as error:
        where = f"{config.host}:{config.grpc_port}"
        raise UsageError(f"cannot listen: {error.strerror}", where=where, hint="Give another --grpc-port.") from None
    return holder


def cannot_listen(error: OSError, host: str, port: int) -> UsageError:
    """What the system says of an address, in words."""
    hint = "Give another --port, or 0 for a free one." if port else None
    return UsageError(f"cannot listen: {error.strerror}", where=f"{host}:{port}", hint=hint)
