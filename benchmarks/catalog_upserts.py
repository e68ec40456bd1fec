"""Upserts of MovieLens-like items: how many a second of one core, with everything that a generation takes.

    python benchmarks/catalog_upserts.py [--data ml-1m] [--items 40000] [--out benchmarks/results/catalog-upserts.json]

Items have MovieLens' features (movie, year, genres); with --data they are the movies of MovieLens-1M, over and over.
Half of the upserted ids are new. An upsert encodes the items, derives what two variants store of each (one in float32,
one in INT8: the pooled embeddings and the first layer's partial sums, computed by NumPy in the place of a catalog
graph), writes the record and waits for the disk. Reported per number of items in an upsert, in seconds of processor
time (of all threads, user and system: what other processes do to the clock is no part of it) and of the clock, on which
the disk decides; and what it costs a reader to take the new generations up, to look 512 ids up, and the writer to fold
the log. Exit status 0 where upserts of 1,000 items take in at least 10,000 a second of processor time, else 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from rankine.catalog import CatalogReader, CatalogWriter, DerivedKey, Deriver, Preparer, build_catalog
from rankine.catalog.derive import Storage
from rankine.config import Frozen
from rankine.data.load import load_dataset
from rankine.data.movielens import MOVIELENS
from rankine.environment import environment
from rankine.models.columns import Column, Columns, Ragged, take
from rankine.models.transforms import Transforms

BAR_ITEMS_PER_S = 10_000
BAR_BATCH = 1_000
BATCHES = (1, 10, 100, 1_000, 10_000)
MOST_UPSERTS = 400
MOVIES = 3_883
GENRES = 18
DIM, HIDDEN = 16, 128


class Cost(Frozen):
    """Seconds of processor time and of the clock."""

    cpu_s: float
    wall_s: float


class UpsertCost(Frozen):
    """Upserts of ``batch`` items each; ``items_per_cpu_s`` counts all of ``prepare`` and ``commit``."""

    batch: int
    items: int
    prepare: Cost
    commit: Cost
    refresh: Cost
    items_per_cpu_s: float
    items_per_wall_s: float


class CatalogUpsertsResult(Frozen):
    """What was measured; sizes in bytes, of a log that holds the upserts of all batches."""

    schema_version: int = 1
    created: datetime
    data: str
    items_before: int
    items_after: int
    stored_floats: int
    upserts: tuple[UpsertCost, ...]
    log_bytes: int
    lookup_512_us: float
    compact: Cost
    bar_items_per_cpu_s: int = BAR_ITEMS_PER_S
    bar_batch: int = BAR_BATCH
    environment: Mapping[str, str | int | float]


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description="Items a second that a catalog takes in.")
    parser.add_argument("--data", help="folder with MovieLens-1M [default: made up items]")
    parser.add_argument("--items", type=int, default=40_000, help="items of each batch size, at most")
    parser.add_argument("--folder", type=Path, help="where the catalog is written")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rankine-upserts-", dir=options.folder) as scratch:
        result = measure(Path(scratch) / "catalog", options.data, options.items)
    for found in result.upserts:
        prepare, commit, refresh = (
            cost.cpu_s / found.items * 1e6 for cost in (found.prepare, found.commit, found.refresh)
        )
        print(
            f"{found.batch:6,} items an upsert: {found.items_per_cpu_s:10,.0f} items/s of processor time "
            f"({found.items_per_wall_s:8,.0f} by the clock); an item takes {prepare:.1f} us to prepare, "
            f"{commit:.1f} us to commit, {refresh:.1f} us to take up"
        )
    print(f"512 ids looked up in {result.lookup_512_us:.0f} us; compact {result.compact.cpu_s:.2f} s of processor time")
    if options.out is not None:
        options.out.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
    at_bar = next(found for found in result.upserts if found.batch == BAR_BATCH)
    return 0 if at_bar.items_per_cpu_s >= BAR_ITEMS_PER_S else 1


def measure(path: Path, data: str | None, items: int) -> CatalogUpsertsResult:
    """Fill a catalog with upserts of every size, and read it."""
    columns = movies(data)
    preparer = Preparer(fitted(columns), (deriver("wide", "float32"), deriver("small", "int8")))
    count = len(columns["movie"])
    build_catalog(path, preparer, np.arange(count), columns)
    reader = CatalogReader(path)
    before, start, upserts = len(reader.view), count // 2, []
    with CatalogWriter(path) as writer:
        for batch in BATCHES:
            total = min(items // batch, MOST_UPSERTS) * batch
            upserts.append(upsert(writer, reader, preparer, batches_of(columns, start, total, batch)))
            start += total // 2
        log_bytes = reader.end[0]
        lookup_us = look_up(reader)
        compact = timed(writer.compact)
    return CatalogUpsertsResult(
        created=datetime.now(UTC),
        data="made up" if data is None else "MovieLens-1M",
        items_before=before,
        items_after=len(reader.view),
        stored_floats=sum(sum(of.widths.values()) for of in preparer.derivers),
        upserts=tuple(upserts),
        log_bytes=log_bytes,
        lookup_512_us=lookup_us,
        compact=compact,
        environment=environment(),
    )


def upsert(
    writer: CatalogWriter, reader: CatalogReader, preparer: Preparer, batches: Iterator[tuple[np.ndarray, Columns]]
) -> UpsertCost:
    """Upsert all batches, the first of which warms up; then let a reader take all up at once."""
    prepare = commit = Cost(cpu_s=0, wall_s=0)
    items = batch = 0
    for number, (ids, columns) in enumerate(batches):
        begin = now()
        change = preparer.prepare(ids, columns)
        prepared = now()
        writer.upsert(change)
        if number:
            prepare, commit = added(prepare, since(begin, prepared)), added(commit, since(prepared, now()))
            items, batch = items + len(ids), len(ids)
    cpu_s, wall_s = prepare.cpu_s + commit.cpu_s, prepare.wall_s + commit.wall_s
    return UpsertCost(
        batch=batch,
        items=items,
        prepare=prepare,
        commit=commit,
        refresh=timed(reader.refresh),
        items_per_cpu_s=items / cpu_s,
        items_per_wall_s=items / wall_s,
    )


def look_up(reader: CatalogReader, repeats: int = 200) -> float:
    """Microseconds of processor time to find 512 random items of a view with a log behind its snapshot."""
    random = np.random.default_rng(0)
    known = reader.view.item_ids
    wanted = [random.choice(known, 512) for _ in range(repeats)]
    cost = timed(lambda: [reader.view.rows_of(ids) for ids in wanted])
    return cost.cpu_s / repeats * 1e6


def timed(work: Callable[[], object]) -> Cost:
    """What ``work`` takes."""
    begin = now()
    work()
    return since(begin, now())


def now() -> Cost:
    """Processor time of this process so far, all of its threads, user and system; and the clock."""
    return Cost(cpu_s=process_time(), wall_s=perf_counter())


def since(begin: Cost, end: Cost) -> Cost:
    return Cost(cpu_s=end.cpu_s - begin.cpu_s, wall_s=end.wall_s - begin.wall_s)


def added(one: Cost, other: Cost) -> Cost:
    return Cost(cpu_s=one.cpu_s + other.cpu_s, wall_s=one.wall_s + other.wall_s)


def movies(data: str | None) -> dict[str, Column]:
    """Raw columns of all movies: real ones, or made up in their likeness."""
    if data is not None:
        return dict(load_dataset(data).items)
    random = np.random.default_rng(0)
    names = np.array([f"Genre-{number}".encode() for number in range(GENRES)])
    lengths = random.integers(1, 4, MOVIES)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return {
        "movie": np.arange(1, MOVIES + 1),
        "year": random.integers(1920, 2001, MOVIES),
        "genres": Ragged(names[random.integers(0, GENRES, offsets[-1])], offsets),
    }


def fitted(columns: Columns) -> Transforms:
    """Transforms that know all these movies."""
    count = len(columns["movie"])
    request: dict[str, Column] = {
        feature.name: np.zeros(count, np.int64) if feature.dtype == "int64" else np.full(count, b"x")
        for feature in MOVIELENS.request_features
    }
    return Transforms.fit(MOVIELENS, {**request, **columns})


def deriver(variant: str, storage: Storage) -> Deriver:
    """Embeddings of a movie, its year and its genres side by side, and what a first layer makes of them."""
    random = np.random.default_rng(1)
    tables = [random.normal(size=(size, DIM)).astype(np.float32) for size in (MOVIES + 400, 200, 64)]
    weight = random.normal(size=(3 * DIM, HIDDEN)).astype(np.float32)

    def compute(items: Columns) -> Mapping[str, np.ndarray]:
        movie, year, genres = (items[name] for name in ("movie", "year", "genres"))
        if not isinstance(movie, np.ndarray) or not isinstance(year, np.ndarray) or not isinstance(genres, Ragged):
            raise TypeError("not the encoded columns of MovieLens")
        lengths = np.diff(genres.offsets)
        rows = np.repeat(np.arange(len(movie)), lengths)
        pooled = np.stack([np.bincount(rows, column, len(movie)) for column in tables[2][genres.values].T], axis=1)
        pooled /= np.maximum(lengths, 1)[:, None]
        embedded = np.concatenate([tables[0][movie], tables[1][year], pooled], axis=1).astype(np.float32)
        return {"embedded": embedded, "first": embedded @ weight}

    key = DerivedKey(variant=variant, graph="0" * 16, storage=storage)
    return Deriver(key, {"embedded": 3 * DIM, "first": HIDDEN}, compute)


def batches_of(columns: Columns, start: int, total: int, batch: int) -> Iterator[tuple[np.ndarray, Columns]]:
    """Ids and raw columns of ``total`` items in upserts of ``batch``: every other id is one that was never there."""
    count = len(columns["movie"])
    for first in range(0, total, batch):
        positions = np.arange(first, first + batch)
        ids = np.where(positions % 2, positions * 7 % (start or 1), 10**6 + start + positions // 2)
        yield np.unique(ids), take(columns, positions[: len(np.unique(ids))] % count)


if __name__ == "__main__":
    sys.exit(main())
