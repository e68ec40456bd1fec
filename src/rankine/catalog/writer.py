"""Writing a catalog: upsert, delete, fold the log into a new snapshot, derive columns anew. One writer at a time."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from rankine.artifact import Artifact
from rankine.catalog.change import Change, pack
from rankine.catalog.conform import conform
from rankine.catalog.derive import DerivedKey
from rankine.catalog.durable import sync_folder
from rankine.catalog.lock import writing
from rankine.catalog.log import append_record, cut
from rankine.catalog.prepare import Preparer
from rankine.catalog.reader import CatalogReader, log_of
from rankine.catalog.record import read_record
from rankine.catalog.snapshot import write_snapshot
from rankine.catalog.sweep import sweep
from rankine.catalog.view import View
from rankine.errors import ArtifactError, DataError

__all__ = ["CatalogWriter"]


class CatalogWriter:
    """The one writer of a catalog, from when it is opened until it is closed; a context manager.

    Every method that changes something returns the generation in which it is done, and returns only when that is on
    the disk. A crash before leaves the generation as a whole, or nothing of it.

    Raises:
        ArtifactError: there is no catalog, it is damaged, or somebody else is writing it.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        read_record(Artifact.open(self._path))  # before the lock file is made: not in a folder that is no catalog
        with ExitStack() as opening:
            opening.enter_context(writing(self._path))
            self._log = opening.enter_context(ExitStack())
            self._open()
            self._held = opening.pop_all()

    @property
    def generation(self) -> int:
        """The newest."""
        return self._end[1]

    @property
    def derived(self) -> frozenset[DerivedKey]:
        """Keys of the derived columns that the catalog holds: what items have to come with."""
        return frozenset(self._reader.view.derived)

    def upsert(self, change: Change) -> int:
        """Add or replace items in all their columns at once: what :meth:`Preparer.prepare` made, or a deletion.

        Raises:
            DataError: the items lack a feature that the catalog has, or have another one.
            ArtifactError: the catalog holds derived columns that the items lack, or the disk refused the record.
        """
        return self._append(conform(change, self._reader.view, self._path))

    def delete(self, item_ids: np.ndarray) -> int:
        """Delete items: int64 or UTF-8 bytes ``(n,)``; ids that the catalog does not have change nothing.

        Raises:
            DataError: the ids are of the other type, or there are none.
            ArtifactError: the disk refused the record.
        """
        return self._append(conform(Change(np.unique(item_ids)), self._reader.view, self._path))

    def compact(self) -> int:
        """Fold the log into a new snapshot of the same generation, and remove what it replaces.

        Readers go on with what they hold until they refresh.
        """
        view = self._refreshed()
        if view.generation > self._reader.record.generation:
            self._publish(None, view.generation)
        return self.generation

    def build(self, preparer: Preparer) -> int:
        """Derive all columns anew, for every item, as a new snapshot of the next generation; other ones are dropped.

        Raises:
            DataError: the catalog lacks a feature of the artifact, or holds a value that its transforms refuse.
        """
        view = self._refreshed()
        missing = [f.name for f in preparer.transforms.schema.catalog_features if f.name not in view.features]
        if missing:
            hint = "Write another catalog: `rankine catalog build` with --items."
            raise DataError(f"the catalog has no column '{missing[0]}'", where=str(self._path), hint=hint)
        self._publish(preparer, view.generation + 1)
        return self.generation

    def close(self) -> None:
        """Let another writer in."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        self._broken = True  # until all of this is done
        self._reader = CatalogReader(self._path)
        sync_folder(self._path)  # that this snapshot counts, before anything of the one before it goes
        sweep(self._path, self._reader.artifact.manifest, self._reader.record.generation)
        log = log_of(self._path, self._reader.record.generation)
        self._descriptor = os.open(log, os.O_RDWR | os.O_CREAT, 0o644)
        self._log.callback(os.close, self._descriptor)
        self._end = self._reader.end
        cut(self._descriptor, self._end)
        os.fsync(self._descriptor)  # whole records of a writer that ended before it had waited for the disk
        sync_folder(self._path)
        self._broken = False

    def _append(self, change: Change) -> int:
        self._check_usable()
        try:
            self._end = append_record(self._descriptor, self._end, pack(change))
        except OSError as error:
            # Whether the record is there is not known: only who reads the log again may write behind it.
            self._broken = True
            raise ArtifactError(
                "the record could not be written, and is not acknowledged",
                where=str(self._path),
                got=error.strerror,
                hint="See to room on the disk, and open the catalog again.",
            ) from error
        return self.generation

    def _refreshed(self) -> View:
        self._check_usable()
        return self._reader.refresh()

    def _check_usable(self) -> None:
        if self._broken:
            raise ArtifactError("this writer failed before", where=str(self._path), hint="Open the catalog again.")

    def _publish(self, preparer: Preparer | None, generation: int) -> None:
        """Write the newest items as the snapshot of ``generation``, and go on with its log."""
        view = replace(self._reader.view, generation=generation)
        name = self._reader.artifact.manifest.name
        self._broken = True  # until the catalog is open again: a record in the log of before might count for nothing
        write_snapshot(self._path, view, self._reader.record, name=name, preparer=preparer)
        self._log.close()
        self._open()
