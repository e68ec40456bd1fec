"""Kill a writer of a catalog again and again, and hold what is left against what it had acknowledged.

Run as a process of its own, because it forks: ``python catalog_crashes.py FOLDER KILLS SEED``. Each child is a real
process that opens the catalog, does operations, and tells of each through a pipe once it is acknowledged. It dies by
SIGKILL: from outside after a random time, or by its own hand at a random line of the store's code, so that every place
in upsert, deletion, build and compaction comes about. Then the catalog is opened and held against what the generation
that it is in must be. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import rankine.catalog
from rankine.catalog import CatalogReader, CatalogWriter, Preparer
from rankine.catalog.change import Change, pack
from unit.catalog_items import advance, check_view, write_first

STORE = str(Path(rankine.catalog.__file__).parent)
LONGEST_LINES = 9000
LONGEST_S = 0.12
COMPACT_EVERY = 3


def main(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill ``kills`` writers; where they died, and how far the catalog came."""
    random = np.random.default_rng(seed)
    path = folder / "catalog"
    made = write_first(path)
    acknowledged, unacknowledged = 1, 0
    places: Counter[str] = Counter()
    for kill in range(kills):
        if kill % 4 == 3:
            tear(path, random)
        by_hand = bool(random.random() < 0.7)
        last, place = killed_writer(path, made, random, by_hand=by_hand)
        places[place] += 1
        acknowledged = max(acknowledged, last)
        reader = CatalogReader(path)
        found = reader.view.generation
        if not acknowledged <= found <= acknowledged + 1:
            raise SystemExit(f"kill {kill} at {place}: acknowledged {acknowledged}, found {found}")
        unacknowledged += found - acknowledged
        acknowledged = found  # what was seen once must stay, too
        check_view(reader.view, made)
    with CatalogWriter(path) as writer:
        writer.compact()
    CatalogReader(path).artifact.verify()
    check_view(CatalogReader(path).view, made)
    return {"kills": kills, "generations": acknowledged, "unacknowledged": unacknowledged, "places": dict(places)}


def tear(path: Path, random: np.random.Generator) -> None:
    """Leave what a writer leaves that is killed inside of one write: a part of a record."""
    logs = sorted(path.glob("log-*"), key=lambda log: int(log.name.removeprefix("log-")))
    whole = pack(Change(np.arange(int(random.integers(1, 99)))))
    record = b"RKL1" + (10**6).to_bytes(8, "little") + len(whole).to_bytes(8, "little") + bytes(8) + whole
    if logs:
        with logs[-1].open("ab") as file:
            file.write(record[: random.integers(0, len(record))])


def killed_writer(path: Path, made: Preparer, random: np.random.Generator, *, by_hand: bool) -> tuple[int, str]:
    """Let a child write until it is killed; the last generation that it acknowledged (0: none), and where it died."""
    reading, writing = os.pipe()
    lines, wait_s = int(random.integers(1, LONGEST_LINES)), float(random.random() * LONGEST_S)
    child = os.fork()
    if child == 0:
        os.close(reading)
        work(path, made, writing, lines if by_hand else None)
    os.close(writing)
    if not by_hand:
        time.sleep(wait_s)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read().decode().splitlines()
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        raise SystemExit(f"the writer ended by itself, status {status}: {told[-1:]}")
    acknowledged = [int(line) for line in told if line.isdigit()]
    return max(acknowledged, default=0), next((line for line in told if line.startswith("at ")), "from outside")


def work(path: Path, made: Preparer, pipe: int, lines: int | None) -> None:
    """The child: operations without end; never returns."""
    try:
        if lines is not None:
            sys.settrace(killer(lines, pipe))
        with CatalogWriter(path) as writer:
            while True:
                os.write(pipe, b"%d\n" % advance(writer, made))
                if writer.generation % COMPACT_EVERY == 0:
                    writer.compact()
    except Exception as error:  # noqa: BLE001
        os.write(pipe, f"failed: {error!r}\n".encode())  # the parent ends the test with it
    os._exit(1)


def killer(lines: int, pipe: int) -> Any:
    """A trace function that kills this process at the given line of the store's code."""
    left = lines

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(STORE):
            return None
        if event == "line":
            left -= 1
            if left <= 0:
                os.write(pipe, f"at {Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
