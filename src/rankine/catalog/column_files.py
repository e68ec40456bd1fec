"""The columns of a snapshot, written chunk by chunk: memory does not grow with the items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from rankine.artifact import Blob
from rankine.catalog.derive import Deriver, column_names
from rankine.catalog.durable import ArrayFile
from rankine.catalog.forms import PARTS, Form, form_of, named_parts
from rankine.catalog.prepare import Preparer
from rankine.catalog.record import stem_of
from rankine.catalog.view import View
from rankine.errors import DataError
from rankine.models.columns import Columns, Ragged

__all__ = ["write_columns"]

_ROWS_AT_ONCE = 1 << 14
Shapes = dict[str, tuple[np.dtype, tuple[int, ...]]]
"""Type and shape of each file."""


def write_columns(blobs: Path, view: View, preparer: Preparer | None) -> tuple[dict[str, Form], dict[str, Blob]]:
    """Write ids and columns of all items into a folder of blobs.

    Args:
        preparer: derives all derived columns anew; None keeps those of ``view``.

    Returns:
        How each raw feature is stored, and the content of each file by its name in the snapshot.

    Raises:
        DataError: a ragged feature has more values than offsets can count.
        OSError: the disk refuses.
    """
    names = list(view.features)
    if preparer is None:
        names += [
            name for key, widths in view.derived.items() for column in widths for name in column_names(key, column)
        ]
    forms, shapes = _shapes(view, names)
    shapes |= {} if preparer is None else _derived_shapes(preparer.derivers, len(view))
    shapes["ids.npy"] = (view.item_ids.dtype, view.item_ids.shape)
    with ExitStack() as held:
        files = {
            name: held.enter_context(closing(ArrayFile(blobs, str(number), dtype, shape)))
            for number, (name, (dtype, shape)) in enumerate(shapes.items())
        }
        _fill(files, view, forms, _chunks(view, names, preparer))
        return {name: forms[name] for name in view.features}, {name: file.finish() for name, file in files.items()}


def _fill(files: Mapping[str, ArrayFile], view: View, forms: Mapping[str, Form], chunks: Iterable[Columns]) -> None:
    """Write all rows, chunk by chunk."""
    files["ids.npy"].append(view.item_ids)
    values = dict.fromkeys(view.features, 0)
    for name in view.features:
        if forms[name] != "plain":
            files[f"{stem_of(name)}.offsets.npy"].append(np.zeros(1, np.int32))
    for columns in chunks:
        for name, column in columns.items():
            if isinstance(column, Ragged):
                column = _weighted(column, forms[name])
                bounds = column.offsets[1:] + np.int32(values[name])
                values[name] += len(column.values)
                column = Ragged(column.values, bounds, column.weights)
            for part, array in named_parts({stem_of(name): column}):
                files[f"{part}.npy"].append(array)


def _chunks(view: View, names: Sequence[str], preparer: Preparer | None) -> Iterator[Columns]:
    rows = view.item_rows
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        chunk = rows[start : start + _ROWS_AT_ONCE]
        columns = view.take(chunk, names)
        yield columns if preparer is None else {**columns, **preparer.derived(columns, len(chunk))}


def _weighted(column: Ragged, form: Form) -> Ragged:
    """With the weights that other rows of it have."""
    if form != "weighted" or column.weights is not None:
        return column
    return Ragged(column.values, column.offsets, np.ones(len(column.values), np.float32))


def _shapes(view: View, names: Sequence[str]) -> tuple[dict[str, Form], Shapes]:
    """How each column is stored, and type and shape of each of its files."""
    forms: dict[str, Form] = {}
    shapes: Shapes = {}
    for name in names:
        held = [segment.columns[name] for segment in view.segments if name in segment.columns]
        forms[name] = max((form_of(column) for column in held), key=list(PARTS).index)
        stem = stem_of(name)
        if forms[name] == "plain":
            plain = [column for column in held if isinstance(column, np.ndarray)]
            shapes[f"{stem}.npy"] = (np.result_type(*plain), (len(view), *plain[0].shape[1:]))
            continue
        lists = [column for column in held if isinstance(column, Ragged)]
        count = _value_count(view, name)
        shapes[f"{stem}.values.npy"] = (np.result_type(*(column.values for column in lists)), (count,))
        shapes[f"{stem}.offsets.npy"] = (np.dtype(np.int32), (len(view) + 1,))
        if forms[name] == "weighted":
            shapes[f"{stem}.weights.npy"] = (np.dtype(np.float32), (count,))
    return forms, shapes


def _derived_shapes(derivers: Sequence[Deriver], items: int) -> Shapes:
    types = {"float32": np.float32, "float16": np.float16, "int8": np.uint8}
    shapes: Shapes = {}
    for deriver in derivers:
        for column, width in deriver.widths.items():
            rows, *scales = column_names(deriver.key, column)
            shapes[f"{rows}.npy"] = (np.dtype(types[deriver.key.storage]), (items, width))
            shapes |= {f"{name}.npy": (np.dtype(np.float32), (items,)) for name in scales}
    return shapes


def _value_count(view: View, name: str) -> int:
    """Values of a ragged feature in all items."""
    start, count = 0, 0
    for segment in view.segments:
        rows = view.item_rows - start
        column = segment.columns.get(name)
        if isinstance(column, Ragged):
            rows = rows[(rows >= 0) & (rows < segment.length)]
            count += int((column.offsets[rows + 1].astype(np.int64) - column.offsets[rows]).sum())
        start += segment.length
    if count > np.iinfo(np.int32).max:
        raise DataError("has too many values for one catalog", where=name, got=count, allowed="up to 2**31 - 1")
    return count
