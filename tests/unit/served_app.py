"""An application over the runner in NumPy, behind a real TCP port: for tests of what HTTP clients do to connections."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from e2e.small_served import rank_body
from rankine.serving import ServeConfig
from rankine.serving.app import App
from rankine.serving.door import Door
from rankine.serving.heads import LimitedProtocol
from rankine.serving.metrics import ServerMetrics
from rankine.serving.model import ServedModel
from rankine.serving.pool import Pool
from unit.numpy_served import NumpyRunner

__all__ = ["QUICK", "Served", "application", "rank_request", "received", "run_served"]

QUICK = "application/json"


@dataclass
class Served:
    """The application, its one engine, and where it listens."""

    app: App
    runner: NumpyRunner
    state: ServerState
    port: int

    def connect(self) -> socket.socket:
        """A client, in non-blocking mode."""
        client = socket.create_connection(("127.0.0.1", self.port))
        client.setblocking(False)
        return client

    def counted(self, status: int, protocol: str = "rank") -> float:
        """Requests that were answered so."""
        labels = {"protocol": protocol, "status": str(status)}
        return self.app.metrics.registry.get_sample_value("rankine_requests_total", labels) or 0.0


def rank_request(rows: int = 3, content_type: str = QUICK, *, path: str = "/v1/rank", **headers: object) -> bytes:
    """A good request, whole; underscores in names of ``headers`` are dashes."""
    body = json.dumps(rank_body(rows)).encode()
    lines = {"host": "x", "content-type": content_type, "content-length": len(body)}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def received(client: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    loop, found = asyncio.get_running_loop(), b""
    async with asyncio.timeout(60):
        while part := await loop.sock_recv(client, 1 << 16):
            found += part
    return found


def run_served(model: ServedModel, scenario: Callable[[Served], Awaitable[None]], **options: Any) -> None:
    """Run a scenario on the event loop that servers run on."""

    async def whole() -> None:
        async with _served(model, **options) as served:
            await scenario(served)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole())


@contextmanager
def application(model: ServedModel, **options: Any) -> Iterator[tuple[App, uvicorn.Config]]:
    """An application at work, and the settings that the HTTP protocol needs."""
    config = ServeConfig(artifact=model.artifact.path, **options)
    metrics = ServerMetrics()
    pool = Pool(model.rungs, tasks=1, workers=1, limits=config.limits, observe=metrics.ran, decided=metrics.decided)
    app: Any = App(config, model, pool, metrics)
    settings = uvicorn.Config(app, lifespan="off", log_config=None)
    settings.load()
    pool.start()
    try:
        yield app, settings
    finally:
        pool.close()
        app.close()


@asynccontextmanager
async def _served(model: ServedModel, **options: Any) -> AsyncIterator[Served]:
    state = ServerState()
    runner: Any = model.rungs[0].runner
    with application(model, **options) as (app, settings):
        listening = await asyncio.get_running_loop().create_server(
            lambda: LimitedProtocol(config=settings, server_state=state, app_state={}, door=Door(app)), "127.0.0.1", 0
        )
        try:
            yield Served(app, runner, state, listening.sockets[0].getsockname()[1])
        finally:
            runner.gate.set()
            listening.close()
            for connection in list(state.connections):
                connection.transport.close()
            await asyncio.sleep(0)
