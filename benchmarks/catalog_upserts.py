"""Upserts of items: how many a second of one core, with everything that a generation takes.

    python benchmarks/catalog_upserts.py ARTIFACT --data ml-1m [--items 40000] [--out FILE]

ARTIFACT was compiled: what its variants store of an item is what their catalog graphs compute, all of them in every
upsert. Items are those of the data, over and over; half of the upserted ids are new. An upsert encodes the items, runs
the catalog graphs, writes the record and waits for the disk. Reported per number of items in an upsert, in seconds of
processor time (of all threads, user and system: what other processes do to the clock is no part of it) and of the
clock, on which the disk decides; and what it costs a reader to take the new generations up, to look 512 ids up, and the
writer to fold the log. Exit status 0 where upserts of 1,000 items take in at least 10,000 a second of processor time,
else 1.

About a minute on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from script import existing_artifact, existing_folder, new_file, run_script

from rankine.artifact import Artifact
from rankine.catalog import CatalogReader, CatalogWriter, Preparer, build_catalog
from rankine.catalog.derivers import derivers_of
from rankine.config import Frozen
from rankine.data.load import load_dataset
from rankine.environment import environment
from rankine.models.columns import Columns, row_count, take
from rankine.models.transforms import Transforms

BAR_ITEMS_PER_S = 10_000
BAR_BATCH = 1_000
BATCHES = (1, 10, 100, 1_000, 10_000)
MOST_UPSERTS = 400


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

    schema_version: int = 2
    created: datetime
    data: str
    variants: tuple[str, ...]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=existing_artifact, help="a compiled artifact")
    parser.add_argument("--data", required=True, help="its data, as for `rankine train`")
    parser.add_argument("--items", type=int, default=40_000, help="items of each batch size, at most")
    parser.add_argument(
        "--folder", type=existing_folder, help="where the catalog is written [default: the temporary folder]"
    )
    parser.add_argument("--out", type=new_file, help="result file [default: none is written]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rankine-upserts-", dir=options.folder) as scratch:
        result = measure(Path(scratch) / "catalog", Artifact.open(options.artifact), options.data, options.items)
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


def measure(path: Path, artifact: Artifact, data: str, items: int) -> CatalogUpsertsResult:
    """Fill a catalog with upserts of every size, and read it."""
    dataset = load_dataset(data)
    columns = {feature.name: dataset.items[feature.name] for feature in dataset.schema.catalog_features}
    preparer = Preparer(Transforms.read(artifact), derivers_of(artifact))
    count = len(dataset.item_ids)
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
        data=dataset.name,
        variants=tuple(str(deriver.key) for deriver in preparer.derivers),
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


def batches_of(columns: Columns, start: int, total: int, batch: int) -> Iterator[tuple[np.ndarray, Columns]]:
    """Ids and raw columns of ``total`` items in upserts of ``batch``: every other id is one that was never there."""
    count = row_count(columns)
    for first in range(0, total, batch):
        positions = np.arange(first, first + batch)
        ids = np.where(positions % 2, positions * 7 % (start or 1), 10**6 + start + positions // 2)
        yield np.unique(ids), take(columns, positions[: len(np.unique(ids))] % count)


if __name__ == "__main__":
    run_script(main)
