"""The batches in which everything that waits will run, in the order in which it is due.

A new request changes the batch it falls into; all later ones stay as they are and only start at another time.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from msgspec.structs import replace

from rankine.policy.batching import Entry, FormedBatch, Forming, Limits, Piece, Shape, Waiting
from rankine.policy.cost import CostModel
from rankine.policy.lanes import Lane, lanes_after, start_of
from rankine.policy.reason import Reason

__all__ = ["Plan"]

W = TypeVar("W", bound=Waiting)

_REFIT_EVERY = 16
"""Batches after which sizes follow what the cost model has learned."""
_DRIFT = 1.05
"""The plan is made anew where times have changed by more."""
_FULL = 1.25
"""A planned batch takes up latecomers to so many times the efficient size, then it is divided: were it held to the very
size, one more request would push one request out of every later batch into the next."""
_ROUNDING_S = 1e-9


class Plan(Generic[W]):
    """Batches, as :func:`~rankine.policy.batching.form_batch` would take one after the other.

    Attributes:
        cost: by which they are formed. ``shape``: the sizes that follow from it.
        batches: the most urgent first.
        keys, durations_s, dues_s: of each batch, beside it: sums and comparisons over them are what admission does, and
            they should cost nothing.
    """

    def __init__(self, cost: CostModel, limits: Limits) -> None:
        self.cost, self._limits = cost, limits
        self._fit()
        self.batches: list[FormedBatch[W]] = []
        self.keys: list[tuple[float, int]] = []
        self.durations_s: list[float] = []
        self.dues_s: list[float] = []

    def recost(self, cost: CostModel, now_s: float) -> None:
        """Form everything anew with another cost model."""
        self.cost = cost
        self._fit()
        self._replan(now_s)

    def follow(self, now_s: float) -> None:
        """Take over now and then what the cost model has learned; all is formed anew only where it matters."""
        if self.cost.observed < self._fitted_at + _REFIT_EVERY:
            return
        before_s, before = self._efficient_s, self.shape
        self._fit()
        moved = self.cost.mean_s(before.target_rows) / before_s
        if not 1 / _DRIFT < moved < _DRIFT or self.shape.most_rows < before.most_rows / _DRIFT:
            self._replan(now_s)

    def placed(self, piece: Piece[W], lanes: Sequence[Lane]) -> tuple[int, int, list[FormedBatch[W]], Sequence[Lane]]:
        """Where a new piece goes.

        Returns:
            ``first, after``, the batches that take the place of these in the plan, and the lanes as they find them.
        """
        if not self.batches:
            return 0, 0, _fold([piece], lanes, self.shape, self.cost), lanes
        at = max(0, bisect_right(self.keys, piece.entry.key) - 1)
        starts = self.lanes_at(at, lanes)
        joined = self._joined(at, piece, starts)
        if joined is not None:
            return at, at + 1, [joined], starts
        if at + 1 < len(self.batches) and self.batches[at].pieces[-1].entry.key < piece.entry.key:
            later = self.lanes_at(at + 1, lanes)
            joined = self._joined(at + 1, piece, later)
            if joined is not None:
                return at + 1, at + 2, [joined], later
        pieces = list(self.batches[at].pieces)
        insort(pieces, piece, key=_key)
        return at, at + 1, _fold(pieces, starts, self.shape, self.cost), starts

    def lanes_at(self, batch: int, lanes: Sequence[Lane]) -> Sequence[Lane]:
        """The lanes as a planned batch finds them."""
        return lanes_after(self.durations_s[:batch], lanes) if batch else lanes

    def top_up(self, now_s: float) -> None:
        """Fill the first batch from the second, where it is not yet efficient and the two do not get dearer by it."""
        while len(self.batches) > 1 and self.batches[0].rows < self.shape.target_rows:
            first, second = self.batches[:2]
            if first.reason is Reason.OWN_SIZE:
                return
            formed = _fold([*first.pieces, *second.pieces], (Lane(now_s),), self.shape, self.cost)
            before_s = first.duration_s + second.duration_s
            if formed[0].rows <= first.rows or math.fsum(batch.duration_s for batch in formed) > before_s + _ROUNDING_S:
                return
            self.splice(0, 2, formed)
            if len(formed) > 1:
                return

    def cut(self, at: int, pieces: int, now_s: float) -> None:
        """Divide a planned batch after so many pieces, for a device of which these are an efficient batch."""
        batch = self.batches[at]
        if not 0 < pieces < len(batch.pieces):
            return
        some = batch.pieces[:pieces]
        rows, requests = sum(each.rows for each in some), sum(each.entry.work.requests for each in some)
        rung = next((each.entry.rung for each in some if each.entry.rung is not None), None)
        due_s = min(each.entry.due_s for each in some)
        first = FormedBatch(some, rows, requests, self.cost.mean_s(rows, requests), due_s, rung, Reason.OWN_SIZE)
        rest = _fold(batch.pieces[pieces:], (Lane(now_s),), self.shape, self.cost)
        self.splice(at, at + 1, [first, *rest])

    def span(self, entry: Entry[W]) -> tuple[int, int]:
        """The planned batches ``first .. after`` that hold pieces of ``entry``."""
        after = bisect_right(self.keys, entry.key)
        first = after - 1
        while first > 0 and any(piece.entry is entry for piece in self.batches[first - 1].pieces):
            first -= 1
        return first, after

    def refold(self, first: int, after: int, pieces: Sequence[Piece[W]], lanes: Sequence[Lane]) -> None:
        """Put ``pieces``, in batches anew, in the place of batches ``first .. after``."""
        self.splice(first, after, _fold(pieces, lanes, self.shape, self.cost))

    def splice(self, first: int, after: int, batches: Sequence[FormedBatch[W]]) -> None:
        """Put ``batches`` in the place of batches ``first .. after``."""
        self.batches[first:after] = batches
        self.keys[first:after] = [_key(batch.pieces[0]) for batch in batches]
        self.durations_s[first:after] = [batch.duration_s for batch in batches]
        self.dues_s[first:after] = [batch.due_s for batch in batches]

    def _joined(self, at: int, piece: Piece[W], starts: Sequence[Lane]) -> FormedBatch[W] | None:
        """Batch ``at`` with one more piece; None where that would make it too large, late or dearer than apart."""
        batch = self.batches[at]
        rows = batch.rows + piece.rows
        rung = piece.entry.rung
        if rows > self._full_rows or (rung is not None and rung != batch.rung):
            return None
        requests = batch.requests + piece.entry.work.requests
        duration_s = self.cost.mean_s(rows, requests)
        due_s = min(batch.due_s, piece.entry.due_s)
        alone_s = self.cost.mean_s(piece.rows, piece.entry.work.requests)
        late = start_of(duration_s, starts) + duration_s > due_s
        if late or duration_s > batch.duration_s + alone_s:
            return None
        pieces = list(batch.pieces)
        insort(pieces, piece, key=_key)
        reason = Reason.ALL if batch.reason is Reason.ALONE else batch.reason
        return FormedBatch(tuple(pieces), rows, requests, duration_s, due_s, batch.rung, reason)

    def _replan(self, now_s: float) -> None:
        pieces = list(_whole(piece for batch in self.batches for piece in batch.pieces))
        self.refold(0, len(self.batches), pieces, (Lane(now_s),))

    def _fit(self) -> None:
        self.shape = Shape.of(self.cost, self._limits)
        self._full_rows = min(self.shape.most_rows, int(_FULL * self.shape.target_rows))
        self._efficient_s = self.cost.mean_s(self.shape.target_rows)
        self._fitted_at = self.cost.observed


def _fold(pieces: Sequence[Piece[W]], lanes: Sequence[Lane], shape: Shape, cost: CostModel) -> list[FormedBatch[W]]:
    """``pieces`` in batches, as :func:`~rankine.policy.batching.form_batch` takes one after the other."""
    if len(pieces) == 1 and pieces[0].rows <= shape.most_rows:  # most of the time nothing else waits
        return [_of_one(pieces[0], cost)]
    formed: list[FormedBatch[W]] = []
    left = deque(pieces)
    while left:
        head = left.popleft()
        forming = Forming(head, start_of(cost.mean_s(min(head.rows, shape.most_rows)), lanes), shape, cost)
        if forming.left is not None:
            left.appendleft(forming.left)
        while left and forming.add(left[0]):
            left.popleft()
        formed.append(forming.done())
        lanes = lanes_after([formed[-1].duration_s], lanes)
    return formed


def _of_one(piece: Piece[W], cost: CostModel) -> FormedBatch[W]:
    entry, requests = piece.entry, piece.entry.work.requests
    seconds = cost.mean_s(piece.rows, requests)
    return FormedBatch((piece,), piece.rows, requests, seconds, entry.due_s, entry.rung, Reason.ALONE)


def _key(piece: Piece[W]) -> tuple[float, int]:
    return piece.entry.key


def _whole(pieces: Iterable[Piece[W]]) -> Iterator[Piece[W]]:
    """Pieces with those of one request that follow each other put together."""
    held: Piece[W] | None = None
    for piece in pieces:
        if held is not None and piece.entry is held.entry:
            held = replace(held, rows=held.rows + piece.rows)
            continue
        if held is not None:
            yield held
        held = piece
    if held is not None:
        yield held
