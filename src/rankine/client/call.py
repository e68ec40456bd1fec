"""One request on its way: what is sent, until when, and what was tried so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

from rankine.client.servers import Server
from rankine.errors import DeadlineExceeded

__all__ = ["Call"]


@dataclass(slots=True)
class Call:
    """A rank request and its state.

    Attributes:
        rows: candidates.
        headers: without the deadline, which is another at every attempt.
        begin_s, deadline_s: on the clock of ``time.monotonic``.
        allowance_s: what the network may take of what remains.
        hedged: whether it was sent a second time because the first answer was slow.
        tried: servers that it was sent to, one an attempt.
    """

    body: bytes
    rows: int
    headers: Mapping[str, str]
    session: str | None
    begin_s: float
    deadline_s: float
    allowance_s: float
    hedged: bool = False
    tried: list[Server] = field(default_factory=list)

    @property
    def attempts(self) -> int:
        return len(self.tried)

    def remaining_s(self) -> float:
        """What a server that is asked now may take."""
        return self.deadline_s - self.allowance_s - monotonic()

    def headers_now(self) -> dict[str, str]:
        """The headers of an attempt that starts now.

        Raises:
            DeadlineExceeded: the answer would come too late.
        """
        remaining_s = self.remaining_s()
        if remaining_s <= 0:
            raise self.too_late()
        return {**self.headers, "x-rankine-deadline-ms": f"{1000 * remaining_s:.3f}"}

    def too_late(self) -> DeadlineExceeded:
        """The error of a request that was not answered in time."""
        budget_ms = 1000 * (self.deadline_s - self.begin_s)
        took_ms = 1000 * (monotonic() - self.begin_s)
        sent = ", then ".join(server.url for server in self.tried)
        return DeadlineExceeded(
            "the deadline passed before an answer came",
            got=f"{took_ms:.1f} ms",
            allowed=f"{budget_ms:g} ms, of which the network may take {1000 * self.allowance_s:g} ms",
            hint=f"It was sent to {sent}." if sent else "It was not sent: there was no time left for it.",
        )
