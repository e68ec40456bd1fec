"""Reading a catalog: open it, hold one generation, and take up what was written since when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rankine.artifact import Artifact
from rankine.catalog.change import unpack
from rankine.catalog.log import LogEnd, Record, read_records
from rankine.catalog.record import SnapshotRecord
from rankine.catalog.segment import Segment, merge, segment_of
from rankine.catalog.snapshot import read_snapshot
from rankine.catalog.view import View
from rankine.errors import ArtifactError
from rankine.models.columns import Columns

__all__ = ["CatalogReader", "Encode", "log_of"]

_ATTEMPTS = 5

Encode = Callable[[Columns], Columns]
"""Stored columns of some items, raw and derived, to those of a view: one row an item, each for itself."""


class CatalogReader:
    """A catalog that is read while somebody may write it; neither waits for the other.

    ``view`` is one generation and stays as it is; :meth:`refresh`, called by one thread, puts a newer one in its place.
    Whoever needs one generation for several steps keeps the view, not the reader.

    Args:
        path: of the catalog.
        encode: what becomes of the columns of items, once, when they are read: what it gives takes the place of all of
            them in views. It is for servers, which would else encode the same items at every request.

    Attributes:
        artifact: of the snapshot.
        record: of the snapshot.
        view: the generation that was read last.
        end: where the log was read to.

    Raises:
        ArtifactError: there is no catalog, or it is damaged.
    """

    artifact: Artifact
    record: SnapshotRecord
    view: View
    end: LogEnd

    def __init__(self, path: Path | str, *, encode: Encode | None = None) -> None:
        self._path, self._encode = Path(path), encode
        self._open()

    def refresh(self) -> View:
        """Take up what was committed since; costs a look at two files where nothing was.

        Raises:
            ArtifactError: the catalog is damaged; the view stays as it was.
        """
        if _version(self._path) != self._version:
            self._open()
        else:
            records, end = read_records(self._log, self.end)
            if records:
                self.view, self.end = self._after(self.view, records, self._log), end
        return self.view

    def _open(self) -> None:
        for _ in range(_ATTEMPTS):
            version = _version(self._path)
            try:
                artifact = Artifact.open(self._path)
                view, record = read_snapshot(artifact)
                log = log_of(self._path, record.generation)
                records, end = read_records(log, (0, record.generation))
            except ArtifactError:
                if _version(self._path) == version:
                    raise
                continue
            # Else a new snapshot took the place of this one while it was read, and its log may be gone already.
            if _version(self._path) == version:
                first = replace(view, segments=tuple(map(self._encoded, view.segments)))
                self.view, self.end = self._after(first, records, log), end
                self.artifact, self.record, self._version, self._log = artifact, record, version, log
                return
        hint = "Compact less often."
        raise ArtifactError("the catalog is replaced faster than it is read", where=str(self._path), hint=hint)

    def _after(self, view: View, records: list[Record], log: Path) -> View:
        """The view after these records of its log."""
        if not records:
            return view
        changes = [segment_of(unpack(content, f"{log}: generation {number}")) for number, content in records]
        return view.after([self._encoded(merge(changes))], records[-1][0])

    def _encoded(self, segment: Segment) -> Segment:
        if self._encode is None or not segment.columns:
            return segment
        return replace(segment, columns=self._encode(segment.columns))


def log_of(folder: Path, generation: int) -> Path:
    """The log of the records after the snapshot of a generation."""
    return folder / f"log-{generation}"


def _version(folder: Path) -> tuple[int, int, int] | None:
    """What is another after each snapshot; None where there is no catalog."""
    try:
        found = os.stat(folder / "manifest.json")
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
