"""JSON objects must not give a key twice: which of the values counts would depend on the parser.

A decoder that fills a known structure can say how many keys it found. Each key has one colon, so a text with exactly as
many colons repeats none; the rest is about colons inside of strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rankine.errors import BadRequest

__all__ = ["count_keys", "key_like", "refuse_duplicate_keys", "value_at"]

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_BEFORE_A_KEYS_COLON = (b'":', b" :", b"\t:", b"\n:", b"\r:")
_SEARCHED_BYTES = 1 << 20


def key_like(raw: bytes | memoryview) -> int:
    """At least the number of keys in ``raw``, valid JSON: colons that follow a quote or whitespace.

    Text such as ``item:12`` inside of a string is not counted; a quote or a blank before a colon in a string is.
    """
    text = bytes(raw)
    return sum(text.count(before) for before in _BEFORE_A_KEYS_COLON)


def count_keys(value: object) -> int:
    """Keys of all objects in a decoded JSON value."""
    if isinstance(value, Mapping):
        return len(value) + sum(map(count_keys, value.values()))
    return sum(map(count_keys, value)) if isinstance(value, list) else 0


def refuse_duplicate_keys(raw: bytes, keys: int, *, outside: Sequence[bytes | memoryview] = ()) -> None:
    """Compare ``raw``, valid JSON, with the number of distinct keys that its decoder found in it.

    Args:
        keys: found by the decoder, over all objects.
        outside: parts of ``raw`` that are known to hold no objects.

    Raises:
        BadRequest: an object gives a key twice; where, in a body of up to 1 MiB.
    """
    if key_like(raw) - sum(map(key_like, outside)) == keys:
        return
    # Exact, and linear: without its strings the text has one colon a key.
    if _STRING.sub(b"", raw).count(b":") == keys:
        return
    path = _find(raw) if len(raw) <= _SEARCHED_BYTES else None
    raise BadRequest("the key is given twice", where=path or "somewhere in the body")


class _Pairs(tuple[tuple[str, Any], ...]):
    """An object as its keys and values, in order, before the parser drops any."""

    __slots__ = ()


def value_at(raw: bytes, path: str) -> str | None:
    """The value at a path such as ``candidates.ids[3]`` of ``raw``, valid JSON, as text; None if it cannot be told."""
    if len(raw) > _SEARCHED_BYTES:
        return None
    try:
        value = json.loads(raw)
        for key, index in _STEP.findall(path):
            value = value[int(index)] if index else value[key]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    return repr(value)


def _find(raw: bytes) -> str | None:
    """The path of the first key that is given twice."""
    pending: list[tuple[str, Any]] = [("", json.loads(raw, object_pairs_hook=_Pairs))]
    while pending:
        path, value = pending.pop()
        if isinstance(value, _Pairs):
            seen: set[str] = set()
            for key, inner in value:
                at = f"{path}.{key}" if path else key
                if key in seen:
                    return at
                seen.add(key)
                pending.append((at, inner))
        elif isinstance(value, list):
            pending += [(f"{path}[{at}]", inner) for at, inner in enumerate(value)]
    return None
