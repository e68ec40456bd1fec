"""What a client asks of a protocol: requests to bytes, bytes to a server, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rankine.client.body import Candidates
from rankine.client.reply import RankReply
from rankine.errors import RankineError

__all__ = ["Answer", "Broken", "Transport"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said.

    Attributes:
        status: as HTTP has it, over gRPC too.
        headers: those of the reply, or the trailers; names are lower case.
        outcome: the ranking if the status is 200, else the error.
    """

    status: int
    headers: Mapping[str, str]
    outcome: RankReply | RankineError


class Broken(Exception):
    """There was no whole answer. ``gone``: not even a connection."""

    def __init__(self, reason: str, *, gone: bool) -> None:
        super().__init__(reason)
        self.gone = gone


class Transport(Protocol):
    """A protocol with its connections to all servers, made when they are needed, in the event loop that needs them."""

    def encode(
        self,
        request: Mapping[str, Any],
        candidates: Candidates,
        *,
        top_k: int | None,
        prior: Sequence[float] | None,
        timings: bool,
    ) -> tuple[bytes, int]:
        """A request as it is sent, and its number of candidates.

        Raises:
            UsageError, BadRequest: it cannot be sent; says where it is wrong.
        """

    async def rank(self, server: str, body: bytes, headers: Mapping[str, str], remaining_s: float) -> Answer:
        """Send an encoded request. To cancel this tells the server, one way or another, that nobody waits.

        Raises:
            Broken: there was no answer.
            TimeoutError: there was none within ``remaining_s``, where the protocol itself looks after that.
        """

    async def ready(self, server: str) -> bool:
        """Whether a server says that it takes requests.

        Raises:
            Broken: it said nothing.
        """

    async def close(self) -> None:
        """Close all connections."""
