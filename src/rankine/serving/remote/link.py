"""HTTP/1.1 to one server: connections that are kept, each used by one call at a time, and time-outs of whole calls."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import threading
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from rankine.serving.remote.lost import RemoteLost

__all__ = ["Link", "LinkTimeout"]

_NOTHING: Mapping[str, str] = {}


class LinkTimeout(RemoteLost):
    """No answer in the time that there was."""


class Link:
    """Calls to a server at ``url``. Thread-safe.

    The time-out is of the whole call, however slowly parts of it come or are taken. Only a name with several addresses
    may take as long for each of them until one is connected to.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._open: Callable[[], http.client.HTTPConnection] = partial(kind, parts.hostname or "", parts.port)
        self._root = parts.path.rstrip("/")
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def ask(
        self, method: str, path: str, timeout_s: float, body: bytes | None = None, headers: Mapping[str, str] = _NOTHING
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers with lower-case names, and body.

        A connection that was kept and that the server has closed since is made anew, once: nothing of the call was
        answered then, and to compute something twice does no harm.

        Raises:
            RemoteLost: it cannot be reached, or does not speak HTTP.
            LinkTimeout: no whole answer came in time.
        """
        end_s = monotonic() + timeout_s
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        if kept is not None:
            try:
                return self._call(kept, method, path, end_s, body, headers)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                kept.close()
            except (OSError, http.client.HTTPException) as error:
                raise self._lost(kept, error) from None
        fresh = self._open()
        try:
            return self._call(fresh, method, path, end_s, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(fresh, error) from None

    def close(self) -> None:
        """Close what is idle; calls under way keep theirs."""
        with self._lock:
            idle, self._idle = self._idle, []
        for one in idle:
            one.close()

    def _call(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        end_s: float,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> tuple[int, Mapping[str, str], bytes]:
        connection.response_class = partial(_Response, end_s=end_s)  # type: ignore[assignment]  # a class of its own
        given = {} if body is None else {"content-length": str(len(body))}
        _allow(connection, end_s)
        connection.request(method, self._root + path, headers={**headers, **given})
        rest = memoryview(body or b"")
        while rest:
            _allow(connection, end_s)
            rest = rest[connection.sock.send(rest) :]
        response = connection.getresponse()
        raw = response.read()
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        return response.status, {name.lower(): value for name, value in response.getheaders()}, raw

    def _lost(self, connection: http.client.HTTPConnection, error: Exception) -> RemoteLost:
        with contextlib.suppress(OSError):
            connection.close()
        if isinstance(error, TimeoutError):
            return LinkTimeout("the server did not answer in time", where=self._url)
        return RemoteLost("the server cannot be reached", where=self._url, got=str(error) or type(error).__name__)


def _allow(connection: http.client.HTTPConnection, end_s: float) -> None:
    """Bound what comes next on a connection by the end of the call."""
    connection.timeout = _left_s(end_s)
    if connection.sock is not None:
        connection.sock.settimeout(connection.timeout)


def _left_s(end_s: float) -> float:
    """Raises TimeoutError where nothing is left."""
    left_s = end_s - monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


class _Response(http.client.HTTPResponse):
    """Status, headers and body are read by ``end_s``: a time-out of a socket is of each part that it receives."""

    def __init__(self, sock: socket.socket, *arguments: Any, end_s: float, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self.fp = io.BufferedReader(_Received(self.fp.detach(), sock, end_s))


class _Received(io.RawIOBase):
    """What ``raw`` reads of a socket, until ``end_s``."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, end_s: float) -> None:
        self._raw, self._sock, self._end_s = raw, sock, end_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(_left_s(self._end_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
