"""What goes over the wire to each server: the same request in the form that the server takes best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from rankine.errors import UsageError
from serving.client import Message, Read, Reply
from serving.queries import Query

DEADLINE = b"x-rankine-deadline-ms"


@dataclass(frozen=True)
class Wire:
    """A form of requests and replies.

    Attributes:
        encode: a query to what is sent.
        read: a reply to what it says; see :data:`serving.client.Read`.
        deadline_header: that takes the time left; None where the server knows of no deadlines.
    """

    encode: Callable[[Query], Message]
    read: Read
    deadline_header: bytes | None = None


def head_of(path: str, content_type: str, size_bytes: int, *more: str) -> bytes:
    """Request line and headers of a POST."""
    lines = (f"POST {path} HTTP/1.1", "host: localhost", f"content-type: {content_type}", *more)
    return "\r\n".join((*lines, f"content-length: {size_bytes}")).encode()


def rank_values(query: Query, *, timings: bool) -> dict[str, Any]:
    """The rank body of a query."""
    values = {"request": query.request, "candidates": {"ids": query.ids.tolist()}, "top_k": query.top_k}
    return {**values, "timings": True} if timings else values


class _Timings(msgspec.Struct):
    run_ms: float


class _JsonReply(msgspec.Struct):
    ids: list[int]
    scores: list[float]
    timings: _Timings | None = None


_json_reply = msgspec.json.Decoder(_JsonReply)


def read_rank(head: bytes, raw: bytes) -> Reply | None:
    """A JSON rank reply."""
    try:
        reply = _json_reply.decode(raw)
    except msgspec.MsgspecError:
        return None
    return Reply(reply.ids, reply.scores, None if reply.timings is None else reply.timings.run_ms)


def rank_json(path: str, *, own_headers: bool, timings: bool = False) -> Wire:
    """JSON as `rankine serve` takes it.

    Args:
        own_headers: send the deadline and the number of candidates as headers.
        timings: ask for the engine's time.
    """

    def encode(query: Query) -> Message:
        payload = msgspec.json.encode(rank_values(query, timings=timings))
        more = [f"x-rankine-candidates: {len(query.ids)}"] if own_headers else []
        head = head_of(path, "application/json", len(payload), *more)
        return Message(payload, len(query.ids), query.top_k, head, query.deadline_ms)

    return Wire(encode, read_rank, DEADLINE if own_headers else None)


def rank_lists(path: str) -> Wire:
    """JSON as BentoML takes it: a batch of one rank body, and of one reply."""

    def encode(query: Query) -> Message:
        payload = msgspec.json.encode({"queries": [rank_values(query, timings=False)]})
        head = head_of(path, "application/json", len(payload))
        return Message(payload, len(query.ids), query.top_k, head, query.deadline_ms)

    def read(head: bytes, raw: bytes) -> Reply | None:
        return read_rank(head, raw[1:-1])

    return Wire(encode, read)


def oip_binary(path: str, groups: Mapping[str, Sequence[str]]) -> Wire:
    """Binary tensors of the Open Inference Protocol, as Triton server takes them.

    Args:
        groups: names of the request features, by the tensor that they travel in together (:func:`tensor_groups`).
    """

    def encode(query: Query) -> Message:
        sent = [("ids", "INT64", len(query.ids), query.ids.tobytes())]
        for tensor, names in groups.items():
            values = [query.request[name] for name in names]
            kind, pack = _TENSORS[tensor]
            raw = pack(values)
            sent.append((tensor, kind, len(raw) // _DTYPES[kind].itemsize, raw))
        inputs = [
            {"name": name, "datatype": kind, "shape": [1, count], "parameters": {"binary_data_size": len(raw)}}
            for name, kind, count, raw in sent
        ]
        parameters = {"timeout": int(query.deadline_ms * 1e3)}
        start = msgspec.json.encode({"inputs": inputs, "outputs": _OUTPUTS, "parameters": parameters})
        payload = start + b"".join(raw for *_, raw in sent)
        header = f"inference-header-content-length: {len(start)}"
        head = head_of(path, "application/octet-stream", len(payload), header)
        return Message(payload, len(query.ids), query.top_k, head, query.deadline_ms)

    return Wire(encode, _read_oip)


def tensor_groups(request: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of request features by the tensor that takes values of their type.

    Raises:
        UsageError: a feature is a list.
    """
    groups: dict[str, list[str]] = {}
    for name, value in request.items():
        tensor = {float: "numbers", int: "values", str: "words"}.get(type(value))
        if tensor is None:
            allowed = "one number or one text each"
            raise UsageError("cannot be sent as a tensor", where=name, got=type(value).__name__, allowed=allowed)
        groups.setdefault(tensor, []).append(name)
    return groups


def split_words(raw: bytes) -> list[str]:
    """What the tensor of words holds: they are one text, a line each."""
    return raw.decode().split("\n")


_TENSORS: Mapping[str, tuple[str, Callable[[Sequence[Any]], bytes]]] = {
    "numbers": ("FP32", lambda values: np.array(values, np.float32).tobytes()),
    "values": ("INT64", lambda values: np.array(values, np.int64).tobytes()),
    "words": ("UINT8", lambda values: "\n".join(values).encode()),
}


_DTYPES: Mapping[str, np.dtype[Any]] = {
    "FP32": np.dtype(np.float32),
    "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8),
}
_OUTPUTS = [{"name": name, "parameters": {"binary_data": True}} for name in ("ids", "scores", "run_ms")]
_OIP_LENGTH = b"\ninference-header-content-length:"


def _read_oip(head: bytes, raw: bytes) -> Reply | None:
    """Binary outputs, one after the other behind the JSON that names them."""
    low = head.lower()
    at = low.find(_OIP_LENGTH)
    if at < 0:
        return None
    start = int(low[at + len(_OIP_LENGTH) : low.find(b"\r", at)])
    found: dict[str, list[Any]] = {}
    for output in msgspec.json.decode(raw[:start])["outputs"]:
        end = start + output["parameters"]["binary_data_size"]
        found[output["name"]] = np.frombuffer(raw[start:end], _DTYPES[output["datatype"]]).tolist()
        start = end
    return Reply(found["ids"], found["scores"], *found["run_ms"])
