"""HTTP as the client needs it: keep-alive connections, and failures in two words: refused or broken."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from rankine.client.settings import ClientSettings
from rankine.client.wire import Answer, Broken
from rankine.errors import UsageError

try:
    import aiohttp
except ModuleNotFoundError:
    raise UsageError("the client needs aiohttp", hint="Run: pip install 'rankine[client]'.") from None

__all__ = ["Transport"]

_READY_PATH = "/v2/health/ready"


class Transport:
    """One pool of connections to all servers, made at the first request, in that request's event loop."""

    def __init__(self, settings: ClientSettings, ssl_context: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The reply to a POST; to cancel it closes its connection, by which the server knows that nobody waits.

        Raises:
            Broken: there was none.
            UsageError: the client is closed.
        """
        return await self._send("POST", url, body, headers)

    async def ready(self, server: str) -> Answer:
        """The reply of a server's readiness probe, 200 where it takes requests.

        Raises:
            Broken: there was none.
        """
        return await self._send("GET", server + _READY_PATH, None, {})

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _send(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        if self._closed:
            raise UsageError("the client is closed")
        if self._session is None:
            self._session = self._open()
        try:
            async with self._session.request(method, url, data=body, headers=headers, allow_redirects=False) as reply:
                raw = await reply.read()
                return Answer(reply.status, {name.lower(): value for name, value in reply.headers.items()}, raw)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Broken(_in_words(error), gone=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(_in_words(error), gone=False) from None

    def _open(self) -> aiohttp.ClientSession:
        # No bound on connections: a request that waits for a free one would wait unseen by the balancer.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ssl=self._ssl_context or True),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout_s),
            headers={"content-type": "application/json", **self._settings.headers},
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            cookie_jar=aiohttp.DummyCookieJar(),
        )


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__
