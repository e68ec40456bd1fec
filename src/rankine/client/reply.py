"""The typed reply of a rank request."""

from __future__ import annotations

from typing import Any

import msgspec

from rankine.client.errors import ServerUnreachable

__all__ = ["RankReply", "read_reply"]


class RankReply(msgspec.Struct, frozen=True, kw_only=True):
    """The best candidates, best first, and what computed them; fields that later servers add are passed over.

    Attributes:
        ids: external ids, at most ``top_k``.
        scores: what candidates are sorted by, one an id.
        tasks: of a model with several tasks the scores of each, in the order of ``ids``; else empty.
        request_id: under which the server's log has the request.
        artifact, variant, engine: digest and names of what computed the scores.
        generation: of the catalog; all items of the request are of this one.
        timings: where they were asked for: ``queue_ms``, ``prepare_ms``, ``run_ms``, ``reason``...
        server: URL of the server that answered.
        attempts: how often the request was sent, hedges included.
        hedged: whether it was sent a second time because the first answer was slow.
    """

    ids: list[int | str]
    scores: list[float]
    request_id: str
    artifact: str
    generation: int
    variant: str
    engine: str
    tasks: dict[str, list[float]] = msgspec.field(default_factory=dict)
    timings: dict[str, Any] = msgspec.field(default_factory=dict)
    server: str = ""
    attempts: int = 1
    hedged: bool = False


_DECODER = msgspec.json.Decoder(RankReply)


def read_reply(body: bytes, server: str) -> RankReply:
    """The reply in the body of an answer with status 200.

    Raises:
        ServerUnreachable: the body is no ranking: something that is no Rankine server answered.
    """
    try:
        return _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        hint = "Is this the address of a Rankine server?"
        raise ServerUnreachable(f"the answer is no ranking: {error}", where=server, hint=hint) from None
