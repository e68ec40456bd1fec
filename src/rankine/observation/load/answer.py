"""What is sent and what comes back: prepared bodies, checked answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ["Answer", "Body", "Reply", "Timings", "read_reply"]


@dataclass(frozen=True, slots=True)
class Body:
    """A request body, serialized before the clock starts: ``rows`` candidates in, ``expected_ids`` ids out."""

    payload: bytes
    rows: int
    expected_ids: int


class Timings(msgspec.Struct, frozen=True):
    """The server's own account of one request; ``run_ms`` is the engine's time for the whole batch."""

    run_ms: float
    queue_ms: float = 0.0
    prepare_ms: float = 0.0
    batch_rows: int = 0
    batch_requests: int = 0


class Reply(msgspec.Struct, frozen=True):
    """The parts of a rank reply that are looked at; the rest is skipped, not decoded."""

    ids: list[Any]
    scores: list[float]
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's course, times in seconds from the start of the run.

    Attributes:
        due_s: when it should have been sent; in a closed loop, when it was.
        sent_s: when it was handed to the connection.
        done_s: when its last byte was read, or its failure was known.
        outcome: the HTTP status; ``timeout``; ``unreachable`` where no connection could be made, so that the server
            never saw the request; ``disconnected`` where the connection was cut before its answer.
        correct: 200 with as many ids and scores as were asked for.
        rows: candidates sent.
        timings: the server's, where it was asked for them.
    """

    due_s: float
    sent_s: float
    done_s: float
    outcome: str
    correct: bool
    rows: int
    timings: Timings | None = None

    @property
    def latency_ms(self) -> float:
        """From the time at which it was *due*: a request that waits for its sender waits all the same."""
        return (self.done_s - self.due_s) * 1e3


_decoder = msgspec.json.Decoder(Reply)


def read_reply(raw: bytes, body: Body) -> tuple[bool, Timings | None]:
    """Whether ``raw`` is a correct answer to ``body``, and the server's timings where it has them."""
    try:
        reply = _decoder.decode(raw)
    except msgspec.MsgspecError:  # not JSON, or not a rank reply: an answer, but a wrong one
        return False, None
    return len(reply.ids) == len(reply.scores) == body.expected_ids, reply.timings
