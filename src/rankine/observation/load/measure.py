"""One load run from end to end: bodies, warm-up, measurement, record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rankine.environment import environment
from rankine.events import Emit, ignore, step
from rankine.observation.load.answer import Body
from rankine.observation.load.arrivals import schedule
from rankine.observation.load.bodies import POOL, bodies_from_examples, bodies_from_file
from rankine.observation.load.candidates import parse_candidates
from rankine.observation.load.config import LoadConfig
from rankine.observation.load.generator import Run, closed_loop, open_loop, pinned, quiet
from rankine.observation.load.record import LoadResult, summarize
from rankine.observation.load.transport import Transport

__all__ = ["run_load"]

TICK_S = 1.0
_MOST_IDS = 1_000_000
"""That a server makes up at one time."""


def run_load(config: LoadConfig, emit: Emit = ignore) -> LoadResult:
    """Put ``config.url`` under load and tell how it did. Blocks; runs an event loop of its own.

    Raises:
        UsageError: nobody listens, the model is unknown, or the cores or candidates asked for do not exist.
        DataError: the requests file cannot be used.
    """
    total_s = round(config.warmup_s + config.duration_s)
    with (
        pinned(config.cores),
        step(emit, "load", total_s, "s") as advance,
        asyncio.Runner(loop_factory=_loop) as runner,
    ):
        run = runner.run(_measure(config, advance))
        result = summarize(config, run, environment())
        advance(total_s, f"{result.achieved_rps:.1f} rps")
    return result


async def _measure(config: LoadConfig, advance: Callable[[int, str], None]) -> Run:
    async with Transport(config) as transport:
        bodies = await _bodies(transport, config)
        if config.rate_rps is None:
            measurement = closed_loop(transport, bodies, config)
        else:
            due, config = _due(config.rate_rps, config)
            measurement = open_loop(transport, bodies, due, config)
        with quiet():
            ticker = asyncio.create_task(_tick(advance))
            try:
                return await measurement
            finally:
                ticker.cancel()


async def _bodies(transport: Transport, config: LoadConfig) -> list[Body]:
    if config.requests_file is not None:
        return bodies_from_file(config.requests_file, config)
    largest = parse_candidates(config.candidates).largest
    count = max(1, min(POOL, _MOST_IDS // largest))
    return bodies_from_examples(await transport.examples(count, largest), config)


def _due(rate_rps: float, config: LoadConfig) -> tuple[NDArray[np.float64], LoadConfig]:
    """The schedule, and the configuration with the duration that ``max_requests`` leaves of it."""
    total_s = config.warmup_s + config.duration_s
    due = schedule(rate_rps, total_s, seed=config.seed, arrivals=config.arrivals)
    due = due if len(due) else np.array([config.warmup_s])  # a very low rate: one request, not none
    if config.max_requests is None:
        return due, config
    last = int(np.searchsorted(due, config.warmup_s)) + config.max_requests
    if last >= len(due):
        return due, config
    return due[:last], config.model_copy(update={"duration_s": float(due[last]) - config.warmup_s})


async def _tick(advance: Callable[[int, str], None]) -> None:
    start = perf_counter()
    while True:
        await asyncio.sleep(TICK_S)
        advance(int(perf_counter() - start), "")


def _loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ModuleNotFoundError:  # not on Windows: the standard loop does, with some 50 us more a request
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
