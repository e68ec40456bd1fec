"""Batches that every worker runs before the server is ready: engines allocate and tune themselves on first use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

import msgspec

from rankine.serving.examples import example_bodies
from rankine.serving.items import Items
from rankine.serving.model import ServedModel
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import Work

__all__ = ["warm_works"]

_ROWS = (1, 512, 2048)
_TIMES = 3


def warm_works(model: ServedModel, max_candidates: int) -> list[Work]:
    """Valid random work of several sizes, its items from the catalog and, once each, given inline."""
    rank = RankProtocol(model, max_candidates=max_candidates)
    works: list[Work] = []
    for rows in (min(rows, max_candidates) for rows in _ROWS):
        [body] = example_bodies(model, count=1, candidates=rows, seed=rows, max_candidates=max_candidates)
        raw = msgspec.json.encode(body)
        work = rank.prepare(raw, arrived_s=perf_counter(), deadline_s=float("inf"), announced=None).work
        works += [*[work] * _TIMES, *_inline(model, work)]
    return works


def _inline(model: ServedModel, work: Work) -> Iterator[Work]:
    """The same as a request that brings its items' features: what is computed of them ahead is computed in a batch."""
    if isinstance(work.items, Items):
        columns, item_index = work.items.taken(work.item_index)
        features = {feature.name: columns[feature.name] for feature in model.schema.catalog_features}
        yield replace(work, items=features, item_index=item_index)
