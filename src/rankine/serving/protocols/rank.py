"""The rank endpoint: one request, its candidates, and back the best of them with their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from rankine.errors import BadRequest, PayloadTooLarge
from rankine.models.columns import Columns
from rankine.serving.inputs import ids_array
from rankine.serving.items import Items
from rankine.serving.model import ServedModel, generation_of
from rankine.serving.protocols.rank_body import BodyDecoder, Ids, RankBody
from rankine.serving.protocols.rank_encode import Given, RequestEncoder, encode_given
from rankine.serving.scores import Scorer
from rankine.serving.work import Outcome, Work

__all__ = ["RankProtocol", "Ranking", "Worth"]

Worth = Callable[[int], int]
"""Of so many candidates with prior scores, how many are to be scored."""


def all_of_them(rows: int) -> int:
    """Where nothing is left out."""
    return rows


class Ranking(Struct, frozen=True):
    """A rank request that is ready to run, and what its reply needs.

    ``scored``: of its candidates only so many were, the best by their prior scores; None: all.
    """

    work: Work
    ids: Ids
    generation: int
    top_k: int
    timings: bool
    prepare_s: float
    scored: int | None = None


class RankProtocol:
    """Rank bodies of one model to work, and outcomes to replies. Used from several threads."""

    def __init__(self, model: ServedModel, *, max_candidates: int) -> None:
        self._model = model
        self._schema = model.schema
        self._max_candidates = max_candidates
        self._decoder = BodyDecoder(model.schema)
        self._request = RequestEncoder(model.transforms)
        self._scorer = Scorer(model.schema)
        self._row_features, self._static = self._schema.row_features, self._schema.catalog_features
        self._static_names = frozenset(feature.name for feature in self._static)
        self._encode_reply = msgspec.json.Encoder().encode
        self._artifact = model.artifact.digest

    def prepare(
        self,
        raw: bytes,
        *,
        arrived_s: float,
        deadline_s: float,
        announced: int | None,
        worth: Worth = all_of_them,
    ) -> Ranking:
        """Parse, check and encode a body.

        Args:
            raw: JSON, not compressed.
            announced: number of candidates that the request's header gave.
            worth: of so many candidates with prior scores, how many are to be scored.

        Raises:
            BadRequest: names the field that is wrong.
            PayloadTooLarge: too many candidates.
        """
        begin_s = perf_counter()
        return self.accept(
            self._decoder.decode(raw),
            arrived_s=arrived_s,
            deadline_s=deadline_s,
            announced=announced,
            begin_s=begin_s,
            worth=worth,
        )

    def accept(
        self,
        body: RankBody,
        *,
        arrived_s: float,
        deadline_s: float,
        announced: int | None,
        begin_s: float,
        worth: Worth = all_of_them,
    ) -> Ranking:
        """Check and encode a body that is parsed, which began at ``begin_s``.

        Raises:
            BadRequest, PayloadTooLarge: as :meth:`prepare`.
        """
        rows = self.check_count(len(body.ids), announced)
        if body.prior is not None:
            _check_length(body.prior, rows, "candidates.prior")
        for name, values in body.features.items():
            _check_length(values, rows, f"candidates.features.{name}")
        scored = rows if body.prior is None else worth(rows)
        truncated = scored if scored < rows else None
        if truncated is not None:
            body, rows = best_by_prior(body, truncated), truncated
        ids, features = body.ids, body.features
        request = self._request.encode(body.request)
        pair: Columns = {}
        if self._row_features:
            pair = encode_given(self._model.transforms, self._row_features, features, rows, "candidates.features")
        known = ids
        if not isinstance(known, np.ndarray):
            known = ids_array(known, self._schema.item_id_dtype, "candidates.ids")
        held = self._model.items  # once: the catalog may move on while this request is prepared
        items, item_index = self._items(held, ids, known, features)
        work = Work(request, pair, items, np.zeros(rows, np.int32), item_index, 1, arrived_s, deadline_s)
        top_k = rows if body.top_k is None else min(body.top_k, rows)
        spent_s = perf_counter() - begin_s
        return Ranking(work, ids, generation_of(held), top_k, body.timings, spent_s, truncated)

    def reply(self, ranking: Ranking, outcome: Outcome, request_id: str) -> bytes:
        """The JSON reply; see :meth:`answer`."""
        ids = ranking.ids
        if isinstance(ids, np.ndarray) and ids.dtype == np.int64:
            found = self._scorer.best_json(ids, outcome.logits, ranking.top_k)
            if found is not None:
                best, scores = map(msgspec.Raw, found)
                return self._encode_reply(self._fields(ranking, outcome, request_id, best, scores))
        return self._encode_reply(self.answer(ranking, outcome, request_id))

    def answer(self, ranking: Ranking, outcome: Outcome, request_id: str) -> dict[str, Any]:
        """The reply's fields: ``top_k`` ids and scores, best first; with several tasks also the scores of each.

        Raises:
            BadRequest: the ranking has no finite value for a candidate.
        """
        best, scores, tasks = self._best(ranking, outcome.logits)
        reply = self._fields(ranking, outcome, request_id, best, scores)
        if tasks:
            reply["tasks"] = {name: values.tolist() for name, values in tasks.items()}
        return reply

    def _fields(self, ranking: Ranking, outcome: Outcome, request_id: str, best: Any, scores: Any) -> dict[str, Any]:
        """All of them but the scores of tasks."""
        reply: dict[str, Any] = {
            "ids": best,
            "scores": scores,
            "request_id": request_id,
            "artifact": self._artifact,
            "generation": ranking.generation,
            "variant": outcome.variant,
            "engine": outcome.engine,
        }
        if ranking.scored is not None:
            reply["scored"] = ranking.scored
        if ranking.timings:
            reply["timings"] = {
                "queue_ms": 1000 * outcome.queue_s,
                "prepare_ms": 1000 * ranking.prepare_s,
                "run_ms": 1000 * outcome.run_s,
                "batch_rows": outcome.batch_rows,
                "batch_requests": outcome.batch_requests,
                "reason": outcome.reason,
            }
        return reply

    def _best(
        self, ranking: Ranking, logits: np.ndarray
    ) -> tuple[Sequence[Any], Sequence[float], Mapping[str, np.ndarray]]:
        """The best ids, best first, their scores, and those of each task where there are several."""
        ids = ranking.ids
        if isinstance(ids, np.ndarray) and ids.dtype == np.int64:
            found = self._scorer.best_ids(ids, logits, ranking.top_k)
            if found is not None:
                return *found, {}
        order, scores = self._scorer.best(logits, ranking.top_k)
        best = ids.take(order).tolist() if isinstance(ids, np.ndarray) else [ids[at] for at in order.tolist()]
        return best, scores.ranking.tolist(), scores.tasks

    def check_count(self, rows: int, announced: int | None) -> int:
        """``rows`` if so many candidates may be ranked.

        Raises:
            BadRequest: there are none, or not as many as announced.
            PayloadTooLarge: there are too many.
        """
        where = "candidates.ids"
        if rows == 0:
            raise BadRequest("there are no candidates", where=where, hint="Give at least one item id.")
        if rows > self._max_candidates:
            allowed = f"at most {self._max_candidates}"
            raise PayloadTooLarge("too many candidates", where=where, got=rows, allowed=allowed)
        if announced is not None and announced != rows:
            allowed = f"{announced}, as x-rankine-candidates says"
            raise BadRequest("has another length than announced", where=where, got=rows, allowed=allowed)
        return rows

    def _items(
        self, held: Items | None, ids: Ids, known: np.ndarray, features: Given
    ) -> tuple[Items | Columns, np.ndarray]:
        """Static item features: rows of the catalog, or, where any is given inline, the items of this request."""
        if not features or self._static_names.isdisjoint(features):
            return self._model.find(held, known, "candidates.ids")
        given = dict(features)
        if self._schema.item_id in self._static_names:
            same = ids.tolist() if isinstance(ids, np.ndarray) else ids
            given.setdefault(self._schema.item_id, same)  # the id is a feature too: no need to say it twice
        items = encode_given(self._model.transforms, self._static, given, len(ids), "candidates.features")
        return items, np.arange(len(ids), dtype=np.int32)


def best_by_prior(body: RankBody, count: int) -> RankBody:
    """``body`` with the ``count`` candidates whose prior scores are best, in their order; ties go to the earlier."""
    prior = np.asarray(body.prior, np.float64)
    kept = np.sort(np.argsort(-prior, kind="stable")[:count]).tolist()
    features = {name: [values[at] for at in kept] for name, values in body.features.items()}
    ids = body.ids
    return replace(
        body, ids=ids.take(kept) if isinstance(ids, np.ndarray) else [ids[at] for at in kept], features=features
    )


def _check_length(values: Sequence[Any], rows: int, where: str) -> None:
    if len(values) != rows:
        allowed = f"{rows}, as there are ids"
        raise BadRequest("must have one value a candidate", where=where, got=len(values), allowed=allowed)
