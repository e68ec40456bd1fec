"""The Criteo display-advertising logs: tab-separated text without a header, of any size, never loaded whole.

A line is a label, 13 counts (``I1`` to ``I13``) and 26 hashed categories of eight hexadecimal digits (``C1`` to
``C26``), each of which can be missing. This is the form of the Kaggle challenge (``train.txt``) and of the terabyte
click logs (``day_0`` to ``day_23``).
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from rankine.artifact import sha256_of
from rankine.data.labels import read_labels
from rankine.data.own_schema import adopt_schema
from rankine.data.stream import DEFAULT_CHUNK_ROWS, StreamedDataset
from rankine.errors import DataError
from rankine.models.columns import Column
from rankine.models.schema import CategoricalFeature, DenseFeature, Feature, Hash, Schema, Split, Task

__all__ = ["CRITEO", "criteo_files", "criteo_schema", "stream_criteo"]

_LABEL = "label"
_COUNTS = tuple(f"I{number}" for number in range(1, 14))
_CATEGORIES = tuple(f"C{number}" for number in range(1, 27))
_FIELDS = (_LABEL, *_COUNTS, *_CATEGORIES)
_SUFFIXES = (".tsv", ".txt")
_BYTES_A_ROW = 192  # of text, at least about
_HIDDEN = "ad"


def criteo_schema(buckets: int = 100_000) -> Schema:
    """How the logs are read, each category hashed into ``buckets`` rows of a table of its own.

    The fields are anonymous: nobody knows which are the user's and which the ad's. So all are of the pair: they come
    with every candidate, and the one item is without features. Lines are in the order of time; the split is by it.
    """
    counts = [DenseFeature(name=name, side="pair", normalization="log1p", default=0.0) for name in _COUNTS]
    hashed = Hash(buckets=buckets)
    categories = [
        CategoricalFeature(name=name, side="pair", dtype="string", encoding=hashed, default="") for name in _CATEGORIES
    ]
    return Schema(
        features=(*counts, *categories),
        item_id=_HIDDEN,
        tasks=(Task(name="click", label=_LABEL),),
        timestamp="line",
        split=Split(by="time"),
    )


CRITEO = criteo_schema()


def criteo_files(source: Path) -> list[Path]:
    """The files of the logs that ``source`` names, in the order of time; none where it is something else.

    A file ``*.tsv``, ``*.txt`` or ``day_*``, plain or ``.gz``; or a folder of them, in the order of the numbers in
    their names. A folder's files count only where the first has 40 fields; a file that is named is always read.
    """
    if source.is_file():
        return [source] if _is_named_so(source) else []
    if not source.is_dir():
        return []
    found = sorted((path for path in source.iterdir() if path.is_file() and _is_named_so(path)), key=_by_number)
    return found if found and _first_line(found[0]).count("\t") == len(_FIELDS) - 1 else []


def stream_criteo(
    source: Path | str | Sequence[Path | str],
    schema: Schema | None = None,
    *,
    rows: int | None = None,
    seed: int = 0,
    chunk_rows: int = DEFAULT_CHUNK_ROWS,
) -> StreamedDataset:
    """The logs as a data set that stays on disk.

    A missing count is 0, and so is a negative one (``I2`` has some): the field's usual ``log(x + 1)`` has no value
    there. A missing category is the empty string, a value like any other. Who serves such a model clips counts alike.

    Args:
        source: a file, a folder, or several files in the order of time.
        schema: of the columns of :data:`CRITEO`, which is used if left out: other encodings, fewer features...
        rows: keep at most this many rows, chosen at random by ``seed``.
        chunk_rows: most rows that are in memory as text at once.

    Raises:
        DataError: no file is there, or names the file and the line that is not of this form.
        UsageError: the schema names other columns.
    """
    named = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    paths = [path for name in named for path in (criteo_files(name) or [name])]
    for path in paths or named:
        if not path.is_file():
            allowed = "a .tsv or .txt file, or day_* (plain or .gz), or a folder of them"
            raise DataError(
                "no such file" if not path.exists() else "has no Criteo logs", where=str(path), allowed=allowed
            )
    schema = adopt_schema(schema, CRITEO, name="criteo")
    files = _CriteoFiles(tuple(paths), chunk_rows)
    labels = np.concatenate([*files.labels(schema), np.zeros((0, len(schema.tasks)), np.float32)])
    dataset = StreamedDataset.of_source(
        files,
        name="criteo",
        schema=schema,
        labels=labels,
        item_ids=np.zeros(1, np.int64 if schema.item_id_dtype == "int64" else "S1"),
        timestamps=np.arange(len(labels)),
        provenance={
            "source": ", ".join(path.name for path in paths),
            "sha256": ", ".join(sha256_of(path) for path in paths),
            "rows": str(len(labels)),
        },
    )
    return dataset.subset(rows, seed)


@dataclass(frozen=True)
class _CriteoFiles:
    """Log files as a source of chunks."""

    paths: tuple[Path, ...]
    chunk_rows: int

    def chunks(self, features: Sequence[Feature]) -> Iterator[dict[str, Column]]:
        """Raw columns of the features, at most ``chunk_rows`` rows at once."""
        for path, batch in self._batches([feature.name for feature in features]):
            yield {feature.name: _column(batch.column(feature.name), feature, path) for feature in features}

    def labels(self, schema: Schema) -> Iterator[np.ndarray]:
        """Labels, float32 ``(n, tasks)`` each."""
        for path, batch in self._batches([_LABEL]):
            numbers = batch.column(_LABEL)
            values = numbers.to_numpy(zero_copy_only=False)
            if numbers.null_count or not np.isin(values, (0, 1)).all():
                raise _first_wrong_line(path)
            yield read_labels(schema.tasks, {_LABEL: values}, lambda task: f"task '{task.name}'")

    def _batches(self, names: list[str]) -> Iterator[tuple[Path, Any]]:
        import pyarrow

        for path in self.paths:
            try:
                for batch in _open(path, names, self.chunk_rows):
                    for start in range(0, batch.num_rows, self.chunk_rows):  # once, unless lines are short
                        yield path, batch.slice(start, self.chunk_rows)
            except pyarrow.ArrowInvalid:
                raise _first_wrong_line(path) from None
            except (OSError, EOFError) as error:
                raise DataError("cannot be read", where=str(path), got=" ".join(str(error).split())) from None


def _open(path: Path, names: list[str], chunk_rows: int) -> Any:
    """Record batches of the named fields; no line is ever held longer than its block of text."""
    import pyarrow
    from pyarrow import csv

    if path.stat().st_size == 0:
        raise DataError("has no rows", where=str(path))
    return csv.open_csv(
        pyarrow.input_stream(str(path), compression="detect"),
        read_options=csv.ReadOptions(
            column_names=list(_FIELDS), block_size=max(chunk_rows * _BYTES_A_ROW, 1 << 16), use_threads=False
        ),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(
            include_columns=names,
            column_types={name: pyarrow.string() if name in _CATEGORIES else pyarrow.int64() for name in _FIELDS},
            null_values=[""],
            strings_can_be_null=False,
        ),
    )


def _column(column: Any, feature: Feature, path: Path) -> Column:
    """Counts as float32 ``(n, 1)``, categories as bytes ``(n,)``.

    Raises:
        DataError: a category holds NUL, which arrays of fixed width drop at the end.
    """
    if isinstance(feature, DenseFeature):
        counts = column.fill_null(0).to_numpy(zero_copy_only=False)
        return np.asarray(np.maximum(counts, 0), np.float32)[:, None]
    offsets, text = _text_of(column)
    if not text.all():
        raise _first_wrong_line(path)
    return _fixed_width(offsets, text)


def _text_of(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """Offsets ``(n + 1,)`` and UTF-8 ``(m,)`` of a pyarrow string column without nulls."""
    _, offsets, text = column.buffers()
    at = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return at, np.frombuffer(text, np.uint8)[at[0] : at[-1]] if text is not None else np.zeros(0, np.uint8)


def _fixed_width(offsets: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Strings as bytes of one width ``(n,)``."""
    lengths = np.diff(offsets)
    width = max(int(lengths.max(initial=0)), 1)
    if len(text) == width * len(lengths):
        return text.view(f"S{width}")
    padded = np.zeros((len(lengths), width), np.uint8)
    padded[np.arange(width) < lengths[:, None]] = text  # row by row, as the text lies
    return padded.view(f"S{width}")[:, 0]


def _is_named_so(path: Path) -> bool:
    name = path.name.removesuffix(".gz")
    return name.endswith(_SUFFIXES) or (name.startswith("day_") and name.removeprefix("day_").isdigit())


def _by_number(path: Path) -> tuple[int, str]:
    """``day_10`` comes after ``day_9``."""
    digits = "".join(character for character in path.name if character.isdigit())
    return int(digits or 0), path.name


def _text(path: Path) -> Any:
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8", errors="replace", newline="\n")


def _first_line(path: Path) -> str:
    try:
        with _text(path) as file:
            return str(file.readline())
    except (OSError, EOFError):
        return ""


def _first_wrong_line(path: Path) -> DataError:
    """What is wrong with the first line that is not of the form; reads the file again, which only an error costs."""
    where = str(path)
    with _text(path) as file:
        for number, line in zip(count(1), file, strict=False):
            fields = line.rstrip("\r\n").split("\t")
            where = f"{path}: line {number}"
            if fields == [""]:
                continue
            if len(fields) != len(_FIELDS):
                hint = "Rows without a label, as in test.txt, cannot be used." if len(fields) == 39 else None
                allowed = f"{len(_FIELDS)}, separated by tabs: a label, 13 counts, 26 categories"
                return DataError(
                    "has the wrong number of fields", where=where, got=len(fields), allowed=allowed, hint=hint
                )
            if fields[0] not in ("0", "1"):
                return DataError("is not a label", where=f"{where}: field 1", got=repr(fields[0]), allowed="0, 1")
            for at, (name, text) in enumerate(zip(_COUNTS, fields[1:], strict=False), start=2):
                if text and not _is_integer(text):
                    return DataError("is not an integer", where=f"{where}: field {at} ({name})", got=repr(text))
            if "\0" in line:
                return DataError("holds NUL", where=where)
            if "\ufffd" in line:
                return DataError("is not UTF-8", where=where)
    return DataError("is not readable as tab-separated text", where=str(path))


def _is_integer(text: str) -> bool:
    try:
        return -(2**63) <= int(text) < 2**63
    except ValueError:
        return False
