"""One function that finds out what a data source is and reads it.

A new kind of source is one line in ``_GENERATED`` or in ``_FORMATS``, and words in what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from rankine.data.behavior import BEHAVIOR, has_behavior, load_behavior
from rankine.data.criteo import criteo_files, stream_criteo
from rankine.data.dataset import Dataset
from rankine.data.movielens import has_movielens, load_movielens
from rankine.data.own_schema import with_schema
from rankine.data.synthetic import make_synthetic
from rankine.data.synthetic_criteo import make_synthetic_criteo
from rankine.data.table_files import SUFFIXES, table_files
from rankine.data.table_stream import stream_table
from rankine.data.tabular import load_table
from rankine.errors import DataError, UsageError
from rankine.models.schema import Schema, SequenceFeature

__all__ = ["load_dataset"]

_SYNTHETIC_ROWS = 200_000
_SYNTHETIC_CRITEO_ROWS = 500_000
_STREAMED_BYTES = 512 * 2**20
"""Tables of more bytes than this stay on disk: in memory they would take several times as much."""
_ALLOWED = (
    "'synthetic' or 'synthetic-criteo'; a folder with MovieLens-1M (ratings.dat or ratings.parquet, with users and "
    "movies); a folder with behavior sequences (*_seq.parquet and *_item_attributes.parquet); "
    "Criteo logs (a .tsv or .txt file, or day_*, plain or .gz, or a folder of them); "
    "a .parquet or .csv file, or a folder of them, with a schema"
)


class _Generate(Protocol):
    def __call__(self, *, schema: Schema | None, rows: int | None, seed: int) -> Dataset: ...


class _Load(Protocol):
    def __call__(self, path: Path, /, *, schema: Schema | None, rows: int | None, seed: int) -> Dataset: ...


def load_dataset(
    source: str | Path, *, schema: Schema | None = None, rows: int | None = None, seed: int = 0
) -> Dataset:
    """The data set that ``source`` names.

    Args:
        source: ``synthetic`` or ``synthetic-criteo``; a folder with MovieLens-1M or with behavior sequences;
            Criteo logs, which stay on disk; or a Parquet or CSV file, or a folder of them, which stay there if they are
            larger than 512 MiB.
        schema: how to read Parquet and CSV; the others bring their own, and take another one of the same columns (with
            other tasks or encodings, fewer features, or in another order).
        rows: for synthetic data how many to make (default 200,000, and 500,000 in the shape of Criteo), else keep at
            most this many interactions, chosen at random (of behavior sequences whole users); items stay as they are,
            so the catalog is whole.
        seed: of the synthetic data, of the negatives of behavior sequences, and of that choice.

    Raises:
        DataError: nothing that can be read is there, or it cannot be read.
        UsageError: the schema is missing, or is not one of the data set's columns, or ``rows`` is too small.
    """
    if rows is not None and rows < 1:
        raise UsageError("is too small", where="rows", got=rows, allowed="at least 1")
    if str(source) in _GENERATED:
        return _GENERATED[str(source)](schema=schema, rows=rows, seed=seed)
    path = Path(source)
    for found, load in _FORMATS:
        if found(path):
            return load(path, schema=schema, rows=rows, seed=seed)
    raise DataError(
        "no data found" if path.exists() else "no such file or folder",
        where=str(path),
        allowed=_ALLOWED,
    )


def _synthetic(*, schema: Schema | None, rows: int | None, seed: int) -> Dataset:
    made = _SYNTHETIC_ROWS if rows is None else rows
    # About 100 rows a user and 200 an item: enough to learn what lies in the ids alone.
    users, items = max(made // 100, 20), max(made // 200, 50)
    return with_schema(make_synthetic(made, users=users, items=items, seed=seed), schema)


def _synthetic_criteo(*, schema: Schema | None, rows: int | None, seed: int) -> Dataset:
    made = _SYNTHETIC_CRITEO_ROWS if rows is None else rows
    return with_schema(make_synthetic_criteo(made, seed=seed), schema)


def _movielens(path: Path, /, *, schema: Schema | None, rows: int | None, seed: int) -> Dataset:
    return load_movielens(path, schema).subset(rows, seed)


def _behavior(path: Path, /, *, schema: Schema | None, rows: int | None, seed: int) -> Dataset:
    if schema is not None and schema.split.by != BEHAVIOR.split.by:
        got, allowed = schema.split.by, BEHAVIOR.split.by
        hint = "Any other split tests on items that the histories of training rows hold."
        raise UsageError(
            "does not suit behavior sequences", where="schema: split: by", got=got, allowed=allowed, hint=hint
        )
    longest = _history_length(BEHAVIOR if schema is None else schema)
    return with_schema(load_behavior(path, longest_history=longest, rows=rows, seed=seed), schema)


def _history_length(schema: Schema) -> int | None:
    """Items of a history that the schema reads: None for all, where it keeps the oldest."""
    histories = [feature for feature in schema.features if isinstance(feature, SequenceFeature)]
    if any(feature.truncation == "right" for feature in histories):
        return None
    return max((feature.max_length for feature in histories), default=1)


def _table(path: Path, /, *, schema: Schema | None, rows: int | None, seed: int) -> Dataset:
    if not path.exists():
        raise DataError("no such file", where=str(path))
    if schema is None:
        _check_whole_behavior(path)
        hint = "Give a schema with --schema FILE.yaml; for a model that you have, `rankine init` drafts one."
        raise UsageError("Parquet and CSV need a schema", where=str(path), hint=hint)
    large = sum(file.stat().st_size for file in table_files(path)) > _STREAMED_BYTES
    return (stream_table if large else load_table)(path, schema, rows=rows, seed=seed)


def _check_whole_behavior(path: Path) -> None:
    """Refuse a folder that has one of the two files of behavior sequences.

    Raises:
        DataError: names the missing file.
    """
    names = {file.name for file in path.iterdir()} if path.is_dir() else set()
    for have, lacks in (("_seq.parquet", "_item_attributes.parquet"), ("_item_attributes.parquet", "_seq.parquet")):
        for name in sorted(name for name in names if name.endswith(have)):
            missing = name.removesuffix(have) + lacks
            if missing not in names:
                hint = f"Behavior sequences are two files: put {missing} beside {name}. Other tables need a --schema."
                raise DataError("has one of two files", where=str(path), got=name, allowed=missing, hint=hint)


def _has_criteo(path: Path) -> bool:
    return bool(criteo_files(path))


def _criteo(path: Path, /, *, schema: Schema | None, rows: int | None, seed: int) -> Dataset:
    return stream_criteo(path, schema, rows=rows, seed=seed)


def _has_table(path: Path) -> bool:
    return path.suffix in SUFFIXES or (path.is_dir() and any(file.suffix in SUFFIXES for file in path.iterdir()))


_GENERATED: Mapping[str, _Generate] = {"synthetic": _synthetic, "synthetic-criteo": _synthetic_criteo}

# The first that finds its files reads them; tables last, since their suffixes say the least.
_FORMATS: tuple[tuple[Callable[[Path], bool], _Load], ...] = (
    (has_movielens, _movielens),
    (has_behavior, _behavior),
    (_has_criteo, _criteo),
    (_has_table, _table),
)
