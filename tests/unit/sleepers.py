"""Runners that take a time instead of computing, and the work for them: what tests of pools under load run."""

from __future__ import annotations

import time
from collections.abc import Callable
from time import perf_counter

import msgspec
import numpy as np

from e2e.small_served import rank_body
from rankine.models.columns import Batch, Columns
from rankine.serving.model import ServedModel
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import Work

__all__ = ["Sleeper", "work_maker"]


class Sleeper:
    """A runner that takes a time for each row, answers with its own mark, and fails when it is told to.

    Args:
        call_s: that every call takes beside that.
    """

    def __init__(self, mark: float, row_s: float, call_s: float = 0.0) -> None:
        self.mark, self.row_s, self.call_s = mark, row_s, call_s
        self.error: Exception | None = None
        self.calls = 0

    def run(self, batch: Batch, out: np.ndarray) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error
        time.sleep(self.call_s + self.row_s * batch.rows)
        out[:] = self.mark

    def complete(self, items: Columns) -> Columns:
        return items

    def close(self) -> None:
        """It holds nothing."""


def work_maker(model: ServedModel) -> Callable[..., Work]:
    """Makes the work of a request with so many ``rows`` that came now, of a ``session`` if that is given."""
    protocol = RankProtocol(model, max_candidates=2000)

    def make(rows: int, *, within_s: float = 30.0, session: str = "") -> Work:
        raw = msgspec.json.encode(rank_body(rows))
        now_s = perf_counter()
        work = protocol.prepare(raw, arrived_s=now_s, deadline_s=now_s + within_s, announced=None).work
        work.session = session
        return work

    return make
