"""One function that finds out what a data source is and reads it."""

from __future__ import annotations

from pathlib import Path

from rankine.data.dataset import Dataset
from rankine.data.movielens import has_movielens, load_movielens
from rankine.data.synthetic import make_synthetic
from rankine.data.tabular import load_table
from rankine.errors import DataError, UsageError
from rankine.models.schema import Schema

__all__ = ["load_dataset"]

_SYNTHETIC_ROWS = 200_000
_SUFFIXES = (".parquet", ".csv")


def load_dataset(
    source: str | Path, *, schema: Schema | None = None, rows: int | None = None, seed: int = 0
) -> Dataset:
    """The data set that ``source`` names.

    Args:
        source: ``synthetic``; a folder with MovieLens-1M; or a Parquet or CSV file, or a folder of them.
        schema: how to read Parquet and CSV; the other two bring their own.
        rows: for synthetic data how many to make (default 200,000), else keep at most this many interactions, chosen at
            random; requests and items stay as they are, so the catalog is whole.
        seed: of the synthetic data, or of that choice.

    Raises:
        DataError: nothing that can be read is there, or it cannot be read.
        UsageError: the schema is missing, or is given where none is wanted, or ``rows`` is too small.
    """
    if rows is not None and rows < 1:
        raise UsageError("is too small", where="rows", got=rows, allowed="at least 1")
    path = Path(source)
    if str(source) == "synthetic":
        _refuse_schema(schema, "synthetic")
        made = _SYNTHETIC_ROWS if rows is None else rows
        # About 100 rows a user and 200 an item: enough to learn what lies in the ids alone.
        return make_synthetic(made, users=max(made // 100, 20), items=max(made // 200, 50), seed=seed)
    if path.is_dir() and has_movielens(path):
        _refuse_schema(schema, "MovieLens")
        return load_movielens(path).subset(rows, seed)
    if path.suffix in _SUFFIXES or (path.is_dir() and any(file.suffix in _SUFFIXES for file in path.iterdir())):
        if not path.exists():
            raise DataError("no such file", where=str(path))
        if schema is None:
            hint = "Give a schema with --schema FILE.yaml."
            raise UsageError("Parquet and CSV need a schema", where=str(path), hint=hint)
        return load_table(path, schema, rows=rows, seed=seed)
    raise DataError(
        "no data found" if path.exists() else "no such file or folder",
        where=str(path),
        allowed="'synthetic'; a folder with MovieLens-1M (ratings.dat or ratings.parquet, with users and movies); "
        "a .parquet or .csv file, or a folder of them, with a schema",
    )


def _refuse_schema(schema: Schema | None, name: str) -> None:
    if schema is not None:
        raise UsageError(f"{name} brings its own schema", where="schema", hint="Leave the schema out.")
