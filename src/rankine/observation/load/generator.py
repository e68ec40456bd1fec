"""The generators: an open loop that keeps its schedule whatever the server does, and a closed loop of clients.

In an open loop every request has a time at which it is *due*, drawn before the run; its latency counts from there, so
a server (or a generator) that stalls cannot hide the requests that would have come meanwhile ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankine.errors import UsageError
from rankine.observation.load.answer import Answer, Body
from rankine.observation.load.config import LoadConfig

__all__ = ["Run", "Sender", "closed_loop", "open_loop", "pinned", "quiet"]

Sent = TypeVar("Sent", bound=Body)
SentBy = TypeVar("SentBy", bound=Body, contravariant=True)


class Sender(Protocol[SentBy]):
    """What takes bodies to a server: the HTTP of this package, or that of another protocol."""

    async def rank(self, body: SentBy, due_s: float, start: float) -> Answer:
        """Send ``body`` and wait for its answer; times count from ``start`` (a ``perf_counter`` reading)."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run saw.

    Attributes:
        answers: all that ended, warm-up included, in the order in which they ended.
        requests: sent in the measured part, whether they were answered or not.
        window_s: length of the measured part.
        cpu_share: processor time of the generator's process over wall time; 1.0 is one core busy.
        stopped: whether an open loop ended early because too many requests had already missed.
    """

    answers: list[Answer]
    requests: int
    window_s: float
    cpu_share: float
    stopped: bool = False


@dataclass(slots=True)
class _Progress:
    """The state of an open loop: answers, misses among those measured, and the means to end it early."""

    config: LoadConfig
    allowed_misses: float
    answers: list[Answer] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    requests: int = 0
    misses: int = 0
    failure: BaseException | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def add(self, answer: Answer) -> None:
        self.answers.append(answer)
        bound_ms = self.config.bound_ms
        if bound_ms is None or answer.due_s < self.config.warmup_s:
            return
        if not answer.correct or answer.latency_ms > bound_ms:
            self.misses += 1
            if self.misses > self.allowed_misses:
                self.end()

    def ended(self, task: asyncio.Task[None]) -> None:
        """A failed request is an answer; what else a task raises is a defect, and ends the run."""
        self.tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failure = failure
            self.end()

    def end(self) -> None:
        """Send no more, and give up what is under way."""
        if not self.stop.is_set():
            self.stop.set()
            for task in self.tasks:
                task.cancel()


async def open_loop(
    transport: Sender[Sent], bodies: Sequence[Sent], due: NDArray[np.float64], config: LoadConfig
) -> Run:
    """Send a request at each of the times ``due`` (seconds from the start, increasing) and wait for all answers."""
    loop = asyncio.get_running_loop()
    share, planned = config.stop_over_miss_share, int((due >= config.warmup_s).sum())
    progress = _Progress(config, np.inf if share is None else share * planned)
    order = np.random.default_rng(config.seed + 1).integers(len(bodies), size=len(due))
    cpu, start = process_time(), perf_counter()

    async def send(index: int) -> None:
        progress.add(await transport.rank(bodies[order[index]], float(due[index]), start))

    def dispatch(index: int) -> None:
        if not progress.stop.is_set():
            progress.requests += due[index] >= config.warmup_s
            task = loop.create_task(send(index))
            progress.tasks.add(task)
            task.add_done_callback(progress.ended)

    try:
        await loop.run_in_executor(None, _pace, due, start, loop, dispatch, progress.stop)
        ended_s = perf_counter() - start
        await asyncio.gather(*progress.tasks, return_exceptions=True)
    except BaseException:  # an interrupt: the pacing thread must end too
        progress.stop.set()
        raise
    if progress.failure is not None:
        raise progress.failure
    stopped = progress.stop.is_set()
    cpu_share = (process_time() - cpu) / (perf_counter() - start)
    scheduled_s = config.warmup_s + config.duration_s
    window_s = (min(ended_s, scheduled_s) if stopped else scheduled_s) - config.warmup_s
    return Run(progress.answers, progress.requests, max(window_s, 1e-9), cpu_share, stopped)


async def closed_loop(transport: Sender[Sent], bodies: Sequence[Sent], config: LoadConfig) -> Run:
    """``config.clients`` clients, each of which sends its next request as soon as the last is answered."""
    answers: list[Answer] = []
    order = np.random.default_rng(config.seed + 1).permutation(len(bodies))
    end_s = config.warmup_s + config.duration_s
    cpu, start = process_time(), perf_counter()
    sent = measured = 0

    async def client() -> None:
        nonlocal sent, measured
        while (now_s := perf_counter() - start) < end_s:
            if now_s >= config.warmup_s:
                if config.max_requests is not None and measured >= config.max_requests:
                    return
                measured += 1
            body = bodies[order[sent % len(bodies)]]
            sent += 1
            answer = await transport.rank(body, now_s, start)
            answers.append(answer)
            if answer.outcome in ("unreachable", "disconnected"):
                await asyncio.sleep(0.01)  # a server that is gone refuses at once: do not spin on it

    await asyncio.gather(*(client() for _ in range(config.clients)))
    cpu_share = (process_time() - cpu) / (perf_counter() - start)
    last_s = max((answer.done_s for answer in answers), default=end_s)
    return Run(answers, measured, max(last_s - config.warmup_s, 1e-9), cpu_share)


@contextmanager
def pinned(cores: tuple[int, ...] | None) -> Iterator[None]:
    """Run the calling thread, and the threads it starts, on ``cores`` only; None changes nothing.

    Raises:
        UsageError: the system cannot pin, or has no such core.
    """
    if cores is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("this system cannot pin a process to cores", where="cores", hint="Leave cores out.")
    before = os.sched_getaffinity(0)
    if not cores or not set(cores) <= before:
        raise UsageError("no such cores", where="cores", got=cores, allowed=f"some of {sorted(before)}")
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection inside: a full collection takes milliseconds, which would be measured as latency."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _pace(
    due: NDArray[np.float64],
    start: float,
    loop: asyncio.AbstractEventLoop,
    dispatch: Callable[[int], None],
    stop: threading.Event,
) -> None:
    """Hand each index to ``dispatch`` on the loop when it is due. Runs in a thread of its own.

    Timers of event loops count whole milliseconds, which is as long as a small request takes; a waiting thread is
    punctual to some 0.1 ms and costs no processor time.
    """
    for index, due_s in enumerate(due.tolist()):
        wait_s = start + due_s - perf_counter()
        if stop.wait(wait_s) if wait_s > 0 else stop.is_set():
            return
        loop.call_soon_threadsafe(dispatch, index)
