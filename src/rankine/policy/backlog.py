"""The queue, kept as the batches it will run in: whether one more request fits is then a question of arithmetic.

What waits is in the order in which it is due, already divided into batches as
:func:`~rankine.policy.batching.form_batch` would. A new request changes the batch it falls into; all later ones stay as
they are and only start at another time. So 10,000 waiting requests cost a few sums.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import sub
from typing import Generic, TypeVar

from rankine.policy.batching import Entry, FormedBatch, Limits, Piece, Shape, Waiting
from rankine.policy.cost import CostModel
from rankine.policy.decision import Decision, Fit, Slice, words
from rankine.policy.lanes import Lane, finishes, start_of
from rankine.policy.plan import Plan
from rankine.policy.reason import Reason

__all__ = ["Backlog", "Decision", "Fit", "Slice"]

W = TypeVar("W", bound=Waiting)

_ROUNDING_S = 1e-9


class Backlog(Generic[W]):
    """Requests that wait, in the order in which they are due, and in the batches in which they will run.

    Not thread-safe: whoever shares it holds a lock.

    Args:
        cost: of the variant that is expected to run them; the fastest one that may, where there is a ladder.
    """

    def __init__(self, cost: CostModel, limits: Limits) -> None:
        self._limits = limits
        self._plan: Plan[W] = Plan(cost, limits)
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
        return math.fsum(self._plan.durations_s)

    def time_of(self, rows: int, requests: int) -> float:
        """Predicted time of one worker for requests that are not here yet, in batches of the efficient size."""
        target = self._plan.shape.target_rows
        if rows <= target:
            return self._plan.cost.mean_s(rows, requests)
        batches = rows / target
        return batches * self._plan.cost.mean_s(target, math.ceil(requests / batches))

    @property
    def shape(self) -> Shape:
        """Sizes of batches as they follow from the cost model."""
        return self._plan.shape

    @property
    def planned(self) -> Sequence[FormedBatch[W]]:
        """The batches in which everything would run now."""
        return self._plan.batches

    def begins_s(self, work: W, lanes: Sequence[Lane]) -> float:
        """When a request is predicted to begin, after all that is due before it, where it is done with first.

        Of a slow worker it counts as if it began later on one of usual speed.
        """
        after = self._plan.lanes_at(self._before(self._entry(work, None)), lanes)
        return start_of(self._plan.cost.mean_s(work.rows, work.requests), after)

    def slack_s(self, lanes: Sequence[Lane], factor: float = 1.0) -> float:
        """How much later everything could start with nobody late; negative where somebody will be, infinite if empty.

        Args:
            factor: times of batches over those of the backlog's own cost model: another rung of the ladder.
        """
        if not self._plan.batches:
            return math.inf
        durations_s = self._plan.durations_s if factor == 1.0 else [factor * each for each in self._plan.durations_s]
        slacks_s: Iterator[float] = map(sub, self._plan.dues_s, finishes(durations_s, lanes))
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
        """Let ``work`` in for which there is time several times over: whether it fits need not be asked."""
        entry = self._entry(work, rung)
        first, after, formed, _ = self._plan.placed(Piece(entry, 0, work.rows), lanes)
        self._keep(entry, first, after, formed)

    def remove(self, work: W, now_s: float) -> bool:
        """Take a cancelled request out; False where it does not wait (any more)."""
        entry = self._entries.get(id(work))
        if entry is None:
            return False
        self._drop({id(entry)}, *self._plan.span(entry), now_s)
        return True

    def recost(self, cost: CostModel, now_s: float) -> None:
        """Plan everything anew with another cost model."""
        self._plan.recost(cost, now_s)

    def follow(self, now_s: float) -> None:
        """Take over now and then what the cost model has learned, where nothing is taken from here."""
        self._plan.follow(now_s)

    def cut(self, at: int, pieces: int, now_s: float) -> None:
        """Make a batch of its own of the first ``pieces`` of planned batch ``at``, for a device that takes no more."""
        self._plan.cut(at, pieces, now_s)

    def take(self, now_s: float, at: int = 0) -> Decision[W]:
        """Remove a batch, to start now, and what is too late.

        Args:
            at: which of :attr:`planned`; another than the first where several devices share the queue.
        """
        self._plan.follow(now_s)
        expired: list[W] = []
        hopeless: list[W] = []
        while self._plan.batches:
            batch = self._plan.batches[0]
            if now_s + batch.duration_s <= batch.due_s:
                break
            late = [piece.entry for piece in batch.pieces if self._misses(piece, now_s)]
            if not late:  # together they are late for the first of them: fewer may not be
                self._plan.refold(0, 1, batch.pieces, (Lane(now_s),))
                break
            for entry in late:
                (expired if entry.work.deadline_s <= now_s else hopeless).append(entry.work)
            self._drop({id(entry) for entry in late}, 0, max(self._plan.span(entry)[1] for entry in late), now_s)
        if at == 0:
            self._plan.top_up(now_s)
        return self._pop(0 if expired or hopeless else at, tuple(expired), tuple(hopeless))

    def _misses(self, piece: Piece[W], now_s: float) -> bool:
        deadline_s = piece.entry.work.deadline_s
        if deadline_s <= now_s:
            return True
        return not piece.entry.keep and now_s + self._plan.cost.mean_s(piece.rows) > deadline_s + _ROUNDING_S

    def _pop(self, at: int, expired: tuple[W, ...], hopeless: tuple[W, ...]) -> Decision[W]:
        if not self._plan.batches:
            text = "nothing to run"
            return Decision((), expired, hopeless, 0, 0, 0.0, None, Reason.IDLE, text)
        at = min(at, len(self._plan.batches) - 1)
        batch = self._plan.batches[at]
        waited = len(self._entries)
        self._plan.splice(at, at + 1, [])
        self._rows -= batch.rows
        for piece in batch.pieces:
            piece.entry.waiting_rows -= piece.rows
            if not piece.entry.waiting_rows:
                del self._entries[id(piece.entry.work)]
        slices = tuple(Slice(piece.entry.work, piece.first_row, piece.rows) for piece in batch.pieces)
        reason = self._why(batch)
        text = words(reason, len(batch.pieces), waited, self._plan.shape)
        return Decision(
            slices, expired, hopeless, batch.rows, batch.requests, batch.duration_s, batch.rung, reason, text
        )

    def _why(self, batch: FormedBatch[W]) -> Reason:
        """Why nothing more is in a batch that has just left; others may have come or gone since it was planned."""
        if not self._plan.batches and batch.reason is not Reason.SPLIT:
            return Reason.ALONE if len(batch.pieces) == 1 else Reason.ALL
        if batch.reason not in (Reason.ALONE, Reason.ALL):
            return batch.reason
        return Reason.EFFICIENT if batch.rows >= self._plan.shape.target_rows else Reason.NO_GAIN

    def _insert(
        self, work: W, lanes: Sequence[Lane], *, margin_s: float, rung: int | None, force: bool, commit: bool
    ) -> Fit:
        entry = self._entry(work, rung)
        if not force:
            end_s = self._not_before_s(entry, lanes)
            if end_s + margin_s > entry.due_s:
                return Fit(False, end_s, end_s + margin_s - entry.due_s, Reason.TOO_LATE)
        first, after, formed, starts = self._plan.placed(Piece(entry, 0, work.rows), lanes)
        fit = self._judge(entry, formed, first, after, starts, margin_s)
        if commit and (fit.fits or force):
            self._keep(entry, first, after, formed)
        return fit

    def _not_before_s(self, entry: Entry[W], lanes: Sequence[Lane]) -> float:
        """A time before which nobody could be done who is due when ``entry`` is; a plan is not needed to see that.

        Under overload most requests are refused, most of them for that. What is due first runs first, and whoever joins
        a batch is done with all that is in it already.
        """
        if not self._plan.batches or len(lanes) > 1:
            return -math.inf
        return lanes[0].free_s + sum(self._plan.durations_s[: self._before(entry)]) * lanes[0].slowdown

    def _before(self, entry: Entry[W]) -> int:
        """How many planned batches are before an entry that is not in the plan."""
        after = bisect_right(self._plan.keys, entry.key)
        if after and self._plan.batches[after - 1].pieces[-1].entry.key > entry.key:
            after -= 1
        return after

    def _entry(self, work: W, rung: int | None) -> Entry[W]:
        due_s = min(work.deadline_s, work.arrived_s + self._limits.max_wait_s)
        return Entry(work, due_s, self._number, work.rows, rung)

    def _keep(self, entry: Entry[W], first: int, after: int, formed: Sequence[FormedBatch[W]]) -> None:
        """Take an entry up, with the batches that take the place of ``first .. after``."""
        self._number += 1
        self._entries[id(entry.work)] = entry
        self._rows += entry.work.rows
        self._plan.splice(first, after, formed)

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
        durations_s = [batch.duration_s for batch in formed] + self._plan.durations_s[after:]
        dues_s = [batch.due_s for batch in formed] + self._plan.dues_s[after:]
        ends_s = finishes(durations_s, starts)
        finish_s = ends_s[_last_with(entry, formed)]
        slacks_s: list[float] = list(map(sub, dues_s, ends_s))
        lacks_s = margin_s - min(slacks_s)
        if lacks_s <= 0.0:
            return Fit(True, finish_s, lacks_s, Reason.ADMITTED)
        if finish_s + margin_s > entry.due_s:
            return Fit(False, finish_s, max(lacks_s, finish_s + margin_s - entry.due_s), Reason.TOO_LATE)
        before_s = map(sub, self._plan.dues_s[first:], finishes(self._plan.durations_s[first:], starts))
        late_before = sum(slack_s < margin_s for slack_s in before_s)
        fits = sum(slack_s < margin_s for slack_s in slacks_s) <= late_before
        return Fit(fits, finish_s, lacks_s, Reason.ADMITTED if fits else Reason.OTHERS_LATE)

    def _drop(self, entries: set[int], first: int, after: int, now_s: float) -> None:
        """Remove entries, by identity, of which all pieces are in batches ``first .. after``."""
        kept: list[Piece[W]] = []
        for batch in self._plan.batches[first:after]:
            for piece in batch.pieces:
                if id(piece.entry) in entries:
                    self._rows -= piece.rows
                    self._entries.pop(id(piece.entry.work), None)
                else:
                    kept.append(piece)
        self._plan.refold(first, after, kept, self._plan.lanes_at(first, (Lane(now_s),)))


def _last_with(entry: Entry[W], formed: Sequence[FormedBatch[W]]) -> int:
    """Which of these batches is the last with a piece of ``entry``; one has one."""
    if len(formed) == 1:
        return 0
    return max(at for at, batch in enumerate(formed) if any(piece.entry is entry for piece in batch.pieces))
