"""A server on the loopback interface that sends just the bytes that a test gives it, as slowly as it says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

__all__ = ["answering", "http_reply"]

Parts = Sequence[bytes | float]
"""Bytes to send, and seconds to wait between them."""


def http_reply(body: bytes, *, status: int = 200, **headers: str) -> bytes:
    """A whole reply; underscores in names of ``headers`` are dashes."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def answering(reply: Callable[[bytes], Parts]) -> Iterator[str]:
    """Its URL; ``reply`` says what to send to a whole request (head and body). Inside, it answers any number."""
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection:
            while (request := _request(connection)) and not ended.is_set():
                for part in reply(request):
                    if isinstance(part, bytes):
                        try:
                            connection.sendall(part)
                        except OSError:  # the client has gone, as some tests want it to
                            return
                    else:
                        time.sleep(part)

    def listen() -> None:
        while True:
            try:
                connection = listening.accept()[0]
            except OSError:  # closed: the test is over
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        ended.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def _request(connection: socket.socket) -> bytes:
    """Nothing where the client has closed."""
    got = b""
    while b"\r\n\r\n" not in got:
        try:
            more = connection.recv(65536)
        except OSError:
            return b""
        if not more:
            return b""
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < size:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
