"""Models of ``deepctr-torch`` as a user of that library makes them: its feature columns, its classes, its packed input.

Nothing here knows of Rankine. A model reads one float32 matrix ``(rows, columns)``: an id a column for each field, then
numbers, then ids padded with 0, in the order of the model's own ``feature_index``.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["DENSE", "FIELDS", "GENRES", "HISTORY", "HISTORY_LENGTH", "ZOO", "Fields", "Foreign", "trained"]

FIELDS = ("user", "gender", "age", "occupation", "zip", "movie", "year")
DENSE = "release"
GENRES = "genres"
HISTORY = "hist_movie"
"""``hist_`` and the name of the item's field: how the library's DIN finds a history."""
HISTORY_LENGTH = "hist_length"
_DIM = 8
_DISCARD = "http://127.0.0.1:9"
"""Refuses every connection at once."""


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    """The library asks the package index for its newest version, in a thread and without a timeout, and prints if it
    gets no answer: here it gets none at once, and what it prints goes nowhere."""
    before, proxy = set(threading.enumerate()), os.environ.get("HTTPS_PROXY")
    os.environ["HTTPS_PROXY"] = _DISCARD
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
            for started in set(threading.enumerate()) - before:
                started.join(10)
    finally:
        if proxy is None:
            del os.environ["HTTPS_PROXY"]
        else:
            os.environ["HTTPS_PROXY"] = proxy


with _quiet_import():
    from deepctr_torch import models
    from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat


@dataclass(frozen=True)
class Fields:
    """What the feature columns are made from.

    Attributes:
        sizes: number of ids of each of ``FIELDS`` and of ``genres``, with 0, which means unknown or padding.
        genres_length, history_length: to which lists are padded.
    """

    sizes: Mapping[str, int]
    genres_length: int
    history_length: int


@dataclass(frozen=True)
class Foreign:
    """One model of the library.

    Attributes:
        name: of its class.
        make: from feature columns.
        dense, genres, history: whether it takes numbers, pooled lists, a history.
        tasks: 1, or 2 for those that predict both "liked" and "loved".
    """

    name: str
    make: Callable[[list[Any]], nn.Module]
    dense: bool = True
    genres: bool = True
    history: bool = False
    tasks: int = 1

    def build(self, fields: Fields) -> nn.Module:
        """The untrained model."""
        return self.make(self._columns(fields))

    def _columns(self, fields: Fields) -> list[Any]:
        columns: list[Any] = [SparseFeat(name, fields.sizes[name], embedding_dim=_DIM) for name in FIELDS]
        if self.dense:
            columns.append(DenseFeat(DENSE, 1))
        if self.genres:
            genres = SparseFeat(GENRES, fields.sizes[GENRES], embedding_dim=_DIM)
            columns.append(VarLenSparseFeat(genres, maxlen=fields.genres_length, combiner="mean"))
        if self.history:
            movies = SparseFeat(HISTORY, fields.sizes["movie"], embedding_dim=_DIM, embedding_name="movie")
            columns.append(VarLenSparseFeat(movies, maxlen=fields.history_length, length_name=HISTORY_LENGTH))
        return columns


def trained(path: Path) -> nn.Module:
    """A model that ``torch.save(model, path)`` kept, as the library's documentation has it."""
    model: nn.Module = torch.load(path, weights_only=False)  # our own file of a minute ago
    return model


def _wide(name: str, **options: Any) -> Foreign:
    """A model with a linear part: it takes the columns twice."""
    cls = getattr(models, name)
    facts = {key: options.pop(key) for key in ("dense", "genres") if key in options}
    return Foreign(name, lambda columns: cls(columns, columns, **options), **facts)


def _multitask(name: str) -> Foreign:
    cls = getattr(models, name)
    return Foreign(name, lambda columns: cls(columns, task_names=("liked", "loved")), tasks=2)


_ALL = (
    _wide("WDL"),
    _wide("DeepFM"),
    _wide("xDeepFM"),
    _wide("DCN"),
    _wide("DCNMix"),
    Foreign("PNN", lambda columns: models.PNN(columns, use_inner=True, use_outter=True)),
    _wide("NFM"),
    _wide("AFM", dense=False),
    _wide("AutoInt"),
    _wide("FiBiNET"),
    Foreign("MLR", models.MLR),
    _wide("ONN"),
    _wide("IFM"),
    _wide("DIFM"),
    _wide("AFN"),
    _wide("CCPM", dense=False),
    Foreign("DIN", lambda columns: models.DIN(columns, ["movie"]), history=True),
    _multitask("SharedBottom"),
    _multitask("ESMM"),
    _multitask("MMOE"),
    _multitask("PLE"),
    Foreign("DIEN", lambda columns: models.DIEN(columns, ["movie"]), history=True),
)
ZOO: Mapping[str, Foreign] = {foreign.name: foreign for foreign in _ALL}
