"""The event loop's rests, by the time that it really stands still: never shorter than told, and at best no longer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import perf_counter, sleep

import pytest

from rankine.serving.placing import Worker
from rankine.serving.rest import Rest

_TRIES = 20
_MOMENT_S, _SHORT_S = 0.0039, 0.0019


def rested_s(rest: Rest, *, asked: int = 1) -> float:
    """How long the event loop stood still in the turns after ``soon``."""

    async def turns() -> float:
        for _ in range(asked):
            rest.soon()
        begin = perf_counter()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return perf_counter() - begin

    return asyncio.run(turns())


def least_s(once: Callable[[], float]) -> float:
    """The least of several tries: other programs of the host make some of them longer."""
    return min(once() for _ in range(_TRIES))


@pytest.fixture
def worker() -> Worker:
    return Worker(running=True, free_s=perf_counter() + 60)


@pytest.fixture
def rest(worker: Worker) -> Rest:
    made = Rest([Worker(), worker])
    made.enabled = True
    return made


def test_loop_rests_for_a_moment_when_a_batch_runs_for_long(rest: Rest) -> None:
    assert rested_s(rest) >= _MOMENT_S


def test_loop_rests_once_when_it_is_asked_twice_in_a_turn(rest: Rest) -> None:
    assert _MOMENT_S <= least_s(lambda: rested_s(rest, asked=2)) < 2 * _MOMENT_S


def test_loop_rests_shorter_when_requests_are_refused(rest: Rest) -> None:
    rest.refused()
    assert _SHORT_S <= least_s(lambda: rested_s(rest)) < _MOMENT_S


def test_loop_rests_no_longer_than_the_batch_takes(rest: Rest, worker: Worker) -> None:
    def once() -> float:
        worker.free_s = perf_counter() + 0.001
        return rested_s(rest)

    assert least_s(once) < _MOMENT_S


def test_loop_wakes_when_the_batch_is_done(rest: Rest) -> None:
    def once() -> float:
        def done() -> None:
            sleep(0.001)
            rest.end()

        thread = threading.Thread(target=done)
        thread.start()
        spent_s = rested_s(rest)
        thread.join()
        return spent_s

    assert least_s(once) < _MOMENT_S


@pytest.mark.parametrize("case", ["disabled", "crowded", "idle", "nearly done"])
def test_loop_does_not_rest_when_there_is_no_reason(rest: Rest, worker: Worker, case: str) -> None:
    if case == "disabled":
        rest.enabled = False
    elif case == "crowded":
        rest.crowded = lambda: True
    elif case == "idle":
        worker.running = False
    else:
        worker.free_s = 0.0
    assert least_s(lambda: rested_s(rest)) < _SHORT_S


def test_ends_do_no_harm_when_nobody_rests(rest: Rest) -> None:
    for _ in range(3):
        rest.end()
    assert rested_s(rest) >= _MOMENT_S
