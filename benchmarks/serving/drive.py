"""Drives one server: an open loop at a rate, a closed loop of clients, and the search for the rate that it sustains."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import uvloop

from rankine.errors import EngineError
from rankine.observation.load import LoadConfig, LoadResult
from rankine.observation.load.generator import Run, closed_loop, open_loop, pinned, quiet
from rankine.observation.load.record import summarize
from serving.client import Client, Message, Reply
from serving.peers.peer import Running
from serving.queries import Query
from serving.traffic import Floats, Kind, due_times, intensity

T = TypeVar("T")
Reference = Callable[[Query], Sequence[int]]
"""The ids that a query is to be answered with."""

CHECKED = 20
WARMUP_S, ESTIMATE_S, ESTIMATE_CLIENTS = 0.5, 1.5, 8
STOP_OVER_MISS_SHARE = 0.02
"""A probe that has missed twice as much as it may is over."""
_DRAIN_ATTEMPTS = 10


@dataclass(frozen=True)
class Drive:
    """A server under load; the target of :func:`rankine.observation.load.sweep`.

    Attributes:
        queries: to draw from.
        traffic: how requests arrive.
        slo_ms: bound on every answer.
        cores: of the generator; None leaves it where it is.
        seed: of arrivals and of the order of queries.
        timeout_s: then a client gives up.
    """

    running: Running
    queries: Sequence[Query]
    traffic: Kind
    slo_ms: float
    cores: tuple[int, ...] | None = None
    seed: int = 0
    timeout_s: float = 1.0

    def estimate(self) -> float:
        config = self._config(clients=ESTIMATE_CLIENTS, duration_s=ESTIMATE_S, warmup_s=0.5)
        return self.record(config, self.closed(config)).achieved_rps

    def offer(self, rate_rps: float, duration_s: float) -> LoadResult:
        config, run = self.open(rate_rps, duration_s, stop_over_miss_share=STOP_OVER_MISS_SHARE)
        return self.record(config, run)

    def drain(self) -> None:
        for _ in range(_DRAIN_ATTEMPTS):
            config = self._config(max_requests=5, duration_s=2.0, warmup_s=0.0)
            latency = self.record(config, self.closed(config)).latency
            if latency is not None and latency.max_ms <= self.slo_ms:
                return

    def open(
        self, rate_rps: float, duration_s: float, *, stop_over_miss_share: float | None = None
    ) -> tuple[LoadConfig, Run]:
        """One open-loop run; ended early where so many requests have missed that it does not matter any more."""
        return self.replay(self.trace(rate_rps, duration_s), duration_s, stop_over_miss_share=stop_over_miss_share)

    def trace(self, rate_rps: float, duration_s: float) -> Floats:
        """When the requests of a run are due, seconds from its start; its warm-up comes first."""
        return due_times(rate_rps, intensity(self.traffic, WARMUP_S + duration_s, seed=self.seed), seed=self.seed)

    def offered(self, rate_rps: float, duration_s: float) -> float:
        """The rate that :meth:`open` really offers when it is asked for ``rate_rps``."""
        return float((self.trace(rate_rps, duration_s) >= WARMUP_S).sum()) / duration_s

    def replay(
        self, due_s: Floats, duration_s: float, *, stop_over_miss_share: float | None = None
    ) -> tuple[LoadConfig, Run]:
        """An open loop of requests that are due at times of one's own."""
        rate_rps = max(1.0, float((due_s >= WARMUP_S).sum())) / duration_s
        config = self._config(rate_rps=rate_rps, duration_s=duration_s, stop_over_miss_share=stop_over_miss_share)
        return config, self._run(lambda client, sent: open_loop(client, sent, due_s, config))

    def record(self, config: LoadConfig, run: Run) -> LoadResult:
        """The figures of a run."""
        return summarize(config, run, {})

    def closed(self, config: LoadConfig) -> Run:
        """Clients that each wait for their answer."""
        return self._run(lambda client, sent: closed_loop(client, sent, config))

    def one_client(self, requests: int, *, warmup_s: float = WARMUP_S) -> LoadResult:
        """One client, one request after the other."""
        config = self._config(max_requests=requests, duration_s=60.0, warmup_s=warmup_s)
        return self.record(config, self.closed(config))

    def crowd(self, clients: int, duration_s: float) -> Run:
        """So many clients, each of which asks again when it has its answer."""
        return self.closed(self._config(clients=clients, duration_s=duration_s, warmup_s=0.0))

    def asked(self, ask: Callable[[Client, Sequence[Message]], Awaitable[T]]) -> T:
        """What comes of asking the queries in a way of one's own."""
        return self._run(ask)

    def check(self, reference: Reference) -> None:
        """Hold the server's answers to the first queries to what the engine answers in this process.

        Raises:
            EngineError: it ranks otherwise; then its times would mean nothing.
        """

        async def one(client: Client, message: Message) -> Reply | None:
            with suppress(OSError):  # told below as no answer
                return await client.reply(message)
            return None

        async def ask(client: Client, messages: Sequence[Message]) -> list[Reply | None]:
            return [await one(client, message) for message in messages[:CHECKED]]

        for query, reply in zip(self.queries, self._run(ask), strict=False):
            wanted = reference(query)
            if reply is None or list(reply.ids) != list(wanted):
                got = "no answer" if reply is None else f"{reply.ids[:5]}..., not {wanted[:5]}..."
                raise EngineError("the server ranks otherwise", where=self.running.url, got=got)

    def _run(self, measured: Callable[[Client, Sequence[Message]], Awaitable[T]]) -> T:
        wire = self.running.wire
        messages = [wire.encode(query) for query in self.queries]

        async def run() -> T:
            client = Client(
                self.running.url,
                wire.read,
                deadline_header=wire.deadline_header,
                bound_ms=self.slo_ms,
                timeout_s=self.timeout_s,
            )
            async with client:
                with quiet():
                    return await measured(client, messages)

        with pinned(self.cores), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run())

    def _config(
        self,
        *,
        duration_s: float,
        rate_rps: float | None = None,
        clients: int = 1,
        warmup_s: float = WARMUP_S,
        max_requests: int | None = None,
        stop_over_miss_share: float | None = None,
    ) -> LoadConfig:
        return LoadConfig(
            url=self.running.url,
            rate_rps=rate_rps,
            clients=clients,
            duration_s=duration_s,
            warmup_s=warmup_s,
            max_requests=max_requests,
            slo_ms=self.slo_ms,
            stop_over_miss_share=stop_over_miss_share,
            seed=self.seed,
        )
