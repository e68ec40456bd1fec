"""The delta log: a file of records that is only ever appended to, one record a generation.

A record is a frame, little-endian, and its content::

    magic "RKL1" | generation u64 | size of the content u64 | CRC-32 of the content u32 | CRC-32 of all before u32

A record counts when all of it is there and both sums are right. Since a writer waits for each record to be on the disk
before it writes the next, only the last one can be torn: what follows the last good record is cut when no good record
follows it, and is damage, which nobody may cut silently, when one does.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from rankine.errors import ArtifactError

__all__ = ["LogEnd", "Record", "append_record", "cut", "read_records"]

_MAGIC = b"RKL1"
_FRAME = struct.Struct("<4sQQII")
_SUMMED = _FRAME.size - 4

Record = tuple[int, bytes]
"""Generation and content."""
LogEnd = tuple[int, int]
"""Where a log was read to: offset in bytes after its last good record, and the generation of that."""


def append_record(descriptor: int, end: LogEnd, content: bytes) -> LogEnd:
    """Write the record of the next generation at ``end`` and wait until it is on the disk; the new end.

    Raises:
        OSError: it is not, as the system says. What was written of it may lie in the file, torn or whole.
    """
    offset, generation = end[0], end[1] + 1
    summed = _FRAME.pack(_MAGIC, generation, len(content), zlib.crc32(content), 0)[:_SUMMED]
    record = memoryview(summed + struct.pack("<I", zlib.crc32(summed)) + content)
    while record:
        written = os.pwrite(descriptor, record, offset)
        record, offset = record[written:], offset + written
    os.fsync(descriptor)
    return offset, generation


def cut(descriptor: int, end: LogEnd) -> None:
    """Remove what lies after ``end``, and wait until that is on the disk."""
    if os.fstat(descriptor).st_size > end[0]:
        os.ftruncate(descriptor, end[0])
        os.fsync(descriptor)


def read_records(path: Path, end: LogEnd) -> tuple[list[Record], LogEnd]:
    """The good records after ``end``, and the new end; none where there is no file.

    May run while a writer appends: what is there in part is not read.

    Raises:
        ArtifactError: the file is damaged before its last record, or is not the one that ``end`` is of.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return [], end
    try:
        # Asked first: what lies below the size was written whole, if ever, and a writer may go on meanwhile.
        size = os.fstat(descriptor).st_size
        if size < end[0]:
            raise ArtifactError("the log is shorter than it was", where=str(path), got=size, allowed=f">= {end[0]}")
        records = []
        for record, after in _good_records(descriptor, end, size, str(path)):
            records.append(record)
            end = after, record[0]
        _refuse_damage(descriptor, end, size, str(path))
    finally:
        os.close(descriptor)
    return records, end


def _good_records(descriptor: int, end: LogEnd, size: int, where: str) -> Iterator[tuple[Record, int]]:
    offset, generation = end
    while (found := _record_at(descriptor, offset, size)) is not None:
        (got, content), offset = found
        generation += 1
        if got != generation:
            hint = (
                "Records are missing: restore the catalog from a copy, or write it again with `rankine catalog build`."
            )
            raise ArtifactError("a generation is missing", where=where, got=got, allowed=str(generation), hint=hint)
        yield (got, content), offset


def _record_at(descriptor: int, offset: int, size: int) -> tuple[Record, int] | None:
    """The record at ``offset`` and where it ends, or None where no good one is."""
    if offset + _FRAME.size > size:
        return None
    frame = os.pread(descriptor, _FRAME.size, offset)
    magic, generation, length, content_sum, frame_sum = _FRAME.unpack(frame)
    start = offset + _FRAME.size
    if magic != _MAGIC or zlib.crc32(frame[:_SUMMED]) != frame_sum or start + length > size:
        return None
    content = _read(descriptor, length, start)
    return ((generation, content), start + length) if zlib.crc32(content) == content_sum else None


def _refuse_damage(descriptor: int, end: LogEnd, size: int, where: str) -> None:
    """Refuse a log in which a good record follows what is not one."""
    rest = _read(descriptor, size - end[0], end[0])
    at = rest.find(_MAGIC, 1)
    while at >= 0:
        if _record_at(descriptor, end[0] + at, size) is not None:
            raise ArtifactError(
                f"the log is damaged after generation {end[1]}, with good records behind",
                where=where,
                got=f"no record at byte {end[0]}",
                hint="Restore the catalog from a copy, or write it again with `rankine catalog build`.",
            )
        at = rest.find(_MAGIC, at + 1)


def _read(descriptor: int, length: int, offset: int) -> bytes:
    """``length`` bytes: one call gives at most 2 GiB."""
    parts = []
    while length > 0 and (part := os.pread(descriptor, min(length, 1 << 30), offset)):
        parts.append(part)
        length, offset = length - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
