"""gRPC calls that another process of the host is done with sooner: handed over over HTTP, as all requests are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rankine.errors import RankineError
from rankine.serving.bodies import Receive, read_body
from rankine.serving.grpc.calls import Answer, Read, Refusal
from rankine.serving.http import Reply, Request
from rankine.serving.refusals import OverQuota, QueueRefused
from rankine.serving.routes import Route
from rankine.serving.told_errors import error_of

if TYPE_CHECKING:
    from rankine.serving.app import App

__all__ = ["anywhere"]

_MESSAGE = b"application/x-protobuf"


def anywhere(app: App, path: str, label: str, answer: Answer) -> Answer:
    """``answer``, here or in the process that is done sooner; ``path`` is how that one knows it."""
    neighbors = app.neighbors
    if neighbors is None:
        return answer

    async def for_neighbor(request: Request, receive: Receive) -> Reply:
        raw = await read_body(request.headers, receive, app.config.max_body_bytes)
        return Reply(200, await answer(request, _read_again(raw)), _MESSAGE)

    app.offer(path, Route("POST", "grpc", for_neighbor, label))

    async def here_or_there(request: Request, read: Read) -> bytes:
        to = neighbors.better()
        if to is None:
            return await answer(request, read)
        raw = await read()
        reply = await neighbors.ask(to, request, raw)
        if reply is None:
            return await answer(request, _read_again(raw))
        if reply.status != 200:
            raise _told(reply)
        return reply.body

    return here_or_there


def _read_again(raw: bytes) -> Read:
    async def read() -> bytes:
        return raw

    return read


def _told(reply: Reply) -> RankineError:
    """The error of a reply, with its status and when to try again."""
    error = error_of(json.loads(reply.body)["error"])
    retry_after = dict(reply.headers).get(b"retry-after")
    if retry_after is not None:
        kind = OverQuota if reply.status == OverQuota.http_status else QueueRefused
        return kind(error.message, float(retry_after))
    return error if error.http_status == reply.status else Refusal(str(error), reply.status)
