"""Parquet and CSV tables that are larger than memory: the same rows as :func:`load_table` reads, in chunks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankine.artifact import sha256_of
from rankine.data import arrow
from rankine.data.dataset import draw_rows, split_rows
from rankine.data.flat import Flat, column_roles, read_flat
from rankine.data.stream import DEFAULT_CHUNK_ROWS, StreamedDataset
from rankine.data.table_files import table_files, table_name
from rankine.errors import DataError
from rankine.models.columns import Column, concat, take
from rankine.models.schema import Feature, Schema

__all__ = ["stream_table"]

_BYTES_A_ROW = 256  # of CSV, about
_ROW = re.compile(r"row (\d+)$")


def stream_table(
    source: Path | str | Sequence[Path | str],
    schema: Schema,
    *,
    rows: int | None = None,
    seed: int = 0,
    chunk_rows: int = DEFAULT_CHUNK_ROWS,
) -> StreamedDataset:
    """Interactions from ``.parquet`` or ``.csv`` files, as :func:`~rankine.data.tabular.load_table` reads them, but
    never all at once.

    The files are read once here (twice, where items have features), once to fit transforms, and once to encode them.
    Other than there, every row is a request of its own, and ``item_conflicts`` are not counted.

    Args:
        source: a file, a folder (its files of one kind, in the order of their names), or several files.
        schema: names the columns; all must be there.
        rows: keep at most this many interactions, chosen at random by ``seed``; items stay as they are.
        chunk_rows: most rows that are in memory at once.

    Raises:
        DataError: a file cannot be read, or names the column (and where it can, the row) that does not fit the schema.
    """
    paths = table_files(source)
    files = _TableFiles(tuple(paths), schema, chunk_rows)
    ids, users = _Numbers(), _Numbers()
    labels, times = [np.zeros((0, len(schema.tasks)), np.float32)], []
    for flat in files.flat(()):
        labels.append(flat.labels)
        ids.add(flat.item_ids)
        if flat.groups is not None:
            users.add(flat.groups)
        if flat.timestamps is not None:
            times.append(flat.timestamps)
    count = sum(map(len, labels))
    if not count:
        raise DataError("has no rows", where=str(paths[0]))
    item_ids, item_index = ids.sorted()
    groups = users.sorted()[1].astype(np.int64) if schema.group is not None else None
    timestamps = np.concatenate(times) if times else None
    kept = draw_rows(count, rows, seed)
    time_of, group_of = (None if part is None else part[kept] for part in (timestamps, groups))
    train = kept[split_rows(schema.split, len(kept), time_of, group_of).train]
    dataset = StreamedDataset.of_source(
        files,
        name=table_name(source),
        schema=schema,
        labels=np.concatenate(labels),
        item_ids=item_ids,
        item_index=item_index,
        items=_items(files, item_index, len(item_ids), train),
        groups=groups,
        timestamps=timestamps,
        provenance={
            "source": ", ".join(path.name for path in paths),
            "sha256": ", ".join(sha256_of(path) for path in paths),
            "rows": str(count),
            "items": str(len(item_ids)),
            "read": "streamed",
        },
    )
    return dataset.subset(rows, seed)


@dataclass(frozen=True)
class _TableFiles:
    """Files of one kind as a source of chunks."""

    paths: tuple[Path, ...]
    schema: Schema
    chunk_rows: int

    def chunks(self, features: Sequence[Feature]) -> Iterator[dict[str, Column]]:
        """Raw columns of the features, at most ``chunk_rows`` rows at once."""
        for flat in self.flat(features):
            yield dict(flat.features)

    def flat(self, features: Sequence[Feature]) -> Iterator[Flat]:
        """The same with what is one number a row: ids, labels, groups and times."""
        part = self.schema.model_copy(update={"features": tuple(features)})
        roles = column_roles(part)
        for path in self.paths:
            start = 0
            for batch in _batches(path, roles, self.chunk_rows):
                raw = {name: batch.column(name) for name in roles}
                try:
                    yield read_flat(raw, part, source=str(path))
                except DataError as error:
                    raise _moved(error, start) from None
                start += batch.num_rows


class _Numbers:
    """Numbers for values as they come, kept once each, so that rows cost four bytes whatever their ids are."""

    def __init__(self) -> None:
        self._numbers: dict[int | bytes, int] = {}
        self._parts: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        distinct, index = np.unique(values, return_inverse=True)
        numbers = [self._numbers.setdefault(value, len(self._numbers)) for value in distinct.tolist()]
        self._parts.append(np.array(numbers, np.int32)[index])

    def sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct values in order, and the position of each row's among them, int32 ``(rows,)``."""
        values = np.array(list(self._numbers))
        order = np.argsort(values)
        position = np.empty(len(order), np.int32)
        position[order] = np.arange(len(order), dtype=np.int32)
        return values[order], position[np.concatenate(self._parts)]


def _items(files: _TableFiles, item_index: np.ndarray, items: int, train: np.ndarray) -> dict[str, Column]:
    """Static features of the items: of the last of their rows in ``train``, of all their rows where none is."""
    features = files.schema.catalog_features
    if not features:
        return {}
    last = np.zeros(items, np.int64)
    last[item_index] = np.arange(len(item_index))  # of equal positions, the last assignment stays
    last[item_index[train]] = train
    order = np.argsort(last)
    found: list[dict[str, Column]] = []
    read = 0
    for columns in files.chunks(features):
        rows = len(next(iter(columns.values())))
        first, end = np.searchsorted(last[order], (read, read + rows))
        found.append(take(columns, last[order[first:end]] - read))
        read += rows
    back = np.empty(items, np.int64)
    back[order] = np.arange(items)
    return take(concat(found), back)


def _batches(path: Path, roles: dict[str, str], chunk_rows: int) -> Iterator[Any]:
    """Record batches of at most ``chunk_rows`` rows with the columns that ``roles`` names; CSV columns are strings."""
    import pyarrow

    try:
        batches = (_csv if path.suffix == ".csv" else _parquet)(path, roles, chunk_rows)
        for batch in batches:
            for start in range(0, batch.num_rows, chunk_rows):
                yield batch.slice(start, chunk_rows)
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), allowed="a .parquet or .csv file") from None
    except (pyarrow.ArrowInvalid, OSError) as error:
        kind = "CSV with a header" if path.suffix == ".csv" else "Parquet"
        raise DataError(f"not readable as {kind}", where=str(path), got=" ".join(str(error).split())) from None


def _parquet(path: Path, roles: dict[str, str], chunk_rows: int) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        arrow.refuse_missing(path, list(roles), file.schema_arrow.names, roles)
        yield from file.iter_batches(batch_size=chunk_rows, columns=list(roles))


def _csv(path: Path, roles: dict[str, str], chunk_rows: int) -> Iterator[Any]:
    import pyarrow
    from pyarrow import csv

    with csv.open_csv(path) as reader:
        arrow.refuse_missing(path, list(roles), reader.schema.names, roles)
    options = csv.ConvertOptions(
        include_columns=list(roles),
        column_types=dict.fromkeys(roles, pyarrow.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    blocks = csv.ReadOptions(block_size=max(chunk_rows * _BYTES_A_ROW, 1 << 16))
    with csv.open_csv(path, read_options=blocks, convert_options=options) as reader:
        yield from reader


def _moved(error: DataError, start: int) -> DataError:
    """The same complaint with its row counted from the file's first, not the chunk's."""
    where = _ROW.sub(lambda found: f"row {int(found[1]) + start}", error.where or "")
    return DataError(error.message, where=where or None, got=error.got, allowed=error.allowed, hint=error.hint)
