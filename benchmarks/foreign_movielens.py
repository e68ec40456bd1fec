"""MovieLens-1M as users of ``deepctr-torch`` prepare it: ids from 1 for what the training rows have, 0 for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from foreign_zoo import DENSE, FIELDS, GENRES, HISTORY, HISTORY_LENGTH, Fields

from rankine.errors import UsageError

__all__ = ["LABELS", "PLACE", "Prepared", "prepare", "write_rows"]

LABELS = ("liked", "loved")
PLACE = "place"
_HISTORY = 20
_TRAINED_ON = 0.8
_REQUEST = ("user", "gender", "age", "occupation", "zip")


@dataclass(frozen=True)
class Prepared:
    """Ratings of some users, each as one row.

    Attributes:
        fields: sizes of the ids.
        columns: what the models read, by name: ``(rows,)``, lists padded with 0 ``(rows, length)``.
        user_id, movie_id: as MovieLens has them, ``(rows,)``.
        labels: of the tasks "liked" (four stars or more) and "loved" (five), float32 ``(rows, 2)``.
        train, held_out: positions of the rows.
    """

    fields: Fields
    columns: Mapping[str, np.ndarray]
    user_id: np.ndarray
    movie_id: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    held_out: np.ndarray

    def at(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of these rows."""
        return {name: values[rows] for name, values in self.columns.items()}


def prepare(folder: Path, rows: int, *, seed: int = 0) -> Prepared:
    """About ``rows`` ratings of users drawn at random; all of a user's, less those that became the history.

    The history is up to twenty of the user's liked movies, at most half of them, the first in the file: MovieLens-1M as
    Parquet has no times, so it is no history in time. What is in it is no row, so that no model reads its own label.
    """
    ratings, users, movies = (pq.read_table(folder / f"{name}.parquet") for name in ("ratings", "users", "movies"))
    user, movie, stars = (ratings[name].to_numpy().astype(np.int64) for name in ("user", "movie", "rating"))
    random = np.random.default_rng(seed)
    chosen = _users(user, rows, random)
    history, kept = _histories(user, movie, stars, chosen)
    user, movie, stars = user[kept], movie[kept], stars[kept]
    order = random.permutation(len(user))
    train, held_out = np.split(order, [int(_TRAINED_ON * len(order))])

    at_user = _positions(users["user"].to_numpy(), user)
    at_movie = _positions(movies["movie"].to_numpy(), movie)
    raw = {name: np.asarray(users[name].to_pylist())[at_user] for name in _REQUEST}
    raw |= {"movie": movie, "year": movies["year"].to_numpy()[at_movie]}
    columns: dict[str, np.ndarray] = {}
    sizes: dict[str, int] = {}
    known = {name: np.unique(raw[name][train]) for name in FIELDS}
    for name in FIELDS:
        columns[name], sizes[name] = _encoded(raw[name], known[name]), len(known[name]) + 1
    years = raw["year"].astype(np.float64)
    columns[DENSE] = ((years - years[train].min()) / np.ptp(years[train])).astype(np.float32)
    genres, sizes[GENRES] = _genres(movies["genres"].to_pylist())
    columns[GENRES] = genres[at_movie]
    # Movies without a training row are left out: their id, 0, is also what fills lists up.
    kept_history = {each: seen[np.isin(seen, known["movie"])] for each, seen in history.items()}
    columns[HISTORY_LENGTH] = np.array([len(kept_history[each]) for each in user], np.int64)
    columns[HISTORY] = _padded([_encoded(kept_history[each], known["movie"]) for each in user], _HISTORY)
    return Prepared(
        fields=Fields(sizes, genres.shape[1], _HISTORY),
        columns=columns,
        user_id=user,
        movie_id=movie,
        labels=np.stack([stars >= 4, stars >= 5], axis=1).astype(np.float32),
        train=train,
        held_out=held_out,
    )


def write_rows(prepared: Prepared, path: Path, rows: np.ndarray) -> None:
    """These rows, encoded, as Parquet; lists have their own lengths, and ``place`` is a row's place in the file.

    Raises:
        UsageError: other rows are there. The models beside them have the ids of those: another number of ratings,
            another seed or another benchmark gives a user or a movie another id.
    """
    columns: dict[str, Any] = {"user_id": prepared.user_id[rows], "movie_id": prepared.movie_id[rows]}
    columns[PLACE] = np.arange(len(rows))
    columns |= {name: prepared.columns[name][rows] for name in (*FIELDS, DENSE)}
    genres = prepared.columns[GENRES][rows]
    columns[GENRES] = _lists(genres, (genres != 0).sum(axis=1))
    columns[HISTORY] = _lists(prepared.columns[HISTORY][rows], prepared.columns[HISTORY_LENGTH][rows])
    columns |= {name: prepared.labels[rows, at].astype(np.int64) for at, name in enumerate(LABELS)}
    table = pa.table(columns)
    if not path.exists():
        pq.write_table(table, path)
    elif not (found := pq.read_table(path)).equals(table):
        raise UsageError(
            "rows of another preparation, which models brought in here would read with wrong ids",
            where=str(path),
            got=f"{found.num_rows:,} rows",
            allowed=f"the {table.num_rows:,} rows that this run prepares",
            hint="Give a work folder of its own to each benchmark, number of ratings and seed.",
        )


def _users(user: np.ndarray, rows: int, random: np.random.Generator) -> np.ndarray:
    """Users who have about ``rows`` ratings together."""
    ids, counts = np.unique(user, return_counts=True)
    order = random.permutation(len(ids))
    return ids[order[: int(np.searchsorted(np.cumsum(counts[order]), rows)) + 1]]


def _histories(
    user: np.ndarray, movie: np.ndarray, stars: np.ndarray, chosen: np.ndarray
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """The history of every user, and the positions of the ratings that are left."""
    history: dict[int, np.ndarray] = {}
    kept = []
    for each in chosen:
        own = np.flatnonzero(user == each)
        liked = own[stars[own] >= 4]
        taken = liked[: min(_HISTORY, len(liked) // 2)]
        history[int(each)] = movie[taken]
        kept.append(np.setdiff1d(own, taken))
    return history, np.concatenate(kept)


def _positions(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    order = np.argsort(ids)
    return order[np.searchsorted(ids[order], wanted)]


def _encoded(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Position in ``known`` from 1, or 0 for a value that is not in it."""
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[at] == values, at + 1, 0)


def _genres(texts: Sequence[str]) -> tuple[np.ndarray, int]:
    lists = [text.split("|") for text in texts]
    names = sorted({name for names in lists for name in names})
    padded = _padded([[names.index(name) + 1 for name in each] for each in lists], max(map(len, lists)))
    return padded, len(names) + 1


def _padded(lists: Sequence[Any], length: int) -> np.ndarray:
    padded = np.zeros((len(lists), length), np.int64)
    for row, values in enumerate(lists):
        padded[row, : len(values)] = values
    return padded


def _lists(padded: np.ndarray, lengths: np.ndarray) -> pa.Array:
    inside = np.arange(padded.shape[1]) < lengths[:, None]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, padded[inside])
