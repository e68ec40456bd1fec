"""Reading a catalog: open it, hold one generation, and take up what was written since when it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

from rankine.artifact import Artifact
from rankine.catalog.change import unpack
from rankine.catalog.log import LogEnd, read_records
from rankine.catalog.record import SnapshotRecord
from rankine.catalog.segment import segment_of
from rankine.catalog.snapshot import read_snapshot
from rankine.catalog.view import View
from rankine.errors import ArtifactError

__all__ = ["CatalogReader", "log_of"]

_ATTEMPTS = 5


class CatalogReader:
    """A catalog that is read while somebody may write it; neither waits for the other.

    ``view`` is one generation and stays as it is; :meth:`refresh`, called by one thread, puts a newer one in its place.
    Whoever needs one generation for several steps keeps the view, not the reader.

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

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._open()

    def refresh(self) -> View:
        """Take up what was committed since; costs a look at two files where nothing was.

        Raises:
            ArtifactError: the catalog is damaged; the view stays as it was.
        """
        if _version(self._path) != self._version:
            self._open()
        else:
            self._read_log(self.view)
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
                self.artifact, self.record, self._version, self._log = artifact, record, version, log
                self._take(view, records, end)
                return
        hint = "Compact less often."
        raise ArtifactError("the catalog is replaced faster than it is read", where=str(self._path), hint=hint)

    def _read_log(self, view: View) -> None:
        records, end = read_records(self._log, self.end)
        if records:
            self._take(view, records, end)

    def _take(self, view: View, records: list[tuple[int, bytes]], end: LogEnd) -> None:
        changes = [segment_of(unpack(content, f"{self._log}: generation {number}")) for number, content in records]
        self.view, self.end = view.after(changes, end[1]), end


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
