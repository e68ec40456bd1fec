"""Inference requests and replies in the Open Inference Protocol's binary tensor extension, from a client's side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from rankine.serving.protocols.oip_tensors import DTYPES, as_binary
from rankine.serving.remote.lost import RemoteLost

__all__ = ["decode_reply", "encode_request"]


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] = msgspec.field(default_factory=list)
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)


class _Reply(msgspec.Struct):
    outputs: list[_Output]


_decoder = msgspec.json.Decoder(_Reply)


def encode_request(tensors: Iterable[tuple[str, str, np.ndarray]], *, timeout_s: float | None) -> tuple[bytes, int]:
    """The body, and the length of its JSON part.

    Args:
        tensors: name, datatype and values; numbers only.
        timeout_s: after which a server that knows the parameter ``timeout`` (microseconds) may give up.
    """
    described, chunks = [], []
    for name, datatype, values in tensors:
        raw = as_binary(datatype, values)
        size = {"binary_data_size": len(raw)}
        described.append({"name": name, "datatype": datatype, "shape": list(values.shape), "parameters": size})
        chunks.append(raw)
    parameters: dict[str, Any] = {"binary_data_output": True}
    if timeout_s is not None:
        parameters["timeout"] = max(1, int(1e6 * timeout_s))
    head = msgspec.json.encode({"inputs": described, "parameters": parameters})
    return b"".join((head, *chunks)), len(head)


def decode_reply(raw: bytes, header_bytes: int | str | None, where: str) -> Mapping[str, np.ndarray]:
    """Outputs by name, in their shapes.

    Args:
        header_bytes: length of the JSON part, as a number or as the server told it; None where it is all.

    Raises:
        RemoteLost: the reply is not of the protocol; ``where`` it came from.
    """
    try:
        position, found = _within(raw, 0, len(raw) if header_bytes is None else int(header_bytes)), {}
        head = raw[:position]
        for output in _decoder.decode(head).outputs:
            size = output.parameters.get("binary_data_size")
            dtype = DTYPES[output.datatype]
            if size is None:
                values = np.array(output.data, dtype)
            else:
                end = _within(raw, position, size)
                values, position = np.frombuffer(raw[position:end], dtype), end
            found[output.name] = values.reshape(output.shape)
    except (msgspec.DecodeError, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RemoteLost("the reply cannot be read", where=where, got=str(error)) from None
    return found


def _within(raw: bytes, start: int, size: int) -> int:
    """Where a part ends; raises ValueError where it does not lie in ``raw``."""
    if not 0 <= size <= len(raw) - start:
        raise ValueError(f"a part of {size} bytes at {start} of {len(raw)}")
    return start + size
