"""Request heads are bounded: the HTTP server itself keeps whatever a client sends as headers."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["MAX_HEAD_BYTES", "LimitedProtocol"]

MAX_HEAD_BYTES = 64 << 10
_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class LimitedProtocol(HttpToolsProtocol):
    """Answers 431 (RFC 6585) and closes a connection whose request head does not end within ``MAX_HEAD_BYTES``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = True
        self._advanced = False
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head, self._advanced, self._head_bytes = False, True, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._advanced = True, True
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._advanced = False
        super().data_received(data)
        # Counted after parsing: data in which a head or a body ended is not all part of the head that may follow it.
        if self._advanced or not self._in_head:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_REFUSAL)
            self.transport.close()
