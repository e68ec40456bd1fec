"""Parts of a request: a large one is cut into row ranges, which run at different times and are put together again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from msgspec import structs

from rankine.models.columns import take
from rankine.policy.backlog import Slice
from rankine.serving.work import Outcome, Work

__all__ = ["Assembly", "part_of"]


def part_of(piece: Slice[Work]) -> Work:
    """The rows of a slice, as work of its own."""
    work = piece.work
    if piece.rows == work.rows:
        return work
    rows = slice(piece.first_row, piece.first_row + piece.rows)
    pair = take(work.pair, np.arange(rows.start, rows.stop)) if work.pair else work.pair
    return replace(work, pair=pair, request_index=work.request_index[rows], item_index=work.item_index[rows])


@dataclass(slots=True)
class _Parts:
    """Of one request: the logits so far, and what ran of it.

    Attributes:
        queue_s: until the first of them began. ``run_s``: of all of them. ``engines``: that ran them.
    """

    logits: np.ndarray
    rows: int = 0
    queue_s: float = 0.0
    run_s: float = 0.0
    engines: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Assembly:
    """Requests of which some parts have run. Whoever shares it holds a lock."""

    _parts: dict[int, _Parts] = field(default_factory=dict)
    _rungs: dict[int, int] = field(default_factory=dict)

    def begin(self, piece: Slice[Work], rung: int) -> None:
        """A part of a request is about to run on this rung: all of them will, or its scores would not compare."""
        if piece.rows < piece.work.rows:
            self._rungs[id(piece.work)] = rung

    def rung_of(self, work: Work) -> int | None:
        """The rung on which parts of it ran; None where none did."""
        return self._rungs.get(id(work))

    def add(self, piece: Slice[Work], found: Outcome) -> Outcome | None:
        """The outcome of the whole request, once this was its last part."""
        work = piece.work
        if piece.rows == work.rows:
            return found
        parts = self._parts.get(id(work))
        if parts is None:
            logits = np.empty((work.rows, found.logits.shape[1]), np.float32)
            parts = self._parts[id(work)] = _Parts(logits, queue_s=found.queue_s)
        parts.logits[piece.first_row : piece.first_row + piece.rows] = found.logits
        parts.rows += piece.rows
        parts.run_s += found.run_s
        if found.engine not in parts.engines:
            parts.engines.append(found.engine)
        parts.queue_s = min(parts.queue_s, found.queue_s)
        if parts.rows < work.rows:
            return None
        self.forget(work)
        engine = "+".join(sorted(parts.engines))
        return structs.replace(found, logits=parts.logits, queue_s=parts.queue_s, run_s=parts.run_s, engine=engine)

    def forget(self, work: Work) -> None:
        """It was answered otherwise."""
        if self._parts or self._rungs:
            self._parts.pop(id(work), None)
            self._rungs.pop(id(work), None)
