"""The server over gRPC: the Open Inference Protocol, ranking, health and reflection, beside HTTP in one event loop.

Needs the extra ``grpc``; nothing of it is imported unless a port for it is asked for.
"""

from __future__ import annotations

import os
import socket
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING

from rankine.errors import UsageError
from rankine.serving.config import ServeConfig

if TYPE_CHECKING:
    from rankine.serving.app import App
    from rankine.serving.grpc.server import GrpcServer

__all__ = ["check_grpc", "open_grpc"]


def check_grpc(config: ServeConfig) -> None:
    """Whether gRPC can be served, if it is asked for: told before a model is opened.

    Raises:
        UsageError: the extra is not installed, or the address cannot be listened on.
    """
    if config.grpc_port is None:
        return
    # gRPC's core writes lines of its own to the log, of every handshake that failed; it reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        import grpc  # noqa: F401
        import grpc_health  # noqa: F401
        import grpc_reflection  # noqa: F401
    except ModuleNotFoundError as error:
        run = "Run: pip install 'rankine[grpc]'."
        raise UsageError(f"gRPC needs {error.name}", where="grpc_port", hint=run) from None
    try:
        family, *_, address = socket.getaddrinfo(config.host, config.grpc_port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        where = f"{config.host}:{config.grpc_port}"
        hint = "Give another --grpc-port, or 0 for a free one." if config.grpc_port else None
        raise UsageError(f"cannot listen: {error.strerror}", where=where, hint=hint) from None


def open_grpc(app: App) -> AbstractAsyncContextManager[GrpcServer | None]:
    """A gRPC server that answers while the context is open; None where none is asked for.

    Raises:
        UsageError: the address was taken meanwhile.
    """
    if app.config.grpc_port is None:
        return nullcontext()
    from rankine.serving.grpc.server import GrpcServer

    return GrpcServer(app)
