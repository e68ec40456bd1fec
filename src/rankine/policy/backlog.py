"""The queue, kept as the batches it will run in: whether one more request fits is then a question of arithmetic.

What waits is in the order in which it is due, already divided into batches as
:func:`~rankine.policy.batching.form_batch` would. A new request changes the batch it falls into; all later ones stay as
they are and only start at another time. So 10,000 waiting requests cost a few sums.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from operator import sub
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from rankine.policy.batching import Entry, FormedBatch, Forming, Limits, Piece, Shape, Waiting
from rankine.policy.cost import CostModel
from rankine.policy.lanes import Lane, finishes, lanes_after, start_of
from rankine.policy.reason import Reason

__all__ = ["Backlog", "Decision", "Fit", "Slice"]

W = TypeVar("W", bound=Waiting)

_REFIT_EVERY = 16
"""Batches after which sizes follow what the cost model has learned."""
_DRIFT = 1.05
"""The plan is made anew where times have changed by more."""
_FULL = 1.25
"""A planned batch takes up latecomers to so many times the efficient size, then it is divided: were it held to the very
size, one more request would push one request out of every later batch into the next."""
_ROUNDING_S = 1e-9


class Slice(Struct, Generic[W], frozen=True):
    """Rows ``first_row .. first_row + rows`` of a request; the request is done when all of its slices are."""

    work: W
    first_row: int
    rows: int


class Decision(Struct, Generic[W], frozen=True):
    """What to do with the queue now.

    Attributes:
        slices: the next batch, in the order of its rows; empty where nothing is left to run.
        expired: requests whose deadline has passed, and ``hopeless`` ones that cannot be done by it: they have left
            the queue, and what runs of them already is of no use.
        rows, requests: of the batch.
        predicted_s: mean time of the batch.
        rung: that a session of the batch keeps to; None where the ladder may choose.
        reason: why no further request is in the batch; ``text`` says it in words.
    """

    slices: tuple[Slice[W], ...]
    expired: tuple[W, ...]
    hopeless: tuple[W, ...]
    rows: int
    requests: int
    predicted_s: float
    rung: int | None
    reason: Reason
    text: str


class Fit(Struct, frozen=True):
    """Whether a request fits into the plan.

    Attributes:
        fits: it, and everything that waits, is predicted to be on time; what was late before does not count.
        finish_s: when it is predicted to be done.
        lacks_s: by how much the tightest of all misses its time; not positive where everything is on time.
        reason: ``ADMITTED``, ``TOO_LATE`` (itself) or ``OTHERS_LATE``.
    """

    fits: bool
    finish_s: float
    lacks_s: float
    reason: Reason


class Backlog(Generic[W]):
    """Requests that wait, in the order in which they are due, and in the batches in which they will run.

    Not thread-safe: whoever shares it holds a lock.

    Args:
        cost: of the variant that is expected to run them; the fastest one that may, where there is a ladder.
    """

    def __init__(self, cost: CostModel, limits: Limits) -> None:
        self._cost, self._limits = cost, limits
        self._fit()
        self._batches: list[FormedBatch[W]] = []
        # By batch, beside it: sums and comparisons over them are what admission does, and they should cost nothing.
        self._keys: list[tuple[float, int]] = []
        self._durations_s: list[float] = []
        self._dues_s: list[float] = []
        self._entries: dict[int, Entry[W]] = {}
        self._rows = 0
        self._number = 0

    def __len__(self) -> int:
        """Requests that wait, those included of which a part runs."""
        return len(self._entries)

    def __iter__(self) -> Iterator[W]:
        """Requests in the order in which they are due."""
        return (entry.work for entry in sorted(self._entries.values(), key=lambda entry: entry.key))

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._rows

    @property
    def work_s(self) -> float:
        """Predicted time of one worker for all that waits."""
        return math.fsum(self._durations_s)

    @property
    def shape(self) -> Shape:
        """Sizes of batches as they follow from the cost model."""
        return self._shape

    @property
    def planned(self) -> Sequence[FormedBatch[W]]:
        """The batches in which everything would run now."""
        return self._batches

    def slack_s(self, lanes: Sequence[Lane], factor: float = 1.0) -> float:
        """How much later everything could start with nobody late; negative where somebody will be, infinite if empty.

        Args:
            factor: times of batches over those of the backlog's own cost model: another rung of the ladder.
        """
        if not self._batches:
            return math.inf
        durations_s = self._durations_s if factor == 1.0 else [factor * each for each in self._durations_s]
        slacks_s: Iterator[float] = map(sub, self._dues_s, finishes(durations_s, lanes))
        return min(slacks_s)

    def offer(
        self, work: W, lanes: Sequence[Lane], *, margin_s: float = 0.0, rung: int | None = None, commit: bool = True
    ) -> Fit:
        """Let ``work`` in if nobody gets late by it.

        Args:
            lanes: when each worker is free.
            margin_s: how much before its due time everything must be done.
            commit: False only asks.
        """
        return self._insert(work, lanes, margin_s=margin_s, rung=rung, force=False, commit=commit)

    def push(self, work: W, lanes: Sequence[Lane], *, rung: int | None = None, keep: bool = False) -> Fit:
        """Let ``work`` in whatever comes of it.

        Args:
            keep: it runs also where it is predicted to be late.
        """
        fit = self._insert(work, lanes, margin_s=0.0, rung=rung, force=True, commit=True)
        self._entries[id(work)].keep = keep
        return fit

    def put(self, work: W, lanes: Sequence[Lane], *, rung: int | None = None) -> None:
        """Let ``work`` in for which there is time twice over: whether it fits need not be asked."""
        entry = self._entry(work, rung)
        first, after, formed, _ = self._placed(Piece(entry, 0, work.rows), lanes)
        self._keep(entry, first, after, formed)

    def remove(self, work: W, now_s: float) -> bool:
        """Take a cancelled request out; False where it does not wait (any more)."""
        entry = self._entries.get(id(work))
        if entry is None:
            return False
        self._drop({id(entry)}, *self._span(entry), now_s)
        return True

    def recost(self, cost: CostModel, now_s: float) -> None:
        """Plan everything anew with another cost model."""
        self._cost = cost
        self._fit()
        self._replan(now_s)

    def take(self, now_s: float, at: int = 0) -> Decision[W]:
        """Remove a batch, to start now, and what is too late.

        Args:
            at: which of :attr:`planned`; another than the first where several devices share the queue.
        """
        if self._cost.observed >= self._fitted_at + _REFIT_EVERY:
            self._follow(now_s)
        expired: list[W] = []
        hopeless: list[W] = []
        while self._batches:
            batch = self._batches[0]
            if now_s + batch.duration_s <= batch.due_s:
                break
            late = [piece.entry for piece in batch.pieces if self._misses(piece, now_s)]
            if not late:  # together they are late for the first of them: fewer may not be
                self._refold(0, 1, batch.pieces, (Lane(now_s),))
                break
            for entry in late:
                (expired if entry.work.deadline_s <= now_s else hopeless).append(entry.work)
            self._drop({id(entry) for entry in late}, 0, max(self._span(entry)[1] for entry in late), now_s)
        if at == 0:
            self._top_up(now_s)
        return self._pop(0 if expired or hopeless else at, tuple(expired), tuple(hopeless))

    def _misses(self, piece: Piece[W], now_s: float) -> bool:
        deadline_s = piece.entry.work.deadline_s
        if deadline_s <= now_s:
            return True
        return not piece.entry.keep and now_s + self._cost.mean_s(piece.rows) > deadline_s + _ROUNDING_S

    def _pop(self, at: int, expired: tuple[W, ...], hopeless: tuple[W, ...]) -> Decision[W]:
        if not self._batches:
            text = "nothing to run"
            return Decision((), expired, hopeless, 0, 0, 0.0, None, Reason.IDLE, text)
        at = min(at, len(self._batches) - 1)
        batch = self._batches[at]
        waited = len(self._entries)
        self._splice(at, at + 1, [])
        self._rows -= batch.rows
        for piece in batch.pieces:
            piece.entry.waiting_rows -= piece.rows
            if not piece.entry.waiting_rows:
                del self._entries[id(piece.entry.work)]
        slices = tuple(Slice(piece.entry.work, piece.first_row, piece.rows) for piece in batch.pieces)
        reason = self._why(batch)
        text = _words(reason, len(batch.pieces), waited, self._shape)
        return Decision(
            slices, expired, hopeless, batch.rows, batch.requests, batch.duration_s, batch.rung, reason, text
        )

    def _why(self, batch: FormedBatch[W]) -> Reason:
        """Why nothing more is in a batch that has just left; others may have come or gone since it was planned."""
        if not self._batches and batch.reason is not Reason.SPLIT:
            return Reason.ALONE if len(batch.pieces) == 1 else Reason.ALL
        if batch.reason not in (Reason.ALONE, Reason.ALL):
            return batch.reason
        return Reason.EFFICIENT if batch.rows >= self._shape.target_rows else Reason.NO_GAIN

    def _insert(
        self, work: W, lanes: Sequence[Lane], *, margin_s: float, rung: int | None, force: bool, commit: bool
    ) -> Fit:
        entry = self._entry(work, rung)
        if not force:
            end_s = self._not_before_s(entry, lanes)
            if end_s + margin_s > entry.due_s:
                return Fit(False, end_s, end_s + margin_s - entry.due_s, Reason.TOO_LATE)
        first, after, formed, starts = self._placed(Piece(entry, 0, work.rows), lanes)
        fit = self._judge(entry, formed, first, after, starts, margin_s)
        if commit and (fit.fits or force):
            self._keep(entry, first, after, formed)
        return fit

    def _not_before_s(self, entry: Entry[W], lanes: Sequence[Lane]) -> float:
        """A time before which nobody could be done who is due when ``entry`` is; a plan is not needed to see that.

        Under overload most requests are refused, most of them for that. What is due first runs first, and whoever joins
        a batch is done with all that is in it already.
        """
        if not self._batches or len(lanes) > 1:
            return -math.inf
        after = bisect_right(self._keys, entry.key)
        if after and self._batches[after - 1].pieces[-1].entry.key > entry.key:
            after -= 1
        lane = lanes[0]
        return lane.free_s + sum(self._durations_s[:after]) * lane.slowdown

    def _entry(self, work: W, rung: int | None) -> Entry[W]:
        due_s = min(work.deadline_s, work.arrived_s + self._limits.max_wait_s)
        return Entry(work, due_s, self._number, work.rows, rung)

    def _keep(self, entry: Entry[W], first: int, after: int, formed: Sequence[FormedBatch[W]]) -> None:
        """Take an entry up, with the batches that take the place of ``first .. after``."""
        self._number += 1
        self._entries[id(entry.work)] = entry
        self._rows += entry.work.rows
        self._splice(first, after, formed)

    def _placed(self, piece: Piece[W], lanes: Sequence[Lane]) -> tuple[int, int, list[FormedBatch[W]], Sequence[Lane]]:
        """Where a new piece goes.

        Returns:
            ``first, after``, the batches that take the place of these in the plan, and the lanes as they find them.
        """
        if not self._batches:
            return 0, 0, _fold([piece], lanes, self._shape, self._cost), lanes
        at = max(0, bisect_right(self._keys, piece.entry.key) - 1)
        starts = self._lanes_at(at, lanes)
        joined = self._joined(at, piece, starts)
        if joined is not None:
            return at, at + 1, [joined], starts
        if at + 1 < len(self._batches) and self._batches[at].pieces[-1].entry.key < piece.entry.key:
            later = self._lanes_at(at + 1, lanes)
            joined = self._joined(at + 1, piece, later)
            if joined is not None:
                return at + 1, at + 2, [joined], later
        pieces = list(self._batches[at].pieces)
        insort(pieces, piece, key=_key)
        return at, at + 1, _fold(pieces, starts, self._shape, self._cost), starts

    def _joined(self, at: int, piece: Piece[W], starts: Sequence[Lane]) -> FormedBatch[W] | None:
        """Batch ``at`` with one more piece; None where that would make it too large, late or dearer than apart."""
        batch = self._batches[at]
        rows = batch.rows + piece.rows
        rung = piece.entry.rung
        if rows > self._full_rows or (rung is not None and rung != batch.rung):
            return None
        requests = batch.requests + piece.entry.work.requests
        duration_s = self._cost.mean_s(rows, requests)
        due_s = min(batch.due_s, piece.entry.due_s)
        alone_s = self._cost.mean_s(piece.rows, piece.entry.work.requests)
        late = start_of(duration_s, starts) + duration_s > due_s
        if late or duration_s > batch.duration_s + alone_s:
            return None
        pieces = list(batch.pieces)
        insort(pieces, piece, key=_key)
        reason = Reason.ALL if batch.reason is Reason.ALONE else batch.reason
        return FormedBatch(tuple(pieces), rows, requests, duration_s, due_s, batch.rung, reason)

    def _judge(
        self,
        entry: Entry[W],
        formed: list[FormedBatch[W]],
        first: int,
        after: int,
        starts: Sequence[Lane],
        margin_s: float,
    ) -> Fit:
        """Whether the plan holds with ``formed`` in the place of its batches ``first .. after``."""
        durations_s = [batch.duration_s for batch in formed] + self._durations_s[after:]
        dues_s = [batch.due_s for batch in formed] + self._dues_s[after:]
        ends_s = finishes(durations_s, starts)
        finish_s = ends_s[_last_with(entry, formed)]
        slacks_s: list[float] = list(map(sub, dues_s, ends_s))
        lacks_s = margin_s - min(slacks_s)
        if lacks_s <= 0.0:
            return Fit(True, finish_s, lacks_s, Reason.ADMITTED)
        if finish_s + margin_s > entry.due_s:
            return Fit(False, finish_s, max(lacks_s, finish_s + margin_s - entry.due_s), Reason.TOO_LATE)
        before_s = map(sub, self._dues_s[first:], finishes(self._durations_s[first:], starts))
        late_before = sum(slack_s < margin_s for slack_s in before_s)
        fits = sum(slack_s < margin_s for slack_s in slacks_s) <= late_before
        return Fit(fits, finish_s, lacks_s, Reason.ADMITTED if fits else Reason.OTHERS_LATE)

    def _lanes_at(self, batch: int, lanes: Sequence[Lane]) -> Sequence[Lane]:
        return lanes_after(self._durations_s[:batch], lanes) if batch else lanes

    def _top_up(self, now_s: float) -> None:
        """Fill the first batch from the second, where it is not yet efficient and the two do not get dearer by it."""
        while len(self._batches) > 1 and self._batches[0].rows < self._shape.target_rows:
            first, second = self._batches[:2]
            formed = _fold([*first.pieces, *second.pieces], (Lane(now_s),), self._shape, self._cost)
            before_s = first.duration_s + second.duration_s
            if formed[0].rows <= first.rows or math.fsum(batch.duration_s for batch in formed) > before_s + _ROUNDING_S:
                return
            self._splice(0, 2, formed)
            if len(formed) > 1:
                return

    def _span(self, entry: Entry[W]) -> tuple[int, int]:
        """The planned batches ``first .. after`` that hold pieces of ``entry``."""
        after = bisect_right(self._keys, entry.key)
        first = after - 1
        while first > 0 and any(piece.entry is entry for piece in self._batches[first - 1].pieces):
            first -= 1
        return first, after

    def _drop(self, entries: set[int], first: int, after: int, now_s: float) -> None:
        """Remove entries, by identity, of which all pieces are in batches ``first .. after``."""
        kept: list[Piece[W]] = []
        for batch in self._batches[first:after]:
            for piece in batch.pieces:
                if id(piece.entry) in entries:
                    self._rows -= piece.rows
                    self._entries.pop(id(piece.entry.work), None)
                else:
                    kept.append(piece)
        self._refold(first, after, kept, self._lanes_at(first, (Lane(now_s),)))

    def _refold(self, first: int, after: int, pieces: Sequence[Piece[W]], lanes: Sequence[Lane]) -> None:
        self._splice(first, after, _fold(pieces, lanes, self._shape, self._cost))

    def _replan(self, now_s: float) -> None:
        pieces = list(_whole(piece for batch in self._batches for piece in batch.pieces))
        self._refold(0, len(self._batches), pieces, (Lane(now_s),))

    def _follow(self, now_s: float) -> None:
        """Take over what the cost model has learned; the plan is made anew only where it matters."""
        before_s, before = self._efficient_s, self._shape
        self._fit()
        moved = self._cost.mean_s(before.target_rows) / before_s
        if not 1 / _DRIFT < moved < _DRIFT or self._shape.most_rows < before.most_rows / _DRIFT:
            self._replan(now_s)

    def _fit(self) -> None:
        self._shape = Shape.of(self._cost, self._limits)
        self._full_rows = min(self._shape.most_rows, int(_FULL * self._shape.target_rows))
        self._efficient_s = self._cost.mean_s(self._shape.target_rows)
        self._fitted_at = self._cost.observed

    def _splice(self, first: int, after: int, batches: Sequence[FormedBatch[W]]) -> None:
        self._batches[first:after] = batches
        self._keys[first:after] = [_key(batch.pieces[0]) for batch in batches]
        self._durations_s[first:after] = [batch.duration_s for batch in batches]
        self._dues_s[first:after] = [batch.due_s for batch in batches]


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


def _last_with(entry: Entry[W], formed: Sequence[FormedBatch[W]]) -> int:
    """Which of these batches is the last with a piece of ``entry``; one has one."""
    if len(formed) == 1:
        return 0
    return max(at for at, batch in enumerate(formed) if any(piece.entry is entry for piece in batch.pieces))


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


def _words(reason: Reason, taken: int, waited: int, shape: Shape) -> str:
    some = f"first {taken} of {waited} by deadline"
    match reason:
        case Reason.ALONE:
            return "alone: nothing else waits"
        case Reason.ALL:
            return f"joined all {waited} that waited"
        case Reason.EFFICIENT:
            return f"{some}: {shape.target_rows} rows are efficient"
        case Reason.LARGEST:
            return f"{some}: a batch has at most {shape.most_rows} rows"
        case Reason.URGENT:
            return f"{some}: with more, the first would be late"
        case Reason.SPLIT:
            return f"a part of one request: a batch has at most {shape.most_rows} rows"
        case Reason.OTHER_RUNG:
            return f"{some}: the session of the next keeps to another variant"
        case _:
            return f"{some}: the next would gain nothing by joining"
