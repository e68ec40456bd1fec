"""The small model of the server tests, opened over a runner in NumPy whose scores can be told by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from e2e.small_served import SCHEMA, transforms, write_small_catalog
from rankine.artifact import Draft
from rankine.errors import BadRequest
from rankine.models.columns import Batch, Column, Ragged, concat
from rankine.models.transforms import Transforms
from rankine.serving.gate import Choice
from rankine.serving.model import ServedModel, unknown_item

POISON = 9
"""A ``slot`` that the runner refuses, as an engine refuses an index out of range."""


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
        out[:, 0] = expected_logits(batch)

    def close(self) -> None:
        self.closed = True


def expected_logits(batch: Batch) -> np.ndarray:
    """A weighted sum of all values of each row, ``(rows,)``."""
    total = np.zeros(batch.rows, np.float64)
    sides = ((batch.request, batch.request_index), (batch.item, batch.item_index), (batch.pair, None))
    factor = 1.0
    for columns, index in sides:
        for name in sorted(columns):
            factor *= 0.83
            sums = _row_sums(columns[name])
            total += factor * (sums if index is None else sums[index])
    return np.tanh(total / 500).astype(np.float32)


def _row_sums(column: Column) -> np.ndarray:
    if isinstance(column, Ragged):
        weights = np.ones(len(column.values)) if column.weights is None else column.weights
        starts = np.concatenate([[0], np.cumsum(column.values * weights)])
        sums: np.ndarray = starts[column.offsets[1:]] - starts[column.offsets[:-1]]
        return sums
    return np.asarray(column, np.float64).reshape(len(column), -1).sum(axis=1)


def numpy_model(
    folder: Path, *, with_unknown_row: bool = False, runner: Callable[[], NumpyRunner] = NumpyRunner
) -> ServedModel:
    """The small model without an engine."""
    fitted: Transforms = transforms()
    draft = Draft("train", name="small")
    fitted.write(draft)
    artifact = draft.commit(folder / "small")
    catalog = write_small_catalog(folder / "small")
    items = fitted.encode(SCHEMA.catalog_features, catalog.columns)
    if with_unknown_row:
        items = concat([items, unknown_item(fitted)])
    choice = Choice("baseline", "numpy", None, None, False)
    unknown_row = len(catalog) if with_unknown_row else None
    return ServedModel(artifact, catalog, fitted, choice, runner(), items, unknown_row)
