"""The delta log, byte by byte: torn at every length, damaged at every place."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from rankine.catalog import CatalogReader, CatalogWriter, log, write_catalog
from rankine.catalog.change import Change, pack, unpack
from rankine.errors import ArtifactError
from rankine.models.columns import Ragged
from rankine.models.schema import CategoricalFeature, MultiHotFeature, Schema

SCHEMA = Schema(
    features=(CategoricalFeature(name="brand", side="item"), MultiHotFeature(name="tags", side="item")), item_id="sku"
)
STATES = ({1: 10, 2: 20}, {1: 10, 2: 21, 3: 30}, {2: 21, 3: 30}, {2: 22, 3: 30, 4: 40})
"""Brands by id in generations 1 to 4: an upsert, a deletion, an upsert."""


def change(items: dict[int, int]) -> Change:
    numbers = np.array(list(items))
    brand = np.array(list(items.values()))
    return Change(numbers, {"brand": brand, "tags": Ragged.from_lists([[b, b + 1] for b in brand.tolist()])})


def written(folder: Path) -> tuple[Path, list[int]]:
    """A catalog of four generations, and where the records of its log end."""
    first = change(dict(STATES[0]))
    write_catalog(folder, SCHEMA, first.ids, first.columns or {})
    ends = [0]
    with CatalogWriter(folder) as writer:
        for step in (lambda: writer.upsert(change({2: 21, 3: 30})), lambda: writer.delete(np.array([1]))):
            step()
            ends.append((folder / "log-1").stat().st_size)
        writer.upsert(change({4: 40, 2: 22}))
    return folder / "log-1", [*ends, (folder / "log-1").stat().st_size]


def brands(reader: CatalogReader) -> dict[int, int]:
    view = reader.view
    columns = view.take(view.item_rows)
    tags = columns["tags"]
    assert isinstance(tags, Ragged)
    assert tags.values.reshape(-1, 2).tolist() == [
        [brand, brand + 1] for brand in np.asarray(columns["brand"]).tolist()
    ]
    return dict(zip(view.item_ids.tolist(), np.asarray(columns["brand"]).tolist(), strict=True))


def test_log_gives_whole_generations_only_when_it_is_cut_at_any_byte(tmp_path: Path) -> None:
    path, ends = written(tmp_path / "c")
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        records, end = log.read_records(path, (0, 1))
        generations = sum(length >= offset for offset in ends)
        assert [number for number, _ in records] == list(range(2, generations + 1))
        assert end == (ends[generations - 1], generations)


def test_catalog_opens_and_goes_on_when_its_last_record_is_cut_at_any_byte(tmp_path: Path) -> None:
    path, ends = written(tmp_path / "c")
    whole = path.read_bytes()
    for length in range(ends[2], ends[3]):
        path.write_bytes(whole[:length])
        reader = CatalogReader(tmp_path / "c")
        assert (reader.view.generation, brands(reader)) == (3, STATES[2])
        if length % 8 == 0:  # slower: it waits for the disk
            with CatalogWriter(tmp_path / "c") as writer:
                assert path.stat().st_size == ends[2]
                assert writer.upsert(change({9: 90})) == 4
            reader.refresh()
            assert (reader.view.generation, brands(reader)) == (4, {**STATES[2], 9: 90})


@pytest.mark.parametrize("tail", [b"\0" * 700, b"RKL1" * 40, b"\xff" * 29])
def test_tail_is_cut_when_power_was_lost_before_the_disk_had_it(tmp_path: Path, tail: bytes) -> None:
    path, ends = written(tmp_path / "c")
    with path.open("ab") as file:
        file.write(tail)
    reader = CatalogReader(tmp_path / "c")
    assert brands(reader) == STATES[3]
    with CatalogWriter(tmp_path / "c") as writer:
        assert path.stat().st_size == ends[3]
        assert writer.delete(np.array([4])) == 5
    reader.refresh()
    assert brands(reader) == {2: 22, 3: 30}


def test_log_is_refused_when_any_byte_before_its_last_record_is_another(tmp_path: Path) -> None:
    path, ends = written(tmp_path / "c")
    whole = path.read_bytes()
    for at in range(ends[2]):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(ArtifactError, match=r"log is damaged after generation [12], with good records behind"):
            log.read_records(path, (0, 1))


def test_last_record_does_not_count_when_any_byte_of_it_is_another(tmp_path: Path) -> None:
    path, ends = written(tmp_path / "c")
    whole = path.read_bytes()
    for at in range(ends[2], ends[3]):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        records, end = log.read_records(path, (0, 1))
        assert (len(records), end) == (2, (ends[2], 3))


def test_log_is_refused_when_a_generation_is_missing(tmp_path: Path) -> None:
    path, ends = written(tmp_path / "c")
    whole = path.read_bytes()
    path.write_bytes(whole[: ends[1]] + whole[ends[2] :])
    with pytest.raises(ArtifactError, match=r"a generation is missing \(got 4; allowed: 3\)"):
        CatalogReader(tmp_path / "c")


def test_log_is_refused_when_it_became_shorter_than_it_was_read(tmp_path: Path) -> None:
    path, ends = written(tmp_path / "c")
    reader = CatalogReader(tmp_path / "c")
    os.truncate(path, ends[1])
    with pytest.raises(ArtifactError, match="shorter than it was"):
        reader.refresh()
    assert brands(reader) == STATES[3]


def test_record_is_refused_when_its_content_is_not_ours(tmp_path: Path) -> None:
    path, ends = written(tmp_path / "c")
    descriptor = os.open(path, os.O_RDWR)
    log.append_record(descriptor, (ends[3], 4), b'{"something": "else"}\n')
    os.close(descriptor)
    with pytest.raises(ArtifactError, match=r"log-1: generation 5: a record of the catalog's log cannot be read"):
        CatalogReader(tmp_path / "c")


def test_upsert_is_not_acknowledged_when_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "c")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with CatalogWriter(tmp_path / "c") as writer:
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", refuse)
            with pytest.raises(ArtifactError, match=r"not acknowledged \(got Input/output error"):
                writer.upsert(change({5: 50}))
        for again in (lambda: writer.upsert(change({6: 60})), writer.compact):
            with pytest.raises(ArtifactError, match="this writer failed before"):
                again()
    with CatalogWriter(tmp_path / "c") as writer:  # the record was whole in the file: it may count, or not
        assert writer.generation in (4, 5)
        assert writer.upsert(change({6: 60})) == writer.generation


def test_writer_goes_on_when_room_is_back_after_a_record_was_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ends = written(tmp_path / "c")
    real = os.pwrite

    def no_room(descriptor: int, content: bytes, offset: int) -> int:
        if offset > ends[3]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, bytes(content)[:50], offset)

    with CatalogWriter(tmp_path / "c") as writer, monkeypatch.context() as full:
        full.setattr(os, "pwrite", no_room)
        with pytest.raises(ArtifactError, match="No space left"):
            writer.upsert(change({5: 50}))
    assert path.stat().st_size == ends[3] + 50
    with CatalogWriter(tmp_path / "c") as writer:
        assert writer.upsert(change({6: 60})) == 5
    assert brands(CatalogReader(tmp_path / "c")) == {**STATES[3], 6: 60}


def test_content_is_what_it_was_when_packed_and_unpacked() -> None:
    columns = {
        "plain": np.arange(6, dtype=np.float16).reshape(3, 2),
        "text": np.array([b"a", b"longer", b""]),
        "lists": Ragged(np.array([7, 8]), np.array([0, 0, 2, 2], np.int32), np.array([0.5, 1], np.float32)),
        "none": np.zeros((3, 0), np.float32),
    }
    found = unpack(pack(Change(np.array([5, 3, 4]), columns)), "here")
    assert found.ids.tolist() == [5, 3, 4]
    assert found.columns is not None
    assert list(found.columns) == list(columns)
    for name, column in columns.items():
        got = found.columns[name]
        if isinstance(column, Ragged):
            assert isinstance(got, Ragged)
            assert got.weights is not None
            assert (got.values.tolist(), got.offsets.tolist(), got.weights.tolist()) == ([7, 8], [0, 0, 2, 2], [0.5, 1])
        else:
            assert isinstance(got, np.ndarray)
            assert (got.dtype, got.shape, got.tolist()) == (column.dtype, column.shape, column.tolist())
    assert unpack(pack(Change(np.array([b"x"]))), "here").columns is None


def test_copy_opens_when_the_log_is_missing(tmp_path: Path) -> None:
    path, _ = written(tmp_path / "c")
    shutil.copytree(tmp_path / "c", tmp_path / "d", symlinks=True)
    (tmp_path / "d" / path.name).unlink()
    assert brands(CatalogReader(tmp_path / "d")) == STATES[0]
