"""What is asked: users and items by Zipf's law, numbers of candidates by a distribution, deadlines short or usual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rankine.config import Frozen
from rankine.errors import UsageError
from rankine.observation.load.candidates import parse_candidates, stratified

POOL = 960
"""Queries that a run draws from: a multiple of twenty, so that MLPerf's twenty sizes come out exactly."""


class Mix(Frozen):
    """What requests are like.

    Attributes:
        candidates: a distribution as :func:`~rankine.observation.load.candidates.parse_candidates` reads it.
        deadline_ms: of a usual request, which is also the bound on p99.
        short_share: of requests that have ``short_ms`` instead.
        zipf: exponent, of users and of items.
        top_k: how many ids are asked for.
    """

    candidates: str = "mlperf"
    deadline_ms: float = Field(50.0, gt=0)
    short_share: float = Field(0.0, ge=0, le=1)
    short_ms: float = Field(25.0, gt=0)
    zipf: float = Field(1.05, ge=0)
    top_k: int = Field(50, ge=1)


@dataclass(frozen=True)
class Query:
    """One request: raw request features by name, distinct item ids int64 ``(rows,)``, and how long it may take."""

    request: Mapping[str, Any]
    ids: NDArray[np.int64]
    top_k: int
    deadline_ms: float


def draw_queries(
    users: Sequence[Mapping[str, Any]], item_ids: NDArray[np.int64], mix: Mix, *, seed: int, count: int = POOL
) -> list[Query]:
    """``count`` queries; of each distribution of ``mix`` they have the exact shares, in random order.

    Raises:
        UsageError: there are no users, or a request would have more candidates than there are items.
    """
    candidates = parse_candidates(mix.candidates)
    if not users:
        raise UsageError("there are no users to ask for", where="users", got="none")
    if candidates.largest > len(item_ids):
        allowed = f"up to {len(item_ids)} items"
        raise UsageError("more candidates than items", where="candidates", got=mix.candidates, allowed=allowed)
    generator = np.random.default_rng([seed, 3])
    rows = stratified(candidates, count, seed=seed)
    is_short = generator.permutation(count) < round(mix.short_share * count)
    of_user = _zipf(len(users), mix.zipf)[generator.permutation(len(users))]
    chosen = generator.choice(len(users), count, p=of_user)
    of_item = np.log(_zipf(len(item_ids), mix.zipf))[generator.permutation(len(item_ids))]
    return [
        Query(
            users[user],
            _distinct(item_ids, of_item, int(number), generator),
            min(mix.top_k, int(number)),
            mix.short_ms if short else mix.deadline_ms,
        )
        for user, number, short in zip(chosen.tolist(), rows, is_short, strict=True)
    ]


def _zipf(count: int, exponent: float) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    weights /= weights.sum()
    return weights


def _distinct(
    ids: NDArray[np.int64], log_weights: NDArray[np.float64], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """``count`` of ``ids`` without replacement, by their weights (Gumbel's trick), in random order."""
    keys = log_weights + generator.gumbel(size=len(ids))
    return generator.permutation(ids[np.argpartition(-keys, count - 1)[:count]])
