"""JSON objects must not give a key twice: which of the values counts would depend on the parser."""

from __future__ import annotations

import json
from typing import Any

from rankine.errors import BadRequest

__all__ = ["refuse_duplicate_keys"]


def refuse_duplicate_keys(raw: bytes) -> None:
    """Parse ``raw``, valid JSON, with Python's own parser, which alone shows every key.

    Raises:
        BadRequest: names the key that an object gives twice.
    """
    json.loads(raw, object_pairs_hook=_check)


def _check(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise BadRequest("the key is given twice", where=key)
        seen.add(key)
