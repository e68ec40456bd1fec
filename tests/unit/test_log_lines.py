"""Log lines go out in their order; where they cannot, they are dropped and told, and nobody waits."""

from __future__ import annotations

import json
import logging
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rankine.serving.log_lines import LineHandler


def _record(text: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, __file__, 1, text, None, None)


@pytest.fixture
def stuck_pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end of a pipe that is full."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    yield reading, writing
    for end in (reading, writing):
        os.close(end)


def test_lines_come_out_in_their_order_when_the_handler_is_closed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as out:
        handler = LineHandler(out.fileno())
        for number in range(500):
            handler.emit(_record(f"line {number}"))
        handler.close()
    assert (tmp_path / "log").read_text().splitlines() == [f"line {number}" for number in range(500)]


def test_nobody_waits_and_losses_are_told_when_the_reader_has_stopped(stuck_pipe: tuple[int, int]) -> None:
    reading, writing = stuck_pipe
    handler = LineHandler(writing, most_lines=10)
    for number in range(50):
        handler.emit(_record(f"line {number}"))  # would block for ever if it wrote
    taken = b""
    while b"could not be written" not in taken:
        taken += os.read(reading, 1 << 20)
    told = [line for line in taken.decode().lstrip("x").splitlines() if "could not be written" in line]
    assert json.loads(told[0])["lines"] >= 39  # ten wait, and one is being written
    handler.close()


def test_half_a_line_is_ended_and_the_rest_goes_on_when_a_disk_was_full(tmp_path: Path) -> None:
    path, before = tmp_path / "log", resource.getrlimit(resource.RLIMIT_FSIZE)
    with path.open("wb", buffering=0) as out:
        handler = LineHandler(out.fileno())
        out.write(b"a" * 90 + b"\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # Python ignores SIGXFSZ: writing fails
        try:
            handler.emit(_record("this line does not fit any more"))
            while not handler.lost:
                time.sleep(0.001)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        handler.emit(_record("this one does"))
        handler.close()
    _, torn, told, last = path.read_text().splitlines()
    assert torn == "this line"
    assert json.loads(told)["lines"] == 1
    assert last == "this one does"
