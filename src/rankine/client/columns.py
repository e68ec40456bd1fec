"""Values of features as the typed columns of a gRPC message. There is no schema here: the values say what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rankine.errors import BadRequest

__all__ = ["columns_of", "typed_values"]

_FIELDS: Mapping[type, str] = {int: "integers", bool: "integers", str: "texts", float: "floats"}
_ALLOWED = "whole numbers, texts, or numbers with a point (all of one kind)"


def columns_of(features: Mapping[str, Any], where: str, *, one: bool) -> dict[str, dict[str, Any]]:
    """Columns by feature, as keyword arguments of messages.

    Args:
        one: each feature has the one value of a request; else a list with one value a candidate.

    Raises:
        BadRequest: names the feature whose values are of no or of several types.
    """
    return {
        name: _column([_plain(values)] if one else _plain(values), f"{where}.{name}")
        for name, values in features.items()
    }


def typed_values(values: Any, where: str) -> dict[str, dict[str, Any]]:
    """Plain values under the name of their type: ``{"integers": {"values": [7, 8]}}``; nothing if there are none."""
    flat = list(_plain(values))
    kinds = set(map(type, flat))
    if kinds == {int, float}:  # a number that happens to be whole, of a dense feature
        kinds = {float}
    fields = {_FIELDS.get(kind) for kind in kinds}
    if len(fields) > 1 or None in fields:
        raise BadRequest("has values that no column can hold", where=where, got=_names(kinds), allowed=_ALLOWED)
    return {str(field): {"values": flat} for field in fields}


def _column(rows: Sequence[Any], where: str) -> dict[str, Any]:
    """Numbers with a point in a list are a dense feature's; anything else in a list is ragged, and has lengths."""
    if not any(isinstance(row, list | tuple | Mapping) for row in rows):
        return typed_values(rows, where)
    weighted = any(isinstance(row, Mapping) for row in rows)
    try:
        lists = [list(row["values"]) if isinstance(row, Mapping) else list(row) for row in rows]
        weights = [
            _plain(list(row["weights"])) if isinstance(row, Mapping) else [1.0] * len(values)
            for row, values in zip(rows, lists, strict=True)
        ]
    except (KeyError, TypeError):
        allowed = "a list for each, or {values, weights}"
        raise BadRequest("mixes lists with other values", where=where, allowed=allowed) from None
    column: dict[str, Any] = typed_values([value for values in lists for value in values], where)
    if "floats" in column and not weighted:
        return column
    column["lengths"] = list(map(len, lists))
    if weighted:
        column["weights"] = [weight for row in weights for weight in row]
    return column


def _plain(value: Any) -> Any:
    """NumPy's arrays and scalars as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _names(kinds: set[type]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds))
