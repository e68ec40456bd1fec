"""The gRPC server: in the event loop of the HTTP server, over the same application."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from rankine.errors import UsageError
from rankine.serving.grpc.calls import Calls
from rankine.serving.grpc.health import Health
from rankine.serving.grpc.infer import InferenceService
from rankine.serving.grpc.messages import INFERENCE, RANKER
from rankine.serving.grpc.rank import RankService
from rankine.serving.grpc.reflection import SERVICES, reflection_method
from rankine.serving.grpc.stream import InferenceStream
from rankine.serving.heads import MAX_HEAD_BYTES
from rankine.serving.stalls import STALL_S
from rankine.serving.tls import grpc_credentials

if TYPE_CHECKING:
    from rankine.serving.app import App

__all__ = ["GrpcServer"]

_PING_MS = 60_000
_REFUSE_S = 0.2
"""Before the listener is closed: for clients to hear that they should go elsewhere."""


class GrpcServer:
    """A gRPC server of one application: listens and answers while its context is open.

    Attributes:
        port: where it listens, once started.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._health = Health(lambda: app.ready)
        self._calls = Calls(app)
        self._inference = InferenceService(app)
        self._stream = InferenceStream(self._inference, self._calls)
        self._server: Any = None
        self.port = 0

    async def __aenter__(self) -> GrpcServer:
        try:
            await self._start()
        except RuntimeError as error:
            where = _address(self._app.config.host, self._app.config.grpc_port or 0)
            raise UsageError(f"cannot listen: {error}", where=where, hint="Give another --grpc-port.") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(0)

    async def _start(self) -> None:
        app, config = self._app, self._app.config
        options = [
            ("grpc.max_receive_message_length", config.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", MAX_HEAD_BYTES),
            ("grpc.max_allowed_incoming_connections", config.max_connections),
            ("grpc.server_handshake_timeout_ms", round(1000 * STALL_S)),
            ("grpc.keepalive_time_ms", _PING_MS),  # a client that is gone without a word is found out
            # A port that is taken is refused, and shared only with the other processes of the same server.
            ("grpc.so_reuseport", int(app.process is not None)),
        ]
        self._server = grpc.aio.server(options=options)
        calls = self._calls
        methods = self._inference.handlers(calls) | {"ModelStreamInfer": self._stream.handler()}
        rank = RankService(app).handlers(calls)
        handlers = [
            grpc.method_handlers_generic_handler(INFERENCE, methods),
            grpc.method_handlers_generic_handler(RANKER, rank),
            *(grpc.method_handlers_generic_handler(name, reflection_method(name, calls)) for name in SERVICES),
        ]
        self._server.add_generic_rpc_handlers(handlers)
        await self._health.start(self._server)
        address, credentials = _address(config.host, config.grpc_port or 0), grpc_credentials(config)
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take nothing new; what was taken is answered, if it is within ``grace_s``."""
        if not self._calls.closing:
            self._calls.closing = True
            self._stream.close()
            await self._health.stop()
            # gRPC cancels calls that came and that nobody has looked at yet; a client that is refused asks no more.
            await asyncio.sleep(_REFUSE_S)
        await self._server.stop(grace_s)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
