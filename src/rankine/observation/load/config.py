"""What a load run and a rate sweep are told."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from rankine.config import Frozen
from rankine.errors import UsageError
from rankine.observation.load.arrivals import Arrivals
from rankine.observation.load.candidates import parse_candidates

__all__ = ["MAX_MISS_SHARE", "P99_QUERIES", "LoadConfig", "SweepConfig"]

# 459 queries without a miss show with 99 % confidence that 99 % are in time: 0.99^459 < 0.01 (MLPerf LoadGen).
P99_QUERIES = 459
MAX_MISS_SHARE = 0.01


class LoadConfig(Frozen):
    """One load run against one server.

    Attributes:
        url: where the server listens, e.g. ``http://127.0.0.1:8000``.
        model: name of the model; None takes the server's default.
        rate_rps: offered rate of an open loop, requests per second; None makes it a closed loop of ``clients``.
        clients: closed loop only: each sends its next request when the last one is answered.
        duration_s: how long is measured, after ``warmup_s`` that is not.
        max_requests: measure at most so many.
        candidates: a distribution as :func:`~rankine.observation.load.candidates.parse_candidates` reads it.
        top_k: how many ids to ask for; None asks for all.
        deadline_ms: sent with each request, and the bound of goodput; ``slo_ms`` bounds goodput where this is None.
        requests_file: JSON lines, one rank body each, instead of the server's own examples.
        timings: ask the server for its own timings.
        timeout_s: an answer that takes longer counts as lost.
        cores: pin the generator to these cores.
        stop_over_miss_share: end an open loop as soon as more than this share of its requests must be misses.
    """

    url: str
    model: str | None = None
    rate_rps: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    arrivals: Arrivals = "exponential"
    clients: int = Field(default=1, ge=1, le=10_000)
    duration_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    max_requests: int | None = Field(default=None, ge=1)
    candidates: str = "512"
    top_k: int | None = Field(default=50, ge=1)
    deadline_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    slo_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)
    requests_file: Path | None = None
    warmup_s: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    timings: bool = False
    timeout_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    cores: tuple[int, ...] | None = None
    stop_over_miss_share: float | None = Field(default=None, ge=0, lt=1)

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be a URL such as http://127.0.0.1:8000")
        return url.rstrip("/")

    @field_validator("candidates")
    @classmethod
    def _is_distribution(cls, candidates: str) -> str:
        try:
            parse_candidates(candidates)
        except UsageError as error:
            raise ValueError(f"{error.message}: allowed are {error.allowed}") from None
        return candidates

    @model_validator(mode="after")
    def _stops_need_bound(self) -> Self:
        if self.stop_over_miss_share is not None and (self.bound_ms is None or self.rate_rps is None):
            raise ValueError("stop_over_miss_share needs rate_rps, and deadline_ms or slo_ms")
        return self

    @property
    def bound_ms(self) -> float | None:
        """A correct answer within so many milliseconds is goodput; without a bound there is no goodput."""
        return self.deadline_ms if self.deadline_ms is not None else self.slo_ms


class SweepConfig(Frozen):
    """A search for the highest rate at which p99 stays within ``load.slo_ms``.

    Attributes:
        load: what every trial does; its ``rate_rps`` is set by the sweep, its ``duration_s`` by the three below.
        max_miss_share: refused, failed, wrong and late answers together may be this share of the requests.
        min_queries: a trial lasts until it has offered so many, within ``min_trial_s`` and ``max_trial_s``.
        precision: the search ends when the lowest rate that failed is within this factor of the highest that held.
        start_rps: first rate to try; None estimates it by a closed loop of ``estimate_clients`` for ``estimate_s``.
        min_rate_rps: below this the search gives up.
        least_queries: a trial with fewer requests cannot hold a rate, however fast they were answered; so no rate under
            ``least_queries / max_trial_s`` is tried.
        attempts: a rate has failed when so many trials of it have; 2 forgives a single hiccup of the machine.
        max_trials: the search ends after so many trials, whatever it has found.
    """

    load: LoadConfig
    max_miss_share: float = Field(default=MAX_MISS_SHARE, ge=0, lt=1)
    min_queries: int = Field(default=P99_QUERIES, ge=1)
    min_trial_s: float = Field(default=3.0, gt=0)
    max_trial_s: float = Field(default=30.0, gt=0)
    precision: float = Field(default=0.05, gt=0, lt=1)
    start_rps: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    estimate_clients: int = Field(default=4, ge=1)
    estimate_s: float = Field(default=2.0, gt=0)
    least_queries: int = Field(default=100, ge=1)
    min_rate_rps: float = Field(default=0.5, gt=0)
    attempts: int = Field(default=2, ge=1)
    max_trials: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _load_is_open_and_bounded(self) -> Self:
        if self.load.slo_ms is None:
            raise ValueError("a sweep needs load.slo_ms")
        if self.load.rate_rps is not None:
            raise ValueError("a sweep chooses load.rate_rps itself: leave it out")
        if self.min_trial_s > self.max_trial_s:
            raise ValueError("min_trial_s is above max_trial_s")
        return self
