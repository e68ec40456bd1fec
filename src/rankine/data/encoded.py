"""Encoded rows in files: written once, chunk by chunk, then read where training points, through the page cache.

A folder holds, for the columns of the request side and for those of the rows::

    request.records   row.records      the values of all plain features of a row side by side: one place on disk a row
    <feature>.values  .offsets  .weights    of a ragged feature
    encoded.json                       how many rows and values there are; written last

Arrays are memory-mapped, so that what is not in use costs no memory that could be used otherwise.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rankine.config import Frozen, parse, read_mapping
from rankine.models.columns import Batch, Column, Columns, Ragged, row_count, take
from rankine.models.schema import DenseFeature, Feature, Schema

__all__ = ["StoredBatch", "StoredColumns", "move_into_place", "open_rows", "shuffled", "write_rows"]

_READ_AT_ONCE = 65_536
_SHUFFLED_AT_ONCE = 2**20
_BLOCK_ROWS = 4096
_MAPPED_ROWS = 2**19
_SIDES = ("request", "row")
_RECORD_FILE = "encoded.json"


class _Stored(Frozen):
    """``encoded.json``: the rows, and the values and the presence of weights of each ragged feature."""

    rows: int
    values: Mapping[str, int]
    weighted: Mapping[str, bool]


@dataclass(frozen=True, eq=False)
class StoredColumns(Mapping[str, Column]):
    """Columns of rows that lie in files, in the order of ``positions``.

    A column that is asked for by its name is read whole; :meth:`read` reads some rows of all.

    Attributes:
        records: ``(stored rows,)``, one field a plain feature.
        ragged: ``(stored rows,)`` each.
        positions: ``(rows,)`` int32 or int64 into both.
        pages: of the files.
    """

    records: np.ndarray
    ragged: Mapping[str, Ragged]
    positions: np.ndarray
    pages: _Pages

    def __getitem__(self, name: str) -> Column:
        if name in self.ragged:
            return self.ragged[name].take(self.positions)
        if name not in (self.records.dtype.names or ()):
            raise KeyError(name)
        column: np.ndarray = self.records[name][self.positions]
        return column

    def __iter__(self) -> Iterator[str]:
        return iter((*(self.records.dtype.names or ()), *self.ragged))

    def __len__(self) -> int:
        return len(self.records.dtype.names or ()) + len(self.ragged)

    def read(self, index: np.ndarray | slice) -> dict[str, Column]:
        """The rows at ``index``, in memory."""
        positions = self.positions[index]
        columns: dict[str, Column] = {name: column.take(positions) for name, column in self.ragged.items()}
        if names := self.records.dtype.names:
            part = self.records.take(positions)  # many times faster than indexing, for records
            columns.update({name: np.ascontiguousarray(part[name]) for name in names})
        self.pages.were_read(len(positions))
        return columns

    def at(self, index: np.ndarray | slice) -> StoredColumns:
        """The rows at ``index``, still in their files."""
        return StoredColumns(self.records, self.ragged, self.positions[index], self.pages)


class _Pages:
    """Maps files, and lets their pages go after every half a million rows: a page that was read counts as memory of
    this process, though it is the kernel's cache, and reading it again costs next to nothing while it is there."""

    def __init__(self) -> None:
        self._maps: list[mmap.mmap] = []
        self._rows = 0

    def map(self, path: Path, dtype: np.dtype, length: int) -> np.ndarray:
        """A file as a read-only array; an empty one cannot be mapped."""
        if length == 0 or dtype.itemsize == 0:
            return np.zeros(length, dtype)
        with path.open("rb") as file:
            self._maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return np.frombuffer(self._maps[-1], dtype, count=length)

    def were_read(self, rows: int) -> None:
        """Count the rows that were read."""
        self._rows += rows
        if self._rows >= _MAPPED_ROWS:
            self._rows = 0
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, slots=True)
class StoredBatch(Batch):
    """A batch whose columns lie in files. Few rows of it are an ordinary batch, with a request a row; many are another
    of this kind, so that the training rows of a large data set are chosen without being read.

    Attributes:
        request: views of the files, whose values are not side by side: engines read selections of few rows only.
        pair: :class:`StoredColumns`, or nothing.
    """

    def select(self, rows: np.ndarray | slice) -> Batch:
        index: np.ndarray | slice = rows
        if isinstance(rows, np.ndarray) and rows.dtype == bool:
            index = np.flatnonzero(rows)
        request_index, item_index = self.request_index[index], self.item_index[index]
        stored = self.pair if isinstance(self.pair, StoredColumns) else None
        if len(request_index) > _READ_AT_ONCE:
            pair: Columns = {} if stored is None else stored.at(index)
            return StoredBatch(self.request, self.item, pair, request_index, item_index)
        request = take(self.request, request_index)
        if request:
            request_index = np.arange(len(request_index), dtype=np.int32)
        return Batch(request, self.item, {} if stored is None else stored.read(index), request_index, item_index)


def shuffled(batch: Batch, order: np.random.Generator) -> np.ndarray:
    """Positions of all rows of a batch in a new order, int64 ``(rows,)``.

    Many rows that lie in files are shuffled by blocks: blocks in a new order, and then the rows of 256 blocks (a
    million) among each other. So a batch reads from a small part of the file, however large that is, and what memory
    cannot hold is read once an epoch instead of a page a row. Rows of one time still come apart.
    """
    if not isinstance(batch, StoredBatch) or batch.rows <= _SHUFFLED_AT_ONCE:
        return order.permutation(batch.rows)
    blocks = order.permutation(-(-batch.rows // _BLOCK_ROWS)) * _BLOCK_ROWS
    at_once = _SHUFFLED_AT_ONCE // _BLOCK_ROWS
    parts = []
    for start in range(0, len(blocks), at_once):
        rows = (blocks[start : start + at_once, None] + np.arange(_BLOCK_ROWS)).reshape(-1)
        parts.append(order.permutation(rows[rows < batch.rows]))
    return np.concatenate(parts)


def write_rows(folder: Path, schema: Schema, chunks: Iterable[Columns]) -> int:
    """Write the encoded request and row features of a schema, chunk by chunk, into an empty folder; returns the rows.

    Written with plain writes: pages of a mapped file would count as this process' memory until they are written back.
    """
    total = 0
    with ExitStack() as stack:
        writers = [_SideWriter(folder, name, features, stack) for name, features in _sides(schema)]
        for columns in chunks:
            for writer in writers:
                writer.add(columns)
            total += row_count(columns)
    values = {name: ragged.total for writer in writers for name, ragged in writer.ragged.items()}
    weighted = {name: ragged.weighted for writer in writers for name, ragged in writer.ragged.items()}
    stored = _Stored(rows=total, values=values, weighted=weighted)
    (folder / _RECORD_FILE).write_text(stored.model_dump_json(), encoding="utf-8")
    return total


def open_rows(folder: Path, schema: Schema) -> tuple[dict[str, Column], StoredColumns]:
    """What :func:`write_rows` wrote, in its order: the request side as views of the files, and the rows' columns."""
    stored = parse(_Stored, read_mapping(folder / _RECORD_FILE), source=str(folder / _RECORD_FILE))
    pages = _Pages()
    request, row = (_open_side(folder, name, features, stored, pages) for name, features in _sides(schema))
    positions = np.arange(stored.rows, dtype=np.int32 if stored.rows < 2**31 else np.int64)
    return _views(*request), StoredColumns(*row, positions, pages)


def move_into_place(made: Path, folder: Path) -> None:
    """Give a finished folder its name; where another process was faster, its equal one stays."""
    try:
        os.rename(made, folder)
    except OSError:
        if not folder.is_dir():
            raise


class _SideWriter:
    """Writes the columns of one side."""

    def __init__(self, folder: Path, name: str, features: Sequence[Feature], stack: ExitStack) -> None:
        self._dtype = _record_type(features)
        self._file = stack.enter_context((folder / f"{name}.records").open("wb"))
        self.ragged = {feature.name: _RaggedWriter(folder, feature.name, stack) for feature in _ragged(features)}

    def add(self, columns: Columns) -> None:
        if names := self._dtype.names:
            records = np.empty(row_count({name: columns[name] for name in names}), self._dtype)
            for name in names:
                records[name] = columns[name]
            records.tofile(self._file)
        for name, writer in self.ragged.items():
            column = columns[name]
            if isinstance(column, Ragged):
                writer.add(column)


class _RaggedWriter:
    """Writes a ragged feature; offsets count all values, so they are int64."""

    def __init__(self, folder: Path, name: str, stack: ExitStack) -> None:
        def file(part: str) -> BinaryIO:
            return stack.enter_context((folder / f"{name}.{part}").open("wb"))

        self._values, self._offsets, self._weights = file("values"), file("offsets"), file("weights")
        np.zeros(1, np.int64).tofile(self._offsets)
        self.total, self.weighted = 0, False

    def add(self, column: Ragged) -> None:
        first, last = int(column.offsets[0]), int(column.offsets[-1])
        np.asarray(column.values[first:last], np.int32).tofile(self._values)
        (column.offsets[1:].astype(np.int64) - first + self.total).tofile(self._offsets)
        self.total += last - first
        if column.weights is not None:
            self.weighted = True
            np.asarray(column.weights[first:last], np.float32).tofile(self._weights)


def _open_side(
    folder: Path, name: str, features: Sequence[Feature], stored: _Stored, pages: _Pages
) -> tuple[np.ndarray, dict[str, Ragged]]:
    records = pages.map(folder / f"{name}.records", _record_type(features), stored.rows)
    ragged = {
        feature.name: Ragged(
            pages.map(folder / f"{feature.name}.values", np.dtype(np.int32), stored.values[feature.name]),
            pages.map(folder / f"{feature.name}.offsets", np.dtype(np.int64), stored.rows + 1),
            pages.map(folder / f"{feature.name}.weights", np.dtype(np.float32), stored.values[feature.name])
            if stored.weighted[feature.name]
            else None,
        )
        for feature in _ragged(features)
    }
    return records, ragged


def _views(records: np.ndarray, ragged: Mapping[str, Ragged]) -> dict[str, Column]:
    columns: dict[str, Column] = {name: records[name] for name in records.dtype.names or ()}
    for name, column in ragged.items():
        # A column's offsets are int32 wherever it is used; only the file counts further.
        fits = int(column.offsets[-1]) < 2**31
        columns[name] = replace(column, offsets=column.offsets.astype(np.int32)) if fits else column
    return columns


def _sides(schema: Schema) -> tuple[tuple[str, tuple[Feature, ...]], ...]:
    return tuple(zip(_SIDES, (schema.request_features, schema.row_features), strict=True))


def _record_type(features: Sequence[Feature]) -> np.dtype:
    """Ids are int32, numbers float32 ``(width,)``."""
    return np.dtype(
        [
            (feature.name, np.float32, (feature.width,))
            if isinstance(feature, DenseFeature)
            else (feature.name, np.int32)
            for feature in features
            if feature.kind in ("categorical", "dense")
        ]
    )


def _ragged(features: Sequence[Feature]) -> list[Feature]:
    return [feature for feature in features if feature.kind in ("multi_hot", "sequence")]
