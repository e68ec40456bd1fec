"""A client on a bare socket that counts what comes back: one answer a request, with its id, and nothing beyond."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass, field

from e2e.small_served import rank_body

_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Counted:
    """An answer, and the processes that ranked and that had the connection."""

    status: int
    ranked_by: int
    accepted_by: int
    closes: bool


@dataclass
class CountingConnection:
    """One connection; raises ``ConnectionError`` where it ends instead of an answer."""

    port: int
    rows: int = 20
    timeout_s: float = 30.0
    sent: int = 0
    rest: bytes = b""
    connection: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout_s)
        self.body = json.dumps(rank_body(self.rows)).encode()

    def send(self) -> None:
        """One request."""
        self.sent += 1
        lines = (
            "POST /v1/rank HTTP/1.1",
            "host: a",
            f"x-request-id: r{self.sent}",
            f"content-length: {len(self.body)}",
        )
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode() + self.body)

    def receive(self) -> Counted:
        """Its answer, which must be its own."""
        while _END not in self.rest:
            self._read()
        head, _, self.rest = self.rest.partition(_END)
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers["content-length"])
        while len(self.rest) < length:
            self._read()
        self.rest = self.rest[length:]
        assert headers["x-request-id"] == f"r{self.sent}"
        process = int(headers.get("x-rankine-process", 0))  # of one alone nothing is told
        by = int(headers.get("x-rankine-handed-over-by", process))
        return Counted(int(first.split()[1]), process, by, headers.get("connection") == "close")

    def ask(self) -> Counted:
        """A request and its answer."""
        self.send()
        return self.receive()

    def finish(self) -> bytes:
        """Close; whatever came that was not asked for."""
        self.connection.settimeout(0.3)
        try:
            self._read()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self.connection.close()
        return self.rest

    def _read(self) -> None:
        part = self.connection.recv(1 << 16)
        if not part:
            raise ConnectionResetError("ended without an answer")
        self.rest += part


class CountingClient(threading.Thread):
    """Asks one request after the other until told to stop, or until nobody listens any more.

    Attributes:
        answers: in the order of the requests.
        lost: of each request without an answer, who had accepted its connection; None where it was its first.
        extra: what came that was not asked for.
    """

    def __init__(self, port: int, rows: int = 20) -> None:
        super().__init__(daemon=True)
        self._port, self._rows = port, rows
        self.answers: list[Counted] = []
        self.lost: list[int | None] = []
        self.extra = b""
        self.over = threading.Event()

    def run(self) -> None:
        connection: CountingConnection | None = None
        accepted_by: int | None = None
        while not self.over.is_set():
            try:
                if connection is None:
                    connection, accepted_by = CountingConnection(self._port, self._rows), None
            except ConnectionRefusedError:
                return  # nothing was sent: nothing is lost
            try:
                answer = connection.ask()
            except ConnectionError:
                self.lost.append(accepted_by)
                connection.connection.close()
                connection = None
                continue
            self.answers.append(answer)
            accepted_by = answer.accepted_by
            if answer.closes:
                self.extra += connection.finish()
                connection = None
        if connection is not None:
            self.extra += connection.finish()
