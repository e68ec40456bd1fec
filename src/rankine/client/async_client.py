"""The asynchronous client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from random import Random
from time import monotonic
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from rankine.client.body import Candidates, header_value
from rankine.client.call import Call
from rankine.client.dispatch import Dispatcher
from rankine.client.reply import RankReply
from rankine.client.settings import ClientSettings
from rankine.client.wire import Transport
from rankine.errors import UsageError

__all__ = ["AsyncClient"]

_PRIORITIES = ("high", "normal", "low")


class AsyncClient:
    """Ranks over several servers from one event loop; use as an asynchronous context manager, or close it.

    Args:
        servers: their URLs, such as ``http://10.0.0.1:8080`` or, over gRPC, ``grpc://10.0.0.1:8081`` (with TLS
            ``https`` and ``grpcs``); all serve the same model.
        settings: see :class:`~rankine.client.settings.ClientSettings`.

    Raises:
        UsageError: there is no server, one is given twice, one is no URL, or they speak different protocols; or the
            library for their protocol is not installed.
    """

    def __init__(
        self,
        servers: Sequence[str],
        settings: ClientSettings | None = None,
    ) -> None:
        self._settings = settings or ClientSettings()
        urls = _urls(servers)
        self._transport = _transport(urls, self._settings)
        self._dispatcher = Dispatcher(urls, self._settings, self._transport, Random())
        self._closed = False

    async def rank(
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
        """Rank ``candidates`` for one ``request``.

        Args:
            request: the request features by name.
            candidates: item ids; or ``{"ids": [...], "features": {...}}``, with one value a candidate and feature.
            top_k: how many to return; all if None.
            deadline_s: from now; the settings' own if None. The servers are told what remains of it.
            session: requests of one session go to one server as long as that is well.
            tenant: on whose account it is.
            priority: ``high``, ``normal`` or ``low``; the server's choice if None.
            prior: one score a candidate, from retrieval.
            timings: ask for the server's own account of its time.

        Raises:
            UsageError: an argument cannot be sent, or the client is closed.
            BadRequest: a server refused the request, and says where it is wrong.
            DeadlineExceeded, RequestRefused, ServerUnreachable: see :meth:`~rankine.client.dispatch.Dispatcher.send`.
        """
        if self._closed:
            raise UsageError("the client is closed")
        begin_s = monotonic()
        time_s = self._settings.deadline_s if deadline_s is None else deadline_s
        if not (isfinite(time_s) and time_s > 0):
            raise UsageError("must be a time from now", where="deadline_s", got=time_s, allowed="seconds above 0")
        body, rows = self._transport.encode(request, candidates, top_k=top_k, prior=prior, timings=timings)
        headers = {"x-rankine-candidates": str(rows)}
        if session is not None:
            headers["x-rankine-session"] = header_value("session", session)
        if tenant is not None:
            headers["x-rankine-tenant"] = header_value("tenant", tenant)
        if priority is not None:
            if priority not in _PRIORITIES:
                raise UsageError("unknown priority", where="priority", got=priority, allowed=", ".join(_PRIORITIES))
            headers["x-rankine-priority"] = priority
        allowance_s = self._settings.network_allowance_s
        call = Call(body, rows, headers, session, begin_s, begin_s + time_s, allowance_s)
        return await self._dispatcher.send(call)

    async def close(self) -> None:
        """Close all connections; requests that are under way fail."""
        self._closed = True
        await self._dispatcher.close()
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _transport(urls: Sequence[str], settings: ClientSettings) -> Transport:
    """The one that speaks the servers' protocol; its library is imported here, by who makes a client."""
    schemes = {urlsplit(url).scheme for url in urls}
    if schemes <= {"http", "https"}:
        from rankine.client.http_transport import HttpTransport

        return HttpTransport(settings)
    if schemes <= {"grpc", "grpcs"}:
        from rankine.client.grpc_transport import GrpcTransport

        return GrpcTransport(settings)
    raise UsageError(
        "speak different protocols", where="servers", got=", ".join(sorted(schemes)), allowed="one of them"
    )


def _urls(servers: Sequence[str]) -> list[str]:
    if isinstance(servers, str):
        raise UsageError("must be a list of URLs", where="servers", got=servers, hint=f"Write ['{servers}'].")
    urls = [server.rstrip("/") for server in servers]
    if not urls:
        raise UsageError("there is no server", where="servers", allowed="at least one URL")
    for at, url in enumerate(urls):
        if urlsplit(url).scheme not in ("http", "https", "grpc", "grpcs") or not urlsplit(url).netloc:
            allowed = "http://host:port, https, grpc or grpcs"
            raise UsageError("is no URL of a server", where=f"servers[{at}]", got=url, allowed=allowed)
        if url in urls[:at]:
            raise UsageError("is given twice", where=f"servers[{at}]", got=url)
    return urls
