"""What a server spends on a request beside its engine, measured apart from whatever it is compared with.

Processor time is regressed on what was done, under loads of several sizes and rates, so that the server joins few or
many requests. What a lone request costs more, a new connection, and a refusal, is the difference to that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter, sleep

import numpy as np

from rankine.errors import SloNotMet
from rankine.observation.load import LoadConfig
from rankine.observation.load.generator import Run
from serving.client import Client, Message
from serving.drive import Drive
from serving.processes import cpu_s, server_process
from serving.ran import Ran, ran
from serving.sections import REFUSALS
from serving.traffic import due_times, intensity

CROWD_ROWS, CROWD_CLIENTS, CROWD_S = (64, 128, 256, 512), 16, 0.5
CROWD_SHARES = (0.65, 0.85)
MOST_CROWDED_S = 0.01
"""Clients of a crowd wait so long for the engine: then nobody is refused."""
LONE_EVERY_S, LONE_S = (0.0025, 0.01), 1.5
"""So often a lone request comes: soon after the last one is answered, and when the caches are cold."""
_IDLE_S = 0.5
_QUERIES = 400
_LEAST_CLIENTS, _JOINED = 2, 1.5
_FRESH, _FRESH_ROWS, _FRESH_TIMES, _SETTLES_S = 48, 64, 8, 0.02
_REFUSED_CLIENTS, _REFUSED_S = 128, 0.8
_LEAST_S = 1e-6


@dataclass(frozen=True)
class Front:
    """Processor seconds beside the engine.

    Attributes:
        request_s, row_s, batch_s: of each request, of each of its rows, of each batch, where many come.
        wakes_s: more of a request that comes alone, its engine's cold caches included: pairs (seconds that the server
            was idle, seconds more).
        connect_s: of a new connection. ``refuse_s``: of a request that is refused.
        outside_s: of a lone request's latency, what is not the server's processor time.
        joined_s: of the engine, for each further request in a batch.
    """

    request_s: float
    row_s: float
    batch_s: float
    wakes_s: tuple[tuple[float, float], ...]
    connect_s: float
    refuse_s: float
    outside_s: float
    joined_s: float


@dataclass(frozen=True)
class Spent:
    """What ran, and the processor seconds of the server meanwhile."""

    cpu_s: float
    ran: Ran

    @property
    def beside_s(self) -> float:
        """Beside the engine."""
        return self.cpu_s - self.ran.run_s


class Meter:
    """What a server spends while something is asked of it."""

    def __init__(self, url: str) -> None:
        self._url, self._process = url, server_process(url)
        before_s = cpu_s(self._process)
        sleep(_IDLE_S)
        self._idle = (cpu_s(self._process) - before_s) / _IDLE_S

    def spent(self, ask: Callable[[], object]) -> Spent:
        """While ``ask`` runs, but for what it spends when nobody asks."""
        done, before_s, began_s = ran(self._url), cpu_s(self._process), perf_counter()
        ask()
        spent_s = cpu_s(self._process) - before_s - self._idle * (perf_counter() - began_s)
        return Spent(spent_s, ran(self._url) - done)


def sized(drive: Drive, rows: int) -> Drive:
    """``drive`` with requests of so many rows, of items as popular as its own."""
    ids, counts = np.unique(np.concatenate([one.ids for one in drive.queries]), return_counts=True)
    random, shares = np.random.default_rng(rows), counts / counts.sum()
    asked = [replace(one, ids=random.choice(ids, rows, replace=False, p=shares)) for one in drive.queries[:_QUERIES]]
    return replace(drive, queries=asked)


def measure_front(drive: Drive, engine_s: Callable[[int], float]) -> Front:
    """All of it.

    Args:
        engine_s: seconds of a call for one request of so many rows.

    Raises:
        SloNotMet: the server answered nothing.
    """
    meter = Meter(drive.running.url)
    crowds = [one for rows in CROWD_ROWS for one in _crowds(meter, drive, rows, engine_s) if one.ran.batches]
    if not crowds:
        raise SloNotMet("no batch ran", where=drive.running.url)
    request_s, row_s, batch_s = regressed(crowds)
    lone_rows = round(float(np.mean([len(one.ids) for one in drive.queries])))
    lone = [_lone(meter, sized(drive, lone_rows), every_s) for every_s in LONE_EVERY_S]
    many_s = request_s + lone_rows * row_s + batch_s + engine_s(lone_rows)
    idle_s = [every_s - one.spent_s for every_s, one in zip(LONE_EVERY_S, lone, strict=True)]
    return Front(
        request_s=request_s,
        row_s=row_s,
        batch_s=batch_s,
        wakes_s=tuple((each_s, max(0.0, one.spent_s - many_s)) for each_s, one in zip(idle_s, lone, strict=True)),
        connect_s=_connect_s(meter, sized(drive, _FRESH_ROWS)),
        refuse_s=_refuse_s(meter, drive, (request_s, row_s, batch_s)),
        outside_s=max(0.0, float(np.mean([one.latency_s - one.spent_s for one in lone]))),
        joined_s=_joined_s(crowds, engine_s),
    )


def regressed(crowds: Sequence[Spent]) -> tuple[float, float, float]:
    """Seconds beside the engine of a request, of a row and of a batch, none negative: least squares of relative
    errors."""
    done = np.array([(one.ran.requests, one.ran.rows, one.ran.batches) for one in crowds])
    spent_s = np.array([one.beside_s for one in crowds])
    kept, found = [0, 1, 2], np.zeros(3)
    while kept:
        part, *_ = np.linalg.lstsq(done[:, kept] / spent_s[:, None], np.ones(len(spent_s)), rcond=None)
        if (part >= 0).all():
            found[kept] = part
            break
        kept.pop(int(np.argmin(part)))
    request_s, row_s, batch_s = (float(each) for each in found)
    return max(_LEAST_S, request_s), row_s, batch_s


def _crowds(meter: Meter, drive: Drive, rows: int, engine_s: Callable[[int], float]) -> Iterator[Spent]:
    """Clients that each ask again when they have their answer, and open loops at shares of what the server then does.

    In an open loop requests come one by one, and more turns of the event loop go into a batch.
    """
    clients = max(_LEAST_CLIENTS, min(CROWD_CLIENTS, int(MOST_CROWDED_S / engine_s(rows))))
    asked = replace(sized(drive, rows), traffic="exponential")
    closed = meter.spent(lambda: asked.crowd(clients, CROWD_S))
    yield closed
    most_rps = closed.ran.requests / CROWD_S
    for share in CROWD_SHARES if most_rps else ():
        due_s = due_times(share * most_rps, intensity("exponential", CROWD_S, seed=rows), seed=rows)
        yield meter.spent(partial(asked.replay, due_s, CROWD_S))


def _joined_s(crowds: Sequence[Spent], engine_s: Callable[[int], float]) -> float:
    """What each further request in a batch costs the engine beside its rows."""
    found = [
        (done.run_s / done.batches - engine_s(round(done.rows / done.batches))) / (done.requests / done.batches - 1)
        for done in (one.ran for one in crowds)
        if done.requests > _JOINED * done.batches
    ]
    return max(_LEAST_S, float(np.median(found))) if found else _LEAST_S


@dataclass(frozen=True)
class _Lone:
    """Of a request that comes alone: the server's processor time, the engine's included, and the latency."""

    spent_s: float
    latency_s: float


def _lone(meter: Meter, drive: Drive, every_s: float) -> _Lone:
    """Requests that come one at a time, evenly."""
    due_s = np.arange(0.0, LONE_S, every_s)
    runs: list[tuple[LoadConfig, Run]] = []
    spent = meter.spent(lambda: runs.append(drive.replay(due_s, LONE_S)))
    latency = drive.record(*runs[0]).latency
    if latency is None or not spent.ran.requests:
        raise SloNotMet("nothing was answered", where=drive.running.url)
    return _Lone(spent.cpu_s / spent.ran.requests, latency.p50_ms / 1e3)


def _connect_s(meter: Meter, drive: Drive) -> float:
    """What a new connection costs: requests that come at once on connections of their own, beside others that come at
    once on the same, later."""

    async def at_once(client: Client, messages: Sequence[Message]) -> None:
        await asyncio.gather(*(client.reply(one) for one in messages[:_FRESH]), return_exceptions=True)

    def times(count: int) -> float:
        async def ask(client: Client, messages: Sequence[Message]) -> None:
            for _ in range(count):
                await at_once(client, messages)
                await asyncio.sleep(_SETTLES_S)

        spent = [meter.spent(lambda: drive.asked(ask)) for _ in range(_FRESH_TIMES)]
        return float(np.median([one.cpu_s for one in spent]))

    # Connections are closed at the end of each, which is the same once and three times.
    once_s, thrice_s = times(1), times(3)
    return max(0.0, once_s - (thrice_s - once_s) / 2) / _FRESH


def _refuse_s(meter: Meter, drive: Drive, front: tuple[float, float, float]) -> float:
    """What a request costs that is refused, where many more come than can be answered."""
    runs: list[Run] = []
    spent = meter.spent(lambda: runs.append(drive.crowd(_REFUSED_CLIENTS, _REFUSED_S)))
    refused = sum(one.outcome in REFUSALS for one in runs[0].answers)
    done = spent.ran
    answering_s = float(np.dot(front, (done.requests, done.rows, done.batches)))
    return max(0.0, spent.beside_s - answering_s) / refused if refused else 0.0
