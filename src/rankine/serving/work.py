"""A unit of work: one client request, encoded, on its way through queue, batch and engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from msgspec import Struct

from rankine.models.columns import Batch, Columns, concat
from rankine.policy.priorities import Priority
from rankine.serving.completion import Complete
from rankine.serving.items import Items

__all__ = ["Outcome", "Presence", "Waiter", "Work", "join"]


@dataclass(slots=True, eq=False)
class Presence:
    """Whether the client at the other end of a connection is still there; set by the connection, read by workers.

    One that has only ended its side of the connection is, see :mod:`rankine.serving.half_close`.
    """

    gone: bool = False


class Waiter(Protocol):
    """Who waits for an outcome: a future, or what does as much of one. Set once, on its event loop."""

    def done(self) -> bool: ...

    def get_loop(self) -> asyncio.AbstractEventLoop: ...

    def set_result(self, outcome: Outcome, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...


@dataclass(slots=True, eq=False)
class Work:
    """Encoded rows that wait for an engine.

    Attributes:
        request: request-side columns, ``(requests, ...)``.
        pair: per-row columns, ``(rows, ...)``.
        items: those of the catalog that it is ranked by; or static columns of the items given inline, ``(items, ...)``.
        request_index, item_index: ``(rows,)`` int32; the first is non-decreasing.
        requests: rows of ``request``, also where it has no columns.
        arrived_s, deadline_s: on the clock of ``time.perf_counter``.
        future: set on the event loop once there is an :class:`Outcome` or an error.
        presence: tells whether its client is still there; None where that is not known.
        answered: a worker has settled it; what still runs of it is of no use.
        session: that keeps to one variant while the load lets it; empty where there is none.
        tenant: whose it is, as the operator's rules name it; ``priority``: among all requests.
        let_in: by its head; where the server has drained since, it is still taken.
        in_flight: requests that waited or ran when it was let in.
    """

    request: Columns
    pair: Columns
    items: Items | Columns
    request_index: np.ndarray
    item_index: np.ndarray
    requests: int
    arrived_s: float
    deadline_s: float
    future: Waiter | None = None
    queued_s: float = 0.0
    presence: Presence | None = None
    answered: bool = False
    session: str = ""
    tenant: str = ""
    priority: Priority = Priority.NORMAL
    let_in: bool = False
    in_flight: int = 0

    @property
    def rows(self) -> int:
        return len(self.item_index)


class Outcome(Struct, frozen=True):
    """What came of it: ``logits (rows, tasks)`` float32, how its batch went, and what ran it."""

    logits: np.ndarray
    queue_s: float
    run_s: float
    batch_rows: int
    batch_requests: int
    reason: str
    variant: str
    engine: str


def join(works: Sequence[Work], complete: Complete) -> Batch:
    """One batch out of several pieces of work, their rows one after the other.

    Where all work is of one generation and of the snapshot's items, the batch refers to those as they lie. Otherwise it
    gets a small item table: what is used of the catalog, of each work's own generation, then the inline items.

    Args:
        complete: adds to items given inline what the engine computes of an item ahead of time.
    """
    items, item_index = _join_items(works, complete)
    if len(works) == 1:
        work = works[0]
        return Batch(work.request, items, work.pair, work.request_index, item_index)
    request = concat([work.request for work in works])
    return Batch(request, items, concat([work.pair for work in works]), _join_requests(works), item_index)


def _join_requests(works: Sequence[Work]) -> np.ndarray:
    """Each row's request among those of all work, int32 ``(rows,)``."""
    if all(work.requests == 1 for work in works):
        return np.repeat(np.arange(len(works), dtype=np.int32), [work.rows for work in works])
    starts = np.cumsum([0, *(work.requests for work in works)])
    return np.concatenate([work.request_index + np.int32(start) for work, start in zip(works, starts, strict=False)])


def _join_items(works: Sequence[Work], complete: Complete) -> tuple[Columns, np.ndarray]:
    held = works[0].items
    if isinstance(held, Items) and all(work.items is held for work in works):
        rows = [work.item_index for work in works]
        return held.table(rows[0] if len(rows) == 1 else np.concatenate(rows))
    tables = [
        work.items.taken(work.item_index) if isinstance(work.items, Items) else (work.items, work.item_index)
        for work in works
    ]
    inline = [not isinstance(work.items, Items) for work in works]
    order = sorted(range(len(works)), key=inline.__getitem__)  # what is inline comes last: one call completes it
    lengths = [_length(tables[at][0]) for at in order]
    starts = dict(zip(order, np.cumsum([0, *lengths], dtype=np.int32), strict=False))
    stored = [tables[at][0] for at in order if not inline[at]]
    given = [tables[at][0] for at in order if inline[at]]
    items = concat([*stored, complete(concat(given))] if given else stored)
    return items, np.concatenate([index + starts[at] for at, (_, index) in enumerate(tables)])


def _length(table: Columns) -> int:
    """Rows of a table; 0 of one without columns, which nobody reads."""
    return max((len(column) for column in table.values()), default=0)
