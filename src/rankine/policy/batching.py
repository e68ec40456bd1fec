"""Which rows run together next: work-conserving, earliest deadline first, no larger than is efficient.

Work-conserving: an idle worker never waits for more requests to come. Requests join a batch only because they queued
while the worker was busy, so an unloaded server adds no delay, and batches grow with the load by themselves.
Earliest deadline first is optimal for meeting deadlines on one machine without preemption of known work (Jackson 1955).
A batch ends as soon as it is efficient: more rows would only make those wait that are in it and what comes next.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from rankine.policy.cost import CostModel
from rankine.policy.reason import Reason

__all__ = ["Entry", "FormedBatch", "Forming", "Limits", "Piece", "Shape", "Waiting", "form_batch"]


class Waiting(Protocol):
    """A request in the queue, as the policy sees it. Times are seconds of one monotonic clock."""

    @property
    def rows(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def arrived_s(self) -> float: ...
    @property
    def deadline_s(self) -> float:
        """When the answer is of no use any more; infinity where the client gave no deadline."""
        ...


W = TypeVar("W", bound=Waiting)
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator bounds.

    Attributes:
        max_batch_rows: no batch is larger, and a larger request is split.
        max_batch_s: no batch is predicted to run longer, unless half of the peak rate needs more.
        efficiency: share of the peak rows per second at which a batch is large enough.
        max_queue_rows: rows that may wait.
        max_wait_s: how long a request without a deadline may wait; by this it takes its place in the order.
        probe_s: where nothing waits or runs, a request that is predicted to be late is let in once in this time: a
            prediction that is wrong is only found out by running something.
        headroom_s: time that requests of one priority leave to those of the next higher one.
    """

    max_batch_rows: int = 2048
    max_batch_s: float = 0.020
    efficiency: float = 0.95
    max_queue_rows: int = 65_536
    max_wait_s: float = 10.0
    probe_s: float = 0.1
    headroom_s: float = 0.005


@dataclass(slots=True, eq=False)
class Entry(Generic[W]):
    """A request's place in the queue.

    Attributes:
        due_s: by which it takes its turn: its deadline, or what ``max_wait_s`` makes of its arrival.
        number: order of arrival, which decides between equal ``due_s``.
        waiting_rows: that no batch has taken yet.
        rung: of the ladder, that its session keeps to; None takes what its batch takes.
        keep: it runs also where it is predicted to be late.
    """

    work: W
    due_s: float
    number: int
    waiting_rows: int
    rung: int | None = None
    keep: bool = False

    @property
    def key(self) -> tuple[float, int]:
        return (self.due_s, self.number)


class Piece(Struct, Generic[W], frozen=True):
    """Consecutive rows of a request: all of it, or what a split leaves."""

    entry: Entry[W]
    first_row: int
    rows: int


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that follow from a cost model: where a batch is large enough, and where it is too large, in rows."""

    target_rows: int
    most_rows: int

    @classmethod
    def of(cls, cost: CostModel, limits: Limits) -> Shape:
        """The smallest batch that reaches ``limits.efficiency`` of the peak rate, and the largest that is allowed."""
        within = min(limits.max_batch_rows, cost.rows_within(limits.max_batch_s))
        # Where a call costs much whatever its rows, cutting requests up smaller would only make everybody late.
        most = max(within, min(limits.max_batch_rows, _rows_at(cost, 0.5, limits.max_batch_rows)))
        return cls(min(most, _rows_at(cost, limits.efficiency, most)), most)


def _rows_at(cost: CostModel, efficiency: float, most_rows: int) -> int:
    """The fewest rows that reach ``efficiency`` of the best rows per second of batches up to ``most_rows``.

    Between knots the rate rises or falls throughout, so the best is at a knot.
    """
    curve = [(rows, seconds) for rows, seconds in cost.curve if rows < most_rows]
    curve.append((most_rows, cost.mean_s(most_rows)))
    wanted = efficiency * max(rows / seconds for rows, seconds in curve)
    before_rows, before_s = 0, 0.0
    for rows, seconds in curve:
        if rows / seconds >= wanted:
            # rows / (before_s + slope * (rows - before_rows)) = wanted, solved for rows
            slope_s = (seconds - before_s) / (rows - before_rows)
            gain = 1.0 - wanted * slope_s
            if not before_rows or gain <= 0.0:
                return rows
            found = math.ceil(wanted * (before_s - slope_s * before_rows) / gain - _ROUNDING)
            return max(before_rows + 1, min(rows, found))
        before_rows, before_s = rows, seconds
    return most_rows


class FormedBatch(Struct, Generic[W], frozen=True):
    """Pieces that run together.

    Attributes:
        duration_s: predicted mean.
        due_s: of the piece that is due first.
        reason: why no further piece is in it.
    """

    pieces: tuple[Piece[W], ...]
    rows: int
    requests: int
    duration_s: float
    due_s: float
    rung: int | None
    reason: Reason


class Forming(Generic[W]):
    """A batch under construction, which starts at ``start_s`` with (the first rows of) ``head``.

    Attributes:
        left: rows of the head that do not fit, as a piece of their own; None where all do.
        reason: why the last piece that was offered is not in it; ``ALL`` where every one is.
    """

    def __init__(self, head: Piece[W], start_s: float, shape: Shape, cost: CostModel) -> None:
        taken, self.left = _cut(head, shape.most_rows)
        self._shape, self._cost, self._start_s = shape, cost, start_s
        self._pieces = [taken]
        self._rows = taken.rows
        self._requests = taken.entry.work.requests
        self._duration_s = cost.mean_s(self._rows, self._requests)
        self._due_s = head.entry.due_s
        self._rung = head.entry.rung
        self.reason = Reason.ALL if self.left is None else Reason.SPLIT

    def add(self, piece: Piece[W]) -> bool:
        """Whether ``piece``, the next in order, joins the batch; if not, the batch is complete."""
        rows = self._rows + piece.rows
        requests = self._requests + piece.entry.work.requests
        refused = self._why_not(piece, rows)
        if refused is not None:
            self.reason = refused
            return False
        joined_s = self._cost.mean_s(rows, requests)
        if joined_s > self._duration_s + self._cost.mean_s(piece.rows, piece.entry.work.requests):
            self.reason = Reason.NO_GAIN
            return False
        # What is late anyway is no reason to run the rest in smaller batches.
        if self._start_s + self._duration_s <= self._due_s < self._start_s + joined_s:
            self.reason = Reason.URGENT
            return False
        self._pieces.append(piece)
        self._rows, self._requests, self._duration_s = rows, requests, joined_s
        self._due_s = min(self._due_s, piece.entry.due_s)
        if self._rung is None:
            self._rung = piece.entry.rung
        return True

    def done(self) -> FormedBatch[W]:
        """The batch as it is."""
        reason = Reason.ALONE if self.reason is Reason.ALL and len(self._pieces) == 1 else self.reason
        return FormedBatch(
            tuple(self._pieces), self._rows, self._requests, self._duration_s, self._due_s, self._rung, reason
        )

    def _why_not(self, piece: Piece[W], rows: int) -> Reason | None:
        if self.left is not None:
            return Reason.SPLIT
        if self._rows >= self._shape.target_rows:
            return Reason.EFFICIENT
        if rows > self._shape.most_rows:
            return Reason.LARGEST
        rung = piece.entry.rung
        if rung is not None and self._rung is not None and rung != self._rung:
            return Reason.OTHER_RUNG
        return None


def _cut(piece: Piece[W], most_rows: int) -> tuple[Piece[W], Piece[W] | None]:
    """``piece`` where it fits; else the first of equal parts and the rest: a small last one would cost a whole call."""
    if piece.rows <= most_rows:
        return piece, None
    rows = math.ceil(piece.rows / math.ceil(piece.rows / most_rows))
    rest = Piece(piece.entry, piece.first_row + rows, piece.rows - rows)
    return Piece(piece.entry, piece.first_row, rows), rest


def form_batch(queue: Iterable[Piece[W]], now_s: float, shape: Shape, cost: CostModel) -> FormedBatch[W] | None:
    """The batch that starts now.

    Args:
        queue: what waits, in the order of ``Entry.key``. Nothing overtakes what is due before it.
        now_s: when the batch starts.
        shape: :meth:`Shape.of` ``cost`` and the limits.

    Returns:
        None where nothing waits. Of a head that is larger than allowed, the first part, alone.
    """
    pieces = iter(queue)
    head = next(pieces, None)
    if head is None:
        return None
    forming = Forming(head, now_s, shape, cost)
    for piece in pieces:
        if not forming.add(piece):
            break
    return forming.done()
