"""A unit of work: one client request, encoded, on its way through queue, batch and engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankine.models.columns import Batch, Columns, concat, take

__all__ = ["Outcome", "Presence", "Work", "join"]


@dataclass(slots=True, eq=False)
class Presence:
    """Whether the client at the other end of a connection is still there; set by the connection, read by workers."""

    gone: bool = False


@dataclass(slots=True, eq=False)
class Work:
    """Encoded rows that wait for an engine.

    Attributes:
        request: request-side columns, ``(requests, ...)``.
        pair: per-row columns, ``(rows, ...)``.
        items: static columns of the items given inline, ``(items, ...)``; None where ``item_index`` is the catalog's.
        request_index, item_index: ``(rows,)`` int32; the first is non-decreasing.
        requests: rows of ``request``, also where it has no columns.
        arrived_s, deadline_s: on the clock of ``time.perf_counter``.
        future: set on the event loop once there is an :class:`Outcome` or an error.
        presence: tells whether its client is still there; None where that is not known.
    """

    request: Columns
    pair: Columns
    items: Columns | None
    request_index: np.ndarray
    item_index: np.ndarray
    requests: int
    arrived_s: float
    deadline_s: float
    future: asyncio.Future[Outcome] | None = None
    queued_s: float = 0.0
    presence: Presence | None = None

    @property
    def rows(self) -> int:
        return len(self.item_index)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: ``logits (rows, tasks)`` float32, and how its batch went."""

    logits: np.ndarray
    queue_s: float
    run_s: float
    batch_rows: int
    batch_requests: int
    reason: str


def join(works: Sequence[Work], catalog: Columns) -> Batch:
    """One batch out of several pieces of work, their rows one after the other.

    Where no work brings items of its own the batch refers to the catalog as it lies. Otherwise the batch gets a small
    item table: the catalog's rows in use, then the inline ones (the catalog itself may be large and is never copied).
    """
    if len(works) == 1:
        work = works[0]
        items = catalog if work.items is None else work.items
        return Batch(work.request, items, work.pair, work.request_index, work.item_index)
    starts = np.cumsum([0, *(work.requests for work in works)])
    request_index = np.concatenate(
        [work.request_index + np.int32(start) for work, start in zip(works, starts, strict=False)]
    )
    items, item_index = _join_items(works, catalog)
    request = concat([work.request for work in works])
    return Batch(request, items, concat([work.pair for work in works]), request_index, item_index)


def _join_items(works: Sequence[Work], catalog: Columns) -> tuple[Columns, np.ndarray]:
    if all(work.items is None for work in works):
        return catalog, np.concatenate([work.item_index for work in works])
    tables: list[Columns] = []
    indexes: list[np.ndarray] = []
    start = 0
    for work in works:
        if work.items is None:
            table: Columns = take(catalog, work.item_index)
            index, length = np.arange(work.rows, dtype=np.int32), work.rows
        else:
            table, index = work.items, work.item_index
            length = max((len(column) for column in table.values()), default=0)
        tables.append(table)
        indexes.append(index + np.int32(start))
        start += length
    return concat(tables), np.concatenate(indexes)
