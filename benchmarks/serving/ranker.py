"""What every peer runs behind its own front end: the same engine in parts, the same lookups, the best of the scores.

Peers get everything around the engine at its cheapest: bodies are decoded without checks for doubled keys or wrong
types, values of request features are encoded once and remembered, items are completed when the server starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from rankine.errors import UsageError
from rankine.models.columns import Batch, Columns, concat
from rankine.serving.config import ServeConfig
from rankine.serving.model import open_model
from rankine.serving.protocols.rank_encode import RequestEncoder
from rankine.serving.scores import Scorer
from serving.queries import Query


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that is ready to run: encoded request columns of one row, places of its items int32 ``(rows,)``."""

    request: Columns
    ids: Sequence[int]
    rows: np.ndarray
    top_k: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """The best, best first: places in the request's ids int64 ``(top_k,)`` and scores float32 ``(top_k,)``.

    Attributes:
        run_ms: of the engine's call for the batch.
    """

    order: np.ndarray
    scores: np.ndarray
    run_ms: float


class _Candidates(msgspec.Struct):
    ids: list[int]


class RankBody(msgspec.Struct):
    """A rank body, as :func:`serving.wires.rank_values` makes it."""

    request: dict[str, Any]
    candidates: _Candidates
    top_k: int
    timings: bool = False


class Ranker:
    """An opened model. Thread-safe.

    Raises:
        UsageError: the model reads features that differ per request and candidate, or has no catalog.
    """

    def __init__(self, artifact: Path, catalog: Path, variant: str, engine: str) -> None:
        config = ServeConfig(artifact=artifact, catalog=catalog, variant=variant, engine=engine, allow_uncertified=True)
        model = open_model(config)
        if model.schema.row_features or model.items is None:
            raise UsageError("peers serve models of request and static item features alone", where=str(artifact))
        self._runner, self._items = model.runner, model.items
        self._encoder, self._scorer = RequestEncoder(model.transforms), Scorer(model.schema)
        self._tasks = len(model.schema.tasks)
        self._decode = msgspec.json.Decoder(RankBody).decode
        self._encode = msgspec.json.Encoder().encode

    def prepare(self, request: Mapping[str, Any], ids: Sequence[int], known: np.ndarray, top_k: int) -> Prepared:
        """A request as the engine takes it; ``known`` are the ids, int64 ``(rows,)``.

        Raises:
            BadRequest: an id that the catalog does not have, or a value that is refused.
        """
        return Prepared(self._encoder.encode(request), ids, self._items.rows_of(known, "ids"), top_k)

    def prepare_json(self, raw: bytes) -> Prepared:
        """The same of a rank body."""
        body = self._decode(raw)
        ids = body.candidates.ids
        return self.prepare(body.request, ids, np.array(ids, np.int64), body.top_k)

    def run(self, batch: Sequence[Prepared]) -> list[Ranked]:
        """Rank several requests in one call of the engine."""
        begin = perf_counter()
        rows = [one.rows for one in batch]
        item, index = self._items.table(np.concatenate(rows))
        owner = np.repeat(np.arange(len(batch), dtype=np.int32), [len(part) for part in rows])
        logits = np.empty((len(index), self._tasks), np.float32)
        self._runner.run(Batch(concat([one.request for one in batch]), item, {}, owner, index), logits)
        run_ms = (perf_counter() - begin) * 1e3
        ends = np.cumsum([len(part) for part in rows])[:-1]
        found = []
        for one, own in zip(batch, np.split(logits, ends), strict=True):
            order, scores = self._scorer.best(own, one.top_k)
            found.append(Ranked(order, scores.ranking, run_ms))
        return found

    def best(self, query: Query) -> list[int]:
        """The ids that a query is to be answered with."""
        one = self.prepare(query.request, query.ids.tolist(), query.ids, query.top_k)
        return [one.ids[at] for at in self.run([one])[0].order.tolist()]

    def reply_json(self, one: Prepared, ranked: Ranked) -> bytes:
        """The reply to a rank body."""
        best = [one.ids[at] for at in ranked.order.tolist()]
        reply = {"ids": best, "scores": ranked.scores.tolist(), "timings": {"run_ms": ranked.run_ms}}
        return self._encode(reply)
