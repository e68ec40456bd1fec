"""The snapshot of a catalog: all items of one generation in mapped files, which nothing changes any more.

On disk a catalog is an artifact (stage ``catalog``) of its own, beside the model's::

    manifest.json                      the snapshot that counts: replaced as a whole when another is written
    files/catalog.json                 number of items, type of the ids, features and derived columns
    files/ids.npy                      external ids, sorted: int64, or UTF-8 bytes
    files/columns/<feature>.npy        one value (or one vector) an item, raw
    files/columns/<feature>.values.npy a ragged feature, with .offsets.npy and, if weighted, .weights.npy
    files/derived/<variant>/<graph>/<storage>/<column>.rows.npy, and for INT8 .scale.npy and .bias.npy
    log-<generation>                   the records after that snapshot

The names of a later snapshot begin with ``generation-<n>/``. Raw features are kept, so that one catalog serves every
artifact of a schema. Arrays are memory-mapped: processes share their pages.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from rankine.artifact import Artifact, Blob, Manifest
from rankine.catalog.column_files import write_columns
from rankine.catalog.durable import BlobFile, replace_file, sync_folder
from rankine.catalog.places import places_of
from rankine.catalog.prepare import Preparer
from rankine.catalog.record import (
    RECORD_FILE,
    DerivedRecord,
    SnapshotRecord,
    folder_of,
    mapped,
    read_column,
    read_record,
)
from rankine.catalog.segment import Segment
from rankine.catalog.view import View
from rankine.errors import ArtifactError

__all__ = ["read_snapshot", "write_snapshot"]


def read_snapshot(artifact: Artifact) -> tuple[View, SnapshotRecord]:
    """The snapshot in an opened artifact, and its record.

    Raises:
        ArtifactError: it is no catalog, or its columns do not fit together.
    """
    record, prefix = read_record(artifact)
    columns = {name: read_column(artifact, prefix, name, form) for name, form in record.features.items()}
    columns |= {name: read_column(artifact, prefix, name, "plain") for name in record.derived_names()}
    ids = mapped(artifact, f"{prefix}ids.npy")
    lengths = {"ids": len(ids)} | {name: len(column) for name, column in columns.items()}
    for name, length in lengths.items():
        if length != record.items:
            where = f"{artifact.path}: {name}"
            raise ArtifactError("has the wrong length", where=where, got=length, allowed=str(record.items))
    segment = Segment(ids, None, columns, record.items, places_of(ids))
    derived = {kept.key: kept.widths for kept in record.derived}
    return View(record.generation, (segment,), tuple(record.features), derived), record


def write_snapshot(
    folder: Path, view: View, record: SnapshotRecord, *, name: str, preparer: Preparer | None = None
) -> None:
    """Write the items of ``view`` as the snapshot that counts in ``folder``, all or nothing.

    A crash at any moment leaves the snapshot that counted before, or this one. Memory does not grow with the items.

    Args:
        folder: of the catalog, with or without a snapshot.
        view: gives the items; its generation is that of the snapshot.
        record: of what the ids are; the rest of it is written anew.
        name: of the catalog.
        preparer: derives all derived columns anew; None keeps those of ``view``.

    Raises:
        ArtifactError: the disk refused it.
    """
    try:
        files = _write_files(folder, view, record, preparer)
        replace_file(folder / "manifest.json", _manifest(name, files))
    except OSError as error:
        raise ArtifactError(
            "the snapshot could not be written",
            where=str(folder),
            got=error.strerror,
            hint="See to rights and to room for a second snapshot; the catalog is what it was.",
        ) from error


def _write_files(folder: Path, view: View, record: SnapshotRecord, preparer: Preparer | None) -> dict[str, Blob]:
    """Write all files of a snapshot, and wait until they are on the disk; the content of each."""
    prefix = folder_of(view.generation)
    blobs = folder / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    forms, found = write_columns(blobs, view, preparer)
    derivers = () if preparer is None else preparer.derivers
    kept = [(d.key, d.widths) for d in derivers] if preparer is not None else list(view.derived.items())
    written = SnapshotRecord(
        items=len(view),
        item_id=record.item_id,
        item_id_dtype=record.item_id_dtype,
        features=forms,
        generation=view.generation,
        derived=tuple(DerivedRecord(key=key, widths=widths) for key, widths in kept),
    )
    with closing(BlobFile(blobs, RECORD_FILE)) as file:
        file.write(written.model_dump_json(indent=2).encode())
        found[RECORD_FILE] = file.finish()
    sync_folder(blobs)
    files = {prefix + name: blob for name, blob in found.items()}
    _link_views(folder, files)
    return files


def _link_views(folder: Path, files: dict[str, Blob]) -> None:
    """Give the contents their readable names."""
    parents = {folder}
    for name, blob in files.items():
        view = folder / "files" / name
        view.parent.mkdir(parents=True, exist_ok=True)
        view.unlink(missing_ok=True)  # of a snapshot that a crash kept from counting
        view.symlink_to(os.path.relpath(folder / "blobs" / blob.sha256, view.parent))
        parents |= {parent for parent in view.parents if parent.is_relative_to(folder)}
    for parent in parents:
        sync_folder(parent)


def _manifest(name: str, files: dict[str, Blob]) -> bytes:
    from rankine import __version__

    content = "".join(f"{name}\0{blob.sha256}\n" for name, blob in sorted(files.items()))
    manifest = Manifest(
        name=name,
        version=hashlib.sha256(content.encode()).hexdigest()[:12],
        stage="catalog",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rankine_version=__version__,
        files=dict(sorted(files.items())),
    )
    return (manifest.model_dump_json(indent=1) + "\n").encode()
