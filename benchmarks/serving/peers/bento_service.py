"""BentoML's adaptive batcher: what it joins runs in one call of the engine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import bentoml
import numpy as np

from serving.ranker import Ranker

TOLD = json.loads(os.environ["RANKINE_BENTO"])
"""The model, and the settings of the batcher, which BentoML wants when the class is made."""


@bentoml.service(
    name="ranking",
    workers=1,
    threads=1,
    traffic={"timeout": 10},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Ranking:
    """One worker with one thread: the server has one core."""

    def __init__(self) -> None:
        self._ranker = Ranker(Path(TOLD["artifact"]), Path(TOLD["catalog"]), TOLD["variant"], TOLD["engine"])

    @bentoml.api(
        route="/rank", batchable=True, max_batch_size=TOLD["max_requests"], max_latency_ms=TOLD["max_latency_ms"]
    )
    def rank(self, queries: list[Any]) -> list[Any]:
        prepared = []
        for query in queries:
            ids = query["candidates"]["ids"]
            known = np.array(ids, np.int64)
            prepared.append(self._ranker.prepare(query["request"], ids, known, query["top_k"]))
        return [
            {
                "ids": [one.ids[at] for at in ranked.order.tolist()],
                "scores": ranked.scores.tolist(),
                "timings": {"run_ms": ranked.run_ms},
            }
            for one, ranked in zip(prepared, self._ranker.run(prepared), strict=True)
        ]
