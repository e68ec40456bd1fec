"""A catalog, its writers and its readers, when the disk, another process or a record stands in the way."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from rankine.catalog import CatalogReader, CatalogWriter
from rankine.catalog.log import append_record
from rankine.errors import ArtifactError
from unit.catalog_items import (
    advance,
    check_view,
    columns_of,
    values_of,
    write_first,
)


def test_second_writer_is_refused_when_one_is_open(tmp_path: Path) -> None:
    write_first(tmp_path / "c")
    with CatalogWriter(tmp_path / "c"), pytest.raises(ArtifactError, match=rf"being written.*process {os.getpid()}"):
        CatalogWriter(tmp_path / "c")
    with CatalogWriter(tmp_path / "c") as writer:
        assert writer.generation == 1


def test_no_file_is_left_behind_when_a_folder_is_no_catalog(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not an artifact"):
        CatalogWriter(tmp_path)
    assert not list(tmp_path.iterdir())


def test_reader_takes_the_new_snapshot_when_one_is_written_while_it_opens(tmp_path: Path) -> None:
    """The manifest of before, the files of after: what a reader sees that is overtaken between two of its steps."""
    made = write_first(tmp_path / "c")
    reader = CatalogReader(tmp_path / "c")
    with CatalogWriter(tmp_path / "c") as writer:
        advance(writer, made)
        writer.compact()
        check_view(reader.refresh(), made)
        shutil.copytree(tmp_path / "c", tmp_path / "copy", symlinks=True)
        advance(writer, made)
        writer.compact()
    for name in ("blobs", "files"):
        shutil.rmtree(tmp_path / "copy" / name)
        shutil.copytree(tmp_path / "c" / name, tmp_path / "copy" / name, symlinks=True)
    with pytest.raises(ArtifactError, match="missing"):  # nobody comes to complete it: refused, not misread
        CatalogReader(tmp_path / "copy")


def test_upsert_waits_for_the_disk_when_it_writes_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_first(tmp_path / "c")
    synced, real = [], os.fsync

    def sync(descriptor: int) -> None:
        real(descriptor)
        synced.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", sync)
    with CatalogWriter(tmp_path / "c") as writer:
        for number in range(3):
            writer.upsert(made.prepare(np.array([number]), columns_of([values_of(number, 1)])))
            log = (tmp_path / "c" / "log-1").stat()
            assert synced[-1] == (log.st_ino, log.st_size)


def test_everything_is_on_the_disk_when_a_snapshot_begins_to_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_first(tmp_path / "c")
    synced: set[int] = set()
    missed: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def replace(self: Path, target: Path) -> Path:
        if target.name == "manifest.json":
            written = [*(tmp_path / "c" / "blobs").iterdir(), tmp_path / "c" / "blobs", self]
            folders = [path for path in (tmp_path / "c" / "files").rglob("generation-2/**") if path.is_dir()]
            missed.extend(path.name for path in [*written, *folders] if path.stat().st_ino not in synced)
            assert folders
        return real_replace(self, target)

    with CatalogWriter(tmp_path / "c") as writer:
        advance(writer, made)
        for old in (tmp_path / "c" / "blobs").iterdir():
            synced.add(old.stat().st_ino)
        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(Path, "replace", replace)
        writer.compact()
    assert not missed
    assert (tmp_path / "c").stat().st_ino in synced


def test_catalog_is_what_it_was_when_the_disk_has_no_room_for_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_first(tmp_path / "c")
    left = [6]
    real = os.fsync

    def no_room(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with CatalogWriter(tmp_path / "c") as writer:
        advance(writer, made)
        with monkeypatch.context() as full:
            full.setattr(os, "fsync", no_room)
            with pytest.raises(ArtifactError, match=r"snapshot could not be written \(got No space left"):
                writer.compact()
        with pytest.raises(ArtifactError, match="this writer failed before"):
            advance(writer, made)
    with CatalogWriter(tmp_path / "c") as writer:
        advance(writer, made)
        assert not list((tmp_path / "c").rglob(".unfinished-*"))
        assert writer.compact() == 3
    check_view(CatalogReader(tmp_path / "c").view, made)


def test_view_stays_when_a_record_cannot_be_read_behind_a_new_snapshot(tmp_path: Path) -> None:
    made = write_first(tmp_path / "c")
    reader = CatalogReader(tmp_path / "c")
    with CatalogWriter(tmp_path / "c") as writer:
        advance(writer, made)
        writer.compact()
    descriptor = os.open(tmp_path / "c" / "log-2", os.O_RDWR)
    append_record(descriptor, (0, 2), b"no record\n")
    for _ in range(2):
        with pytest.raises(ArtifactError, match="log-2: generation 3: a record of the catalog's log cannot be read"):
            reader.refresh()
        check_view(reader.view, made)
        assert reader.view.generation == 1
    os.ftruncate(descriptor, 0)
    os.close(descriptor)
    assert reader.refresh().generation == 2
    check_view(reader.view, made)
