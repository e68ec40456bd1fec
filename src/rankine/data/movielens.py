"""MovieLens-1M (Harper & Konstan, "The MovieLens Datasets", 2015), as distributed or as Parquet.

The original form has fields separated by ``::`` in Latin-1: ``ratings.dat`` (user, movie, rating, timestamp),
``users.dat`` (user, gender, age, occupation, zip), ``movies.dat`` (movie, title with the year, genres). The Parquet
form has the same columns in ``ratings.parquet``, ``users.parquet`` and ``movies.parquet``, the year as a column, and no
timestamps. The license forbids redistribution: Rankine ships the reader, never the data.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankine.data import arrow
from rankine.data.dataset import Dataset
from rankine.data.labels import read_labels
from rankine.data.own_schema import adopt_schema
from rankine.errors import DataError
from rankine.models.columns import Column, Ragged
from rankine.models.schema import CategoricalFeature, MultiHotFeature, Schema, Task

__all__ = ["MOVIELENS", "MOVIELENS_TWO_TASKS", "has_movielens", "load_movielens"]

_FULL_RATINGS = 1_000_209
_YEAR = re.compile(r"\((\d{4})\)\s*$")

MOVIELENS = Schema(
    features=(
        CategoricalFeature(name="user", side="request"),
        CategoricalFeature(name="gender", side="request", dtype="string"),
        CategoricalFeature(name="age", side="request"),
        CategoricalFeature(name="occupation", side="request"),
        CategoricalFeature(name="zip", side="request", dtype="string"),
        CategoricalFeature(name="movie", side="item"),
        CategoricalFeature(name="year", side="item"),
        MultiHotFeature(name="genres", side="item", dtype="string"),
    ),
    item_id="movie",
    tasks=(Task(label="rating", threshold=4.0),),
    group="user",
)
"""One task: four stars or more."""

MOVIELENS_TWO_TASKS = MOVIELENS.model_copy(
    update={
        "tasks": (Task(name="liked", label="rating", threshold=4.0), Task(name="loved", label="rating", threshold=5.0)),
        "ranking": "liked + loved",
    }
)
"""Four stars or more, and five; movies are ranked by how many of the two are expected."""


@dataclass(frozen=True)
class _Tables:
    """The three tables of either form: int64 and bytes columns; ``timestamp`` where the form has it."""

    source: str
    user: np.ndarray
    movie: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray | None
    users: dict[str, np.ndarray]
    movies: dict[str, Column]


def has_movielens(folder: Path) -> bool:
    """Whether ``folder`` holds ratings in one of the two forms."""
    return (folder / "ratings.dat").is_file() or (folder / "ratings.parquet").is_file()


def load_movielens(folder: Path | str, schema: Schema | None = None) -> Dataset:
    """MovieLens from the folder with its three files; the original form is preferred where both are there.

    Requests are the users, items the movies, a row is a rating; the label is 1 from four stars on.

    Args:
        schema: another one of the same columns, such as :data:`MOVIELENS_TWO_TASKS`. Thresholds of tasks are held
            against the rating; ``timestamp`` can be named where the ratings have one.

    Raises:
        DataError: a file is missing or malformed; names the file, the line or row, and what is expected.
        UsageError: the schema reads what is not there; names it.
    """
    folder = Path(folder)
    if not has_movielens(folder):
        raise DataError(
            "holds no MovieLens ratings",
            where=str(folder),
            allowed="ratings.dat, users.dat and movies.dat, or the same as .parquet",
            hint="Unpack ml-1m.zip and give the folder that holds ratings.dat.",
        )
    tables = _read_dat(folder) if (folder / "ratings.dat").is_file() else _read_parquet(folder)
    timed = schema is not None and schema.timestamp is not None and tables.timestamp is not None
    own = MOVIELENS.model_copy(update={"timestamp": "timestamp"}) if timed else MOVIELENS
    return _assemble(folder, tables, adopt_schema(schema, own, name="MovieLens"))


def _assemble(folder: Path, tables: _Tables, schema: Schema) -> Dataset:
    rating = tables.rating
    wrong = (rating < 1) | (rating > 5)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError("is not a rating", where=_at(folder, tables, row), got=int(rating[row]), allowed="1 to 5")
    movie_ids = tables.movies["movie"]
    if isinstance(movie_ids, Ragged):
        raise DataError("must be one value a row", where=str(folder), got="a list of movies")
    dataset = Dataset(
        name="movielens-1m" if len(rating) == _FULL_RATINGS else "movielens",
        schema=schema,
        requests={feature.name: tables.users[feature.name] for feature in schema.request_features},
        items={feature.name: tables.movies[feature.name] for feature in schema.catalog_features},
        item_ids=movie_ids,
        pairs={},
        request_index=_positions(folder, tables, "user", tables.user, tables.users["user"]),
        item_index=_positions(folder, tables, "movie", tables.movie, movie_ids),
        labels=read_labels(schema.tasks, {"rating": rating}, lambda task: f"{folder}: task '{task.name}', ratings"),
        groups=tables.user,
        timestamps=tables.timestamp,
        provenance={
            "source": f"MovieLens, {tables.source}",
            "ratings_sha256": _digest(tables),
            "ratings": str(len(rating)),
            "users": str(len(tables.users["user"])),
            "movies": str(len(movie_ids)),
        },
    )
    dataset.check()
    return dataset


def _digest(tables: _Tables) -> str:
    """SHA-256 of the columns user, movie, rating as little-endian int64: equal for both forms of the same ratings."""
    digest = hashlib.sha256()
    for column in (tables.user, tables.movie, tables.rating):
        digest.update(np.ascontiguousarray(column, "<i8").tobytes())
    return digest.hexdigest()


def _positions(folder: Path, tables: _Tables, name: str, wanted: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Position in ``ids`` of every id that a rating names, int32."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    twice = ordered[1:] == ordered[:-1]
    if twice.any():
        raise DataError(f"{name} is listed twice", where=str(folder), got=int(ordered[1:][twice][0]))
    if not len(ordered):
        raise DataError(f"has no {name}s", where=str(folder))
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    unknown = ordered[at] != wanted
    if unknown.any():
        row = int(np.argmax(unknown))
        raise DataError(
            f"rates with a {name} that is not listed",
            where=_at(folder, tables, row),
            got=int(wanted[row]),
            allowed=f"a {name} of the {name}s file",
        )
    return order[at].astype(np.int32)


def _at(folder: Path, tables: _Tables, row: int) -> str:
    return f"{folder / 'ratings'}.{tables.source}:{row + 1}"


def _read_parquet(folder: Path) -> _Tables:
    def columns(file: str, **kinds: str) -> dict[str, np.ndarray]:
        path = folder / file
        raw = arrow.read_columns(path, list(kinds))
        return {
            name: (arrow.integers if kind == "int64" else arrow.strings)(raw[name], f"{path}: {name}")
            for name, kind in kinds.items()
        }

    ratings = columns("ratings.parquet", user="int64", movie="int64", rating="int64")
    users = columns("users.parquet", user="int64", gender="string", age="int64", occupation="int64", zip="string")
    movies: dict[str, Column] = {**columns("movies.parquet", movie="int64", year="int64")}
    path = folder / "movies.parquet"
    genres = arrow.read_columns(path, ["genres"])["genres"]
    movies["genres"] = arrow.lists(genres, f"{path}: genres", dtype="string")
    return _Tables("parquet", ratings["user"], ratings["movie"], ratings["rating"], None, users, movies)


def _read_dat(folder: Path) -> _Tables:
    ratings = _read_fields(folder / "ratings.dat", ("user", "movie", "rating", "timestamp"))
    user, movie, rating, timestamp = (_integers(folder / "ratings.dat", name, ratings[name]) for name in ratings)

    path = folder / "users.dat"
    fields = _read_fields(path, ("user", "gender", "age", "occupation", "zip"))
    users = {
        name: _bytes(column) if name in ("gender", "zip") else _integers(path, name, column)
        for name, column in fields.items()
    }

    path = folder / "movies.dat"
    fields = _read_fields(path, ("movie", "title", "genres"))
    movies: dict[str, Column] = {
        "movie": _integers(path, "movie", fields["movie"]),
        "year": _years(path, fields["title"]),
        "genres": Ragged.from_lists([[g.encode() for g in text.split("|") if g] for text in fields["genres"]], bytes),
    }
    return _Tables("dat", user, movie, rating, timestamp, users, movies)


def _read_fields(path: Path, names: tuple[str, ...]) -> dict[str, Sequence[str]]:
    """Columns of a file with one record a line."""
    try:
        lines = path.read_text(encoding="latin-1").removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), allowed="::".join(names)) from None
    if lines == [""]:
        raise DataError("is empty", where=str(path), allowed="::".join(names))
    records = [line.split("::") for line in lines]
    for number, record in enumerate(records, start=1):
        if len(record) != len(names):
            got = repr(lines[number - 1])
            raise DataError("is not a record", where=f"{path}:{number}", got=got, allowed="::".join(names))
    return dict(zip(names, zip(*records, strict=True), strict=True))


def _integers(path: Path, name: str, column: Sequence[str]) -> np.ndarray:
    try:
        return np.array(column, dtype=np.int64)
    except (ValueError, OverflowError):
        for number, value in enumerate(column, start=1):
            if not value.strip().isdecimal() or int(value) >= 2**63:
                where = f"{path}:{number}"
                raise DataError(f"{name} is not an integer", where=where, got=repr(value), allowed="int64") from None
        raise


def _bytes(column: Sequence[str]) -> np.ndarray:
    return np.array([value.encode() for value in column], dtype=bytes)


def _years(path: Path, titles: Sequence[str]) -> np.ndarray:
    years = []
    for number, title in enumerate(titles, start=1):
        found = _YEAR.search(title)
        if found is None:
            where = f"{path}:{number}"
            raise DataError("the title has no year", where=where, got=repr(title), allowed="Some title (1995)")
        years.append(int(found[1]))
    return np.array(years, np.int64)
