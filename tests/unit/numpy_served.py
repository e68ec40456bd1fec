"""The small model of the server tests, opened over a runner in NumPy whose scores can be told by hand."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np

from e2e.small_served import rank_body, transforms, write_small_catalog
from rankine.artifact import Draft
from rankine.catalog import Catalog
from rankine.compilation.engine import Runner
from rankine.errors import BadRequest
from rankine.models.columns import Batch, Column, Columns, Ragged
from rankine.models.transforms import Transforms
from rankine.serving.gate import Choice
from rankine.serving.items import ServedCatalog
from rankine.serving.model import ServedModel, unknown_item
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.rungs import ServedRung
from rankine.serving.work import Work

POISON = 9
"""A ``slot`` that the runner refuses, as an engine refuses an index out of range."""


def alone(runner: Runner) -> tuple[ServedRung]:
    """The only rung that is served."""
    return (ServedRung("baseline", "numpy", runner),)


class NumpyRunner:
    """Logits that depend on every column of a row, row by row: ``join`` and ``scatter`` must bring them home.

    ``gate`` is waited for before each run, so that a test decides when the worker goes on.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def run(self, batch: Batch, out: np.ndarray) -> None:
        self.gate.wait(10)
        self.batches.append(batch)
        if "slot" in batch.pair and (np.asarray(batch.pair["slot"]) == POISON).any():
            raise BadRequest("id out of range", where="slot")
        out[:] = expected_logits(batch, out.shape[1])

    def complete(self, items: Columns) -> Columns:
        return items

    def close(self) -> None:
        self.closed = True


def as_they_are(items: Columns) -> Columns:
    """What a runner of a whole graph computes of items ahead of time."""
    return items


def expected_logits(batch: Batch, tasks: int = 1) -> np.ndarray:
    """Of a weighted sum of all values of each row, ``(rows, tasks)``."""
    total = np.zeros(batch.rows, np.float64)
    sides = ((batch.request, batch.request_index), (batch.item, batch.item_index), (batch.pair, None))
    factor = 1.0
    for columns, index in sides:
        for name in sorted(columns):
            factor *= 0.83
            sums = _row_sums(columns[name])
            total += factor * (sums if index is None else sums[index])
    return np.stack([np.tanh(total / (500 + 300 * task) - 0.2 * task) for task in range(tasks)], 1).astype(np.float32)


def _row_sums(column: Column) -> np.ndarray:
    if isinstance(column, Ragged):
        weights = np.ones(len(column.values)) if column.weights is None else column.weights.astype(np.float64)
        # The place of a value in its list counts too: a history that comes in another order is another history.
        weights *= 1 + 0.1 * (np.arange(len(weights)) - np.repeat(column.offsets[:-1], np.diff(column.offsets)))
        starts = np.concatenate([[0], np.cumsum(column.values * weights)])
        sums: np.ndarray = starts[column.offsets[1:]] - starts[column.offsets[:-1]]
        return sums
    return np.asarray(column, np.float64).reshape(len(column), -1).sum(axis=1)


def numpy_model(
    folder: Path, *, with_unknown_row: bool = False, runner: Callable[[], NumpyRunner] = NumpyRunner
) -> ServedModel:
    """The small model without an engine."""
    catalog = write_small_catalog(folder / "small")
    return served_by_numpy(folder / "small", transforms(), catalog, with_unknown_row=with_unknown_row, runner=runner)


def served_by_numpy(
    path: Path,
    fitted: Transforms,
    catalog: Catalog | None,
    *,
    with_unknown_row: bool = False,
    runner: Callable[[], NumpyRunner] = NumpyRunner,
) -> ServedModel:
    """Any schema without an engine."""
    draft = Draft("train", name=path.name)
    fitted.write(draft)
    artifact = draft.commit(path)
    served = None
    if catalog is not None:
        unknown = unknown_item(fitted) if with_unknown_row else None
        served = ServedCatalog(catalog.artifact.path, fitted, unknown=unknown, complete=as_they_are)
    choice = Choice("baseline", "numpy", None, None, False)
    return ServedModel(artifact, served, fitted, choice, alone(runner()))


def work_maker(model: ServedModel) -> Callable[..., Work]:
    """Makes work out of rank bodies: user, number of candidates, first item, and whether items are given inline."""
    protocol = RankProtocol(model, max_candidates=1000)

    def make(
        user: int, rows: int, *, first: int = 0, inline: bool = False, slot: int = 1, deadline_s: float = math.inf
    ) -> Work:
        body = rank_body(rows)
        ids = [1000 + (first + row) % 300 for row in range(rows)]
        features = {"slot": [slot] * rows, "match": [[user, row] for row in range(rows)]}
        if inline:
            features |= {"tags": [["tag-1"]] * rows, "price": [float(row) for row in range(rows)]}
        body |= {"request": body["request"] | {"user": user}, "candidates": {"ids": ids, "features": features}}  # type: ignore[operator]
        raw = msgspec.json.encode(body)
        return protocol.prepare(raw, arrived_s=perf_counter(), deadline_s=deadline_s, announced=None).work

    return make
