"""A server process that also listens for gRPC, and calls to it without a client library's help."""

from __future__ import annotations

import json
import time
from typing import Any

import grpc

from e2e.serve_process import ServerProcess
from rankine.serving.grpc.messages import RANKER, message_class

__all__ = ["grpc_address", "rank_message", "rank_method", "tried"]

_LOG_S = 10


def grpc_address(server: ServerProcess) -> str:
    """Where it listens for gRPC, as its ready event says, which is in its log."""
    end_s = time.monotonic() + _LOG_S
    while time.monotonic() < end_s:
        for line in server.log:
            fields = json.loads(line)
            if fields["message"] == "ready":
                return f"127.0.0.1:{fields['grpc_port']}"
        time.sleep(0.01)
    raise AssertionError("the server has not told that it is ready")


def rank_message(rows: int, **more: Any) -> Any:
    """``rank_body(rows)`` as a message."""
    row = range(rows)
    texts = [value for at in row for value in (0.5, 0.25 * (at % 7))]
    request = {
        "user": {"integers": {"values": [7]}},
        "country": {"texts": {"values": ["de"]}},
        "city": {"texts": {"values": ["Köln"]}},
        "recent": {"integers": {"values": [1003, 1005]}},
        "age": {"floats": {"values": [33.5, 1]}},
    }
    features = {
        "slot": {"integers": {"values": [at % 10 for at in row]}},
        "match": {"floats": {"values": texts}},
    }
    candidates = {"integers": {"values": [1000 + at for at in row]}, "features": features}
    return message_class("rankine.RankRequest")(request=request, candidates=candidates, **more)


def rank_method(channel: grpc.Channel) -> Any:
    """``Ranker.Rank`` over a channel."""
    kinds = message_class("rankine.RankRequest"), message_class("rankine.RankReply")
    return channel.unary_unary(f"/{RANKER}/Rank", kinds[0].SerializeToString, kinds[1].FromString)


def tried(call: Any, *arguments: Any, **options: Any) -> grpc.RpcError:
    """The error that a call ends with.

    Raises:
        AssertionError: it went well.
    """
    try:
        call(*arguments, **options)
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call went well")
