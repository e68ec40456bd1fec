"""HTTP: JSON bodies, connections that are kept alive, failures in two words."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from rankine.client.body import Candidates, encode_body
from rankine.client.errors import ServerUnreachable, error_of
from rankine.client.reply import read_reply
from rankine.client.settings import ClientSettings
from rankine.client.wire import Answer, Broken
from rankine.errors import UsageError

try:
    import aiohttp
except ModuleNotFoundError:
    raise UsageError("the client needs aiohttp", hint="Run: pip install 'rankine[client]'.") from None

__all__ = ["HttpTransport"]

_READY_PATH = "/v2/health/ready"


class HttpTransport:
    """One pool of connections to all servers, made at the first request, in that request's event loop.

    Raises:
        UsageError: a certificate of the settings cannot be read.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._path = f"/v1/models/{quote(settings.model, safe='')}/rank" if settings.model else "/v1/rank"
        self._tls = _tls_of(settings)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def encode(
        self,
        request: Mapping[str, Any],
        candidates: Candidates,
        *,
        top_k: int | None,
        prior: Sequence[float] | None,
        timings: bool,
    ) -> tuple[bytes, int]:
        """See :class:`~rankine.client.wire.Transport`."""
        return encode_body(request, candidates, top_k=top_k, prior=prior, timings=timings)

    async def rank(self, server: str, body: bytes, headers: Mapping[str, str], remaining_s: float) -> Answer:
        """See :class:`~rankine.client.wire.Transport`; to cancel it closes its connection, which the server notices."""
        status, names, raw = await self._send("POST", server + self._path, body, headers)
        if status != 200:
            return Answer(status, names, error_of(status, raw, names, server))
        try:
            return Answer(status, names, read_reply(raw, server))
        except ServerUnreachable as unreadable:
            return Answer(unreadable.http_status, names, unreadable)

    async def ready(self, server: str) -> bool:
        """See :class:`~rankine.client.wire.Transport`."""
        status, _, _ = await self._send("GET", server + _READY_PATH, None, {})
        return status == 200

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _send(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        if self._closed:
            raise UsageError("the client is closed")
        if self._session is None:
            self._session = self._open()
        try:
            async with self._session.request(method, url, data=body, headers=headers, allow_redirects=False) as reply:
                raw = await reply.read()
                return reply.status, {name.lower(): value for name, value in reply.headers.items()}, raw
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Broken(_in_words(error), gone=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(_in_words(error), gone=False) from None

    def _open(self) -> aiohttp.ClientSession:
        # No bound on connections: a request that waits for a free one would wait unseen by the balancer.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ssl=self._tls or True),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout_s),
            headers={"content-type": "application/json", **self._settings.headers},
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            cookie_jar=aiohttp.DummyCookieJar(),
        )


def _tls_of(settings: ClientSettings) -> ssl.SSLContext | None:
    """None where the system's authorities are enough."""
    if settings.ca_file is None and settings.certificate_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.certificate_file is not None:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
    except OSError as error:  # ssl.SSLError is one too
        where = "settings.ca_file, certificate_file or key_file"
        raise UsageError("cannot be read as a certificate", where=where, got=str(error)) from None
    return context


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__
