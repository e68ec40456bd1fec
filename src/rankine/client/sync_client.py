"""The client for code without an event loop: the asynchronous one, in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Self, TypeVar

from rankine.client.async_client import AsyncClient
from rankine.client.body import Candidates
from rankine.client.reply import RankReply
from rankine.client.settings import ClientSettings
from rankine.errors import UsageError

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """:class:`~rankine.client.async_client.AsyncClient` with calls that wait; for any number of threads at once.

    One client is enough for a process: its threads share connections, budgets and what is known of the servers. A
    process that forks makes its client afterwards, since threads do not survive a fork.
    """

    def __init__(
        self,
        servers: Sequence[str],
        settings: ClientSettings | None = None,
    ) -> None:
        self._client = AsyncClient(servers, settings)
        self._process = os.getpid()
        self._closing = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rankine-client", daemon=True)
        self._thread.start()

    def rank(
        self,
        request: Mapping[str, Any],
        candidates: Candidates,
        *,
        top_k: int | None = None,
        deadline_s: float | None = None,
        session: str | None = None,
        tenant: str | None = None,
        priority: str | None = None,
        prior: Sequence[float] | None = None,
        timings: bool = False,
    ) -> RankReply:
        """As :meth:`rankine.client.async_client.AsyncClient.rank`, with the same errors."""
        return self._wait(
            self._client.rank(
                request,
                candidates,
                top_k=top_k,
                deadline_s=deadline_s,
                session=session,
                tenant=tenant,
                priority=priority,
                prior=prior,
                timings=timings,
            )
        )

    def close(self) -> None:
        """Close all connections and end the thread; requests of other threads fail."""
        with self._closing:
            if self._loop.is_closed():
                return
            self._wait(self._shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _shut(self) -> None:
        await self._client.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed() or os.getpid() != self._process:
            work.close()
            if self._loop.is_closed():
                raise UsageError("the client is closed")
            raise UsageError("the client was made before a fork", hint="Make one in each process.")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise UsageError("the client was closed") from None
        finally:
            future.cancel()  # of use when the caller was interrupted: a request that nobody waits for is taken back
