"""A rank request as the columnar JSON body that ``POST /v1/rank`` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rankine.errors import BadRequest, UsageError

__all__ = ["Candidates", "encode_body", "header_value"]

Candidates = Sequence[int] | Sequence[str] | Mapping[str, Any]
"""Item ids, or ``{"ids": [...], "features": {...}}`` as the HTTP API has it; NumPy arrays are taken for lists."""


def encode_body(
    request: Mapping[str, Any],
    candidates: Candidates,
    *,
    top_k: int | None = None,
    prior: Sequence[float] | None = None,
    timings: bool = False,
) -> tuple[bytes, int]:
    """The body, and its number of candidates.

    Raises:
        UsageError: there are no ids.
        BadRequest: a value is of a type that JSON does not have.
    """
    columns: dict[str, Any] = dict(candidates) if isinstance(candidates, Mapping) else {"ids": candidates}
    if "ids" not in columns:
        raise UsageError("there are no ids", where="candidates", allowed="a list of ids, or {ids, features}")
    if prior is not None:
        columns["prior"] = prior
    body: dict[str, Any] = {"request": request, "candidates": columns}
    if top_k is not None:
        body["top_k"] = top_k
    if timings:
        body["timings"] = True
    try:
        return _ENCODER.encode(body), len(columns["ids"])
    except (TypeError, OverflowError, msgspec.MsgspecError) as error:
        raise BadRequest(f"cannot be written as JSON: {error}", where="request or candidates") from None


def header_value(name: str, value: str) -> str:
    """``value``, fit for a header.

    Raises:
        UsageError: it is empty, too long or not plain text, so that a proxy or the server would refuse it.
    """
    if 0 < len(value) <= 256 and value.isascii() and value.isprintable():
        return value
    raise UsageError("cannot travel in a header", where=name, got=value, allowed="1..256 printable ASCII characters")


def _plain(value: Any) -> Any:
    """NumPy's arrays and scalars as Python's, without importing NumPy: a client need not have it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
