"""Batches that every worker runs before the server is ready: engines allocate and tune themselves on first use."""

from __future__ import annotations

from time import perf_counter

import msgspec

from rankine.serving.examples import example_bodies
from rankine.serving.model import ServedModel
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import Work

__all__ = ["warm_works"]

_ROWS = (1, 512, 2048)
_TIMES = 3


def warm_works(model: ServedModel, max_candidates: int) -> list[Work]:
    """Valid random work of several sizes."""
    rank = RankProtocol(model, max_candidates=max_candidates)
    works = []
    for rows in (min(rows, max_candidates) for rows in _ROWS for _ in range(_TIMES)):
        [body] = example_bodies(model, count=1, candidates=rows, seed=rows, max_candidates=max_candidates)
        now = perf_counter()
        raw = msgspec.json.encode(body)
        works.append(rank.prepare(raw, arrived_s=now, deadline_s=float("inf"), announced=None).work)
    return works
