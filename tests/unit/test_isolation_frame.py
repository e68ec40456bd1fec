"""Batches and tables of items on their way to a worker process: what arrives is what was sent."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from e2e.small_served import ITEMS, encoded_batch
from rankine.errors import ArtifactError, BadRequest, EngineError
from rankine.models.columns import Batch, Columns, Ragged
from rankine.serving.isolation.frame import NO_TABLE, compacted, pack, unpack
from rankine.serving.isolation.messages import Told, decode_error, encode_error, receive, send
from rankine.serving.isolation.pace import Pace, is_slow
from rankine.serving.isolation.region import Region
from rankine.serving.isolation.tables import Described, SentTable, Tables, map_table
from unit.numpy_served import expected_logits

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="worker processes need Linux")


@pytest.fixture
def sides() -> Iterator[tuple[Region, Region]]:
    """The front end's view of one region, and a worker's."""
    mine = Region()
    theirs = Region(os.dup(mine.fd))
    yield mine, theirs
    mine.close()
    theirs.close()


def assert_same(one: Columns, other: Columns) -> None:
    assert list(one) == list(other)
    for name, column in one.items():
        found = other[name]
        if isinstance(column, Ragged):
            assert isinstance(found, Ragged)
            assert (column.weights is None) == (found.weights is None)
            pairs = [(column.values, found.values), (column.offsets, found.offsets)]
            pairs += [] if column.weights is None or found.weights is None else [(column.weights, found.weights)]
        else:
            assert isinstance(found, np.ndarray)
            pairs = [(column, found)]
        for a, b in pairs:
            assert b.dtype == a.dtype
            assert b.flags.c_contiguous
            np.testing.assert_array_equal(a, b)


def weighted(batch: Batch) -> Batch:
    """The same with weights on a history, and a column that is not contiguous."""
    recent = batch.request["recent"]
    assert isinstance(recent, Ragged)
    weights = np.linspace(0.5, 2, len(recent.values), dtype=np.float32)
    age = np.asfortranarray(np.asarray(batch.request["age"]))
    assert not age.flags.c_contiguous
    return replace(batch, request={**batch.request, "recent": replace(recent, weights=weights), "age": age})


def test_batch_arrives_as_it_was_when_it_is_packed(sides: tuple[Region, Region]) -> None:
    mine, theirs = sides
    batch = weighted(encoded_batch(50, 1))
    out = np.empty((50, 2), np.float32)
    logits, start, length = pack(mine, batch, rung=3, out=out)
    frame, found, there = unpack(theirs, start, length)
    assert (frame.rung, frame.table) == (3, NO_TABLE)
    for side in ("request", "item", "pair"):
        assert_same(getattr(batch, side), getattr(found, side))
    np.testing.assert_array_equal(found.request_index, batch.request_index)
    np.testing.assert_array_equal(found.item_index, batch.item_index)
    there[...] = 7.0
    assert logits.shape == (50, 2)
    assert (logits == 7.0).all()


def test_batch_arrives_when_the_memory_had_to_grow(sides: tuple[Region, Region]) -> None:
    mine, theirs = sides
    before = mine.size_bytes
    big = Batch({}, {}, {"x": np.arange(before, dtype=np.float64)[:, None]}, *[np.zeros(before, np.int32)] * 2)
    _, start, length = pack(mine, big, rung=0, out=np.empty((1, 1), np.float32))
    assert mine.size_bytes > before
    theirs.follow()
    np.testing.assert_array_equal(np.asarray(unpack(theirs, start, length)[1].pair["x"]), np.asarray(big.pair["x"]))


def test_batch_without_rows_or_columns_arrives_when_it_is_packed(sides: tuple[Region, Region]) -> None:
    mine, theirs = sides
    nothing = np.zeros(0, np.int32)
    _, start, length = pack(mine, Batch({}, {}, {}, nothing, nothing), rung=0, out=np.empty((0, 1), np.float32))
    _, found, out = unpack(theirs, start, length)
    assert found.rows == 0
    assert out.shape == (0, 1)


def test_compacted_batch_scores_the_same_when_the_table_is_larger() -> None:
    batch = encoded_batch(40, 2)
    small = compacted(batch)
    assert max(len(column) for column in small.item.values()) <= 40 < ITEMS
    np.testing.assert_array_equal(expected_logits(small), expected_logits(batch))


def test_compacted_is_the_batch_itself_when_the_table_is_small() -> None:
    batch = encoded_batch(2 * ITEMS, 2)
    assert compacted(batch) is batch


@pytest.mark.parametrize("wrong", [-1, ITEMS])
def test_compacted_names_the_index_when_it_is_out_of_range(wrong: int) -> None:
    batch = encoded_batch(3, 2)
    with pytest.raises(BadRequest, match=f"got {wrong}"):
        compacted(replace(batch, item_index=np.array([0, wrong, 1], np.int32)))


def mapped(table: SentTable) -> Columns:
    """As a worker process has it."""
    described = msgspec.msgpack.decode(table.described, type=Described)
    assert described.number == table.number
    return map_table(described, [os.dup(fd) for fd in table.files])


def test_table_arrives_as_it_was_when_some_columns_are_mapped_files(tmp_path: Path) -> None:
    np.save(tmp_path / "stored.npy", np.arange(600, dtype=np.float16).reshape(300, 2))
    stored = np.lib.format.open_memmap(tmp_path / "stored.npy", mode="r")
    columns = {**encoded_batch(3, 2).item, "stored": stored, "part": np.asarray(stored)[100:200]}
    table = Tables().publish(columns)
    assert len(table.files) == 3  # what lies in memory shares one, each mapped column has its own
    found = mapped(table)
    assert_same(columns, found)
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(found["stored"])[0] = 1


def test_table_arrives_as_it_was_when_its_file_is_gone(tmp_path: Path) -> None:
    np.save(tmp_path / "stored.npy", np.arange(300, dtype=np.float32)[:, None])
    columns = {"stored": np.lib.format.open_memmap(tmp_path / "stored.npy", mode="r")}
    (tmp_path / "stored.npy").unlink()
    table = Tables().publish(columns)
    assert_same(columns, mapped(table))


def test_table_is_sent_once_and_the_one_before_it_stays_when_a_new_one_comes() -> None:
    first, second, third = (dict(encoded_batch(3, seed).item) for seed in (1, 2, 3))
    tables = Tables()
    found = tables.publish(first)
    assert tables.publish(first) is found
    assert tables.find(first) is found
    assert tables.find(second) is None  # a batch brings what it uses of it
    newer = tables.publish(second)
    assert tables.find(first) is found
    assert tables.publish(third).oldest == newer.number
    assert tables.find(first) is None


def test_files_are_closed_when_nobody_holds_their_table() -> None:
    tables = Tables()
    [fd] = tables.publish({"x": np.zeros((4, 1), np.float32)}).files
    os.fstat(fd)
    for _ in range(2):
        tables.publish({"x": np.zeros((4, 1), np.float32)})
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("id out of range", where="slot", got=9, allowed="0..8", hint="Look."),
        ArtifactError("is another", where="here"),
        EngineError("failed"),
    ],
)
def test_error_arrives_as_it_was_when_the_engine_raised_it(error: EngineError) -> None:
    found = decode_error(encode_error(error))
    assert type(found) is type(error)
    assert found.as_dict() == error.as_dict()


def test_error_arrives_as_an_engine_error_when_a_library_raised_it() -> None:
    found = decode_error(encode_error(ZeroDivisionError("x" * 10_000)))
    assert type(found) is EngineError
    assert "ZeroDivisionError" in str(found)
    assert len(str(found)) < 5000


def test_message_arrives_with_its_files_until_the_other_side_is_gone() -> None:
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    region = Region()
    send(mine, Told.TABLE, 5, 1 << 40, (region.fd,))
    found = receive(theirs)
    assert found is not None
    told, start, length, files = found
    assert (told, start, length) == (Told.TABLE, 5, 1 << 40)
    assert os.fstat(files[0]).st_ino == os.fstat(region.fd).st_ino
    os.close(files[0])
    region.close()
    mine.close()
    assert receive(theirs) is None
    theirs.close()


def paced(ratio: float, batches: int = 100) -> Pace:
    pace = Pace()
    for _ in range(batches):
        pace.observe(0.001 * ratio, 0.001)
    return pace


@pytest.mark.parametrize(
    ("mine", "others", "slow"),
    [
        (paced(4.0), [paced(1.0), paced(1.1)], True),
        (paced(2.0), [paced(1.0), paced(1.1)], False),
        (paced(4.0), [paced(3.0), paced(3.0)], False),  # all are: it is the machine
        (paced(4.0), [], False),
        (paced(4.0), [paced(1.0, batches=3)], False),
        (paced(4.0, batches=3), [paced(1.0)], False),
    ],
)
def test_worker_is_slow_only_when_others_are_not(mine: Pace, others: list[Pace], slow: bool) -> None:
    assert is_slow(mine, others) is slow


def test_pace_forgets_when_batches_are_as_predicted_again() -> None:
    pace = paced(5.0)
    assert pace.ratio == pytest.approx(5.0)
    for _ in range(100):
        pace.observe(0.001, 0.001)
    assert pace.ratio < 1.1
