"""Item tables that are sent once and referred to afterwards: the snapshot of a catalog, which no batch could carry.

Files are never sent: what is mapped from a file is mapped again by whoever gets its descriptor, and the rest is copied
into one nameless file. So all worker processes share the pages of one table, and a batch is always computed over the
very columns that it was resolved against, whatever became of the catalog since.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import msgspec
import numpy as np

from rankine.models.columns import Columns
from rankine.serving.isolation.frame import ColumnPlace, arrays_of, column_from, place_columns
from rankine.serving.isolation.region import Place, array_at, place_arrays

__all__ = ["Described", "SentTable", "Tables", "map_table"]

_MOST_FILES = 200
"""Descriptors of one message; the kernel's limit is 253."""
_KEPT = 2
"""Tables: the newest, and the one before it, for requests that were resolved against it."""


class _Part(msgspec.Struct, array_like=True, frozen=True):
    """An array of a table: in which of the files that come with it, and where there."""

    file: int
    place: Place


class Described(msgspec.Struct, array_like=True, frozen=True):
    """What is told of a table.

    Attributes:
        oldest: number of the oldest table that may still be referred to.
        columns: each with as many places as it has arrays; where those lie, ``parts`` say one after the other.
    """

    number: int
    oldest: int
    columns: tuple[ColumnPlace, ...]
    parts: tuple[_Part, ...]


@dataclass(frozen=True, eq=False)
class SentTable:
    """A table, ready to be sent to any number of processes.

    Attributes:
        columns: the front end's own, which name the table by their identity.
        oldest: number of the oldest table that may still be referred to.
        files: descriptors, to be sent with it; closed when nobody holds the table any more.
    """

    number: int
    oldest: int
    columns: Columns
    files: tuple[int, ...]
    described: bytes


class Tables:
    """The tables that batches may refer to; thread-safe."""

    def __init__(self) -> None:
        self._kept: tuple[SentTable, ...] = ()
        self._number = 0
        self._lock = Lock()

    def publish(self, columns: Columns) -> SentTable:
        """The table that holds these very columns, from now on the newest; it may take a while where they are many."""
        with self._lock:
            return self.find(columns) or self._made(columns)

    def find(self, columns: Columns) -> SentTable | None:
        """The table that holds these very columns; None where a batch has to bring them along."""
        # A tuple that is replaced, never changed: no lock to read it.
        return next((table for table in self._kept if table.columns is columns), None)

    def _made(self, columns: Columns) -> SentTable:
        self._number += 1
        files, parts = _files_of(arrays_of(columns))
        oldest = max(1, self._number - _KEPT + 1)
        places = place_columns(columns, iter([part.place for part in parts]))
        described = msgspec.msgpack.encode(Described(self._number, oldest, places, parts))
        table = SentTable(self._number, oldest, columns, files, described)
        weakref.finalize(table, _close, files)
        self._kept = (*self._kept[1 - _KEPT :], table)
        return table


def map_table(described: Described, files: Sequence[int]) -> Columns:
    """The columns, over the files that came with their description; these are closed."""
    memories = [mmap.mmap(fd, 0, prot=mmap.PROT_READ) for fd in files]
    for fd in files:
        os.close(fd)
    arrays = iter([array_at(memories[part.file], part.place) for part in described.parts])
    return {column.name: column_from([next(arrays) for _ in column.parts]) for column in described.columns}


def _close(files: Sequence[int]) -> None:
    for fd in files:
        os.close(fd)


def _files_of(arrays: Sequence[np.ndarray]) -> tuple[tuple[int, ...], tuple[_Part, ...]]:
    """Open files that hold the arrays, and where each lies: what is mapped from a file there, the rest in the first."""
    mapped = [_mapped(array) if at < _MOST_FILES else None for at, array in enumerate(arrays)]
    copied = [array for array, found in zip(arrays, mapped, strict=True) if found is None]
    places, end = place_arrays(copied, 0)
    files = [os.memfd_create("rankine-items", os.MFD_CLOEXEC)]
    os.ftruncate(files[0], max(end, 1))
    with mmap.mmap(files[0], max(end, 1)) as memory:
        for array, place in zip(copied, places, strict=True):
            array_at(memory, place)[...] = array
    left = iter(places)
    parts: list[_Part] = []
    for array, found in zip(arrays, mapped, strict=True):
        if found is None:
            parts.append(_Part(0, next(left)))
            continue
        parts.append(_Part(len(files), Place(array.dtype.str, array.shape, found[1])))
        files.append(found[0])
    return tuple(files), tuple(parts)


def _mapped(array: np.ndarray) -> tuple[int, int] | None:
    """An open file that holds the array, and the array's first byte in it; None where it lies in memory."""
    if not array.flags.c_contiguous or not array.nbytes:
        return None
    root: object = array
    while isinstance(root, np.ndarray) and not (isinstance(root, np.memmap) and isinstance(root.base, mmap.mmap)):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or root.mode != "r":
        return None
    offset = root.offset + array.ctypes.data - root.ctypes.data
    try:
        fd = os.open(Path(root.filename), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it has been replaced since it was mapped
        return None
    if os.fstat(fd).st_size < offset + array.nbytes:
        os.close(fd)
        return None
    return fd, offset
