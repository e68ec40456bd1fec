"""What one generation of the catalog changes, and its form as bytes: a line of JSON, then the arrays as they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rankine.catalog.forms import PARTS, Form, column_from, form_of, named_parts
from rankine.errors import ArtifactError
from rankine.models.columns import Column, Columns

__all__ = ["Change", "pack", "unpack"]

_ALIGNMENT = 8
_KINDS = "iufSb"


@dataclass(frozen=True, slots=True)
class Change:
    """Items that are added or replaced, or that are deleted.

    Attributes:
        ids: ``(n,)`` distinct external ids in any order: int64, or UTF-8 bytes.
        columns: raw and derived columns, one row an id; None where the ids are deleted.
    """

    ids: np.ndarray
    columns: Columns | None = field(default=None)


def pack(change: Change) -> bytes:
    """The bytes of a change."""
    columns = change.columns
    arrays = [change.ids, *(part for _, part in named_parts(columns or {}))]
    arrays = [np.ascontiguousarray(array) for array in arrays]
    head = {
        "forms": None if columns is None else {name: form_of(column) for name, column in columns.items()},
        "arrays": [(array.dtype.str, array.shape) for array in arrays],
    }
    line = json.dumps(head, separators=(",", ":")).encode() + b"\n"
    parts = [line.rjust(_padded(len(line)))]  # spaces before JSON mean nothing
    for array in arrays:
        parts += [array.tobytes(), bytes(_padded(array.nbytes) - array.nbytes)]
    return b"".join(parts)


def unpack(content: bytes, where: str) -> Change:
    """The change that :func:`pack` made bytes of; its arrays are views of ``content``.

    Raises:
        ArtifactError: it is no such content, of another version or not written by us; names ``where``.
    """
    try:
        start = content.index(b"\n") + 1
        head = json.loads(content[:start])
        arrays = []
        for name, shape in head["arrays"]:
            array, start = _array(content, start, np.dtype(name), tuple(map(int, shape)))
            arrays.append(array)
        forms: Mapping[str, Form] | None = head["forms"]
        if forms is None:
            return Change(arrays[0])
        return Change(arrays[0], _columns(forms, arrays[1:]))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        got = " ".join(str(error).split())
        hint = "It was written by another version of Rankine, or by something else."
        raise ArtifactError("a record of the catalog's log cannot be read", where=where, got=got, hint=hint) from None


def _columns(forms: Mapping[str, Form], arrays: list[np.ndarray]) -> dict[str, Column]:
    columns, at = {}, 0
    for name, form in forms.items():
        count = len(PARTS[form])
        columns[name] = column_from(arrays[at : at + count])
        at += count
    return columns


def _array(content: bytes, start: int, dtype: np.dtype, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    if dtype.kind not in _KINDS:
        raise ValueError(f"an array of {dtype}")
    count = int(np.prod(shape, dtype=np.int64))
    # An empty array may lie at the very end, where frombuffer refuses to start.
    array = np.frombuffer(content, dtype, count, start) if count * dtype.itemsize else np.zeros(count, dtype)
    return array.reshape(shape), start + _padded(count * dtype.itemsize)


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT
