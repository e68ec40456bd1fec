"""Typed columns of a rank request to values as the body's decoder gives them: one for each row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from rankine.errors import BadRequest
from rankine.models.schema import DenseFeature, Feature, RaggedFeature
from rankine.serving.grpc.messages import Message
from rankine.serving.inputs import MAX_STRING_CHARS, WeightedList, longest_list

__all__ = ["rows_of_column"]


def rows_of_column(feature: Feature, column: Message, rows: int, where: str) -> list[Any]:
    """The values of a feature, one for each of ``rows``.

    Raises:
        BadRequest: the column is of another type, or holds more or fewer values; what it holds is too long.
    """
    field = _field_of(feature)
    given = column.WhichOneof("values")
    # A list of no values at all is of no type.
    if given != field and not (given is None and isinstance(feature, RaggedFeature)):
        raise BadRequest("has the wrong type", where=where, got=given or "no values", allowed=field)
    values = list(getattr(column, field).values)
    if field == "texts":
        _check_texts(values, where)
    if isinstance(feature, RaggedFeature):
        return _lists(feature, column, values, rows, where)
    if column.lengths or column.weights:
        raise BadRequest("is no list: it takes neither lengths nor weights", where=where)
    width = feature.width if isinstance(feature, DenseFeature) else 1
    _check_count(values, rows * width, where, f"{width} a row" if width > 1 else "one a row")
    return values if width == 1 else [values[at : at + width] for at in range(0, len(values), width)]


def _field_of(feature: Feature) -> str:
    if isinstance(feature, DenseFeature):
        return "floats"
    return "integers" if feature.dtype == "int64" else "texts"


def _lists(feature: RaggedFeature, column: Message, values: list[Any], rows: int, where: str) -> list[Any]:
    lengths = list(column.lengths)
    if not lengths and rows == 1:
        lengths = [len(values)]
    _check_count(lengths, rows, f"{where}.lengths", "one a row")
    _check_count(values, sum(lengths), where, "as many as the lengths say")
    longest = longest_list(feature)
    if max(lengths) > longest:
        raise BadRequest("a list is too long", where=where, got=max(lengths), allowed=f"at most {longest} values a row")
    ends = list(accumulate(lengths))
    spans = [(end - length, end) for length, end in zip(lengths, ends, strict=True)]
    if not column.weights:
        return [values[start:end] for start, end in spans]
    weights = list(column.weights)
    _check_count(weights, len(values), f"{where}.weights", "one a value")
    return [WeightedList(values[start:end], weights[start:end]) for start, end in spans]


def _check_count(values: Sequence[Any], count: int, where: str, words: str) -> None:
    if len(values) != count:
        raise BadRequest("has another number of values", where=where, got=len(values), allowed=f"{count}, {words}")


def _check_texts(values: Sequence[str], where: str) -> None:
    longest = max(map(len, values), default=0)
    if longest > MAX_STRING_CHARS:
        allowed = f"at most {MAX_STRING_CHARS} characters"
        raise BadRequest("a string is too long", where=where, got=longest, allowed=allowed)
