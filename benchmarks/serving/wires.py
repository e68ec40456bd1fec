"""What goes over the wire to each server: the same request in the form that the server takes best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from serving.client import Message, Read
from serving.queries import Query

DEADLINE = b"x-rankine-deadline-ms"


@dataclass(frozen=True)
class Wire:
    """A form of requests and replies.

    Attributes:
        encode: a query to what is sent.
        read: judges a reply; see :data:`serving.client.Read`.
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


class _Reply(msgspec.Struct):
    ids: list[int]
    scores: list[float]
    timings: _Timings | None = None


_reply = msgspec.json.Decoder(_Reply)


def read_rank(head: bytes, raw: bytes, asked: Message) -> tuple[bool, float | None]:
    """A JSON rank reply: as many ids and scores as were asked for."""
    try:
        reply = _reply.decode(raw)
    except msgspec.MsgspecError:
        return False, None
    run_ms = None if reply.timings is None else reply.timings.run_ms
    return len(reply.ids) == len(reply.scores) == asked.expected_ids, run_ms


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


def oip_binary(path: str, names: Sequence[str], dense: frozenset[str]) -> Wire:
    """Binary tensors of the Open Inference Protocol, as Triton server takes them: three inputs and three outputs.

    Args:
        names: of the request features, in the order of the columns; those in ``dense`` travel as float32.
    """
    numbers = [name for name in names if name in dense]
    values = [name for name in names if name not in dense]

    def encode(query: Query) -> Message:
        tensors = [("ids", "INT64", query.ids)]
        tensors += [("dense", "FP32", np.array([query.request[name] for name in numbers], np.float32))]
        tensors += [("values", "INT64", np.array([query.request[name] for name in values], np.int64))]
        sent = [(name, kind, array) for name, kind, array in tensors if len(array)]
        inputs = [
            {"name": name, "datatype": kind, "shape": [1, len(array)], "parameters": {"binary_data_size": array.nbytes}}
            for name, kind, array in sent
        ]
        parameters = {"binary_data_output": True, "timeout": int(query.deadline_ms * 1e3)}
        start = msgspec.json.encode({"inputs": inputs, "parameters": parameters})
        payload = start + b"".join(array.tobytes() for _, _, array in sent)
        header = f"inference-header-content-length: {len(start)}"
        head = head_of(path, "application/octet-stream", len(payload), header)
        return Message(payload, len(query.ids), query.top_k, head, query.deadline_ms)

    return Wire(encode, _read_oip)


_OIP_LENGTH = b"\ninference-header-content-length:"


def _read_oip(head: bytes, raw: bytes, asked: Message) -> tuple[bool, float | None]:
    """As many bytes of ids (INT64), scores (FP32) and of the engine's time (FP32) as were asked for."""
    low = head.lower()
    at = low.find(_OIP_LENGTH)
    if at < 0:
        return False, None
    start = int(low[at + len(_OIP_LENGTH) : low.find(b"\r", at)])
    outputs = {one["name"]: one for one in msgspec.json.decode(raw[:start])["outputs"]}
    wanted = {"ids": 8 * asked.expected_ids, "scores": 4 * asked.expected_ids, "run_ms": 4}
    sizes = {name: one["parameters"]["binary_data_size"] for name, one in outputs.items()}
    if sizes != wanted:
        return False, None
    at = start
    for name in outputs:
        if name == "run_ms":
            return True, float(np.frombuffer(raw, np.float32, 1, at)[0])
        at += sizes[name]
    return False, None
