"""``grpc.health.v1.Health`` as the server is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from rankine.serving.grpc.messages import INFERENCE, RANKER

__all__ = ["Health"]

_FOLLOW_S = 0.05
_READY = ("", "ready", INFERENCE, RANKER)
"""Services that are there while the server is ready: the server as a whole, and each by its name."""
_LIVE = "live"
"""A name to ask for while the process lives, ready or not, as Kubernetes' probes can."""


class Health:
    """Keeps the health service at what the server says of itself.

    Args:
        ready: what ``/v2/health/ready`` says.
    """

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready
        self._servicer = health.aio.HealthServicer()
        self._told: bool | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, server: Any) -> None:
        """Add the service to a server that has not started."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        await self._servicer.set(_LIVE, health_pb2.HealthCheckResponse.SERVING)
        await self._tell()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Tell nothing more; whoever watches is told that the server does not serve."""
        if self._task is not None:
            self._task.cancel()
        await self._servicer.enter_graceful_shutdown()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_FOLLOW_S)
            await self._tell()

    async def _tell(self) -> None:
        ready = self._ready()
        if ready == self._told:
            return
        self._told = ready
        status = health_pb2.HealthCheckResponse
        for name in _READY:
            await self._servicer.set(name, status.SERVING if ready else status.NOT_SERVING)
