"""What a pool runs on the event loop as it is planned, where its only worker has no core of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from rankine.errors import EngineError
from rankine.models.columns import Batch
from rankine.policy import one_core
from rankine.policy.batching import Limits
from rankine.serving import turns as turns_module
from rankine.serving.model import ServedModel
from rankine.serving.pool import Pool
from rankine.serving.running import BatchRun
from rankine.serving.work import Outcome, Work, join
from unit.numpy_served import NumpyRunner, alone, as_they_are, expected_logits, numpy_model, work_maker

_ALL_S = 10.0
"""By then everything is answered that ever will be."""
_BATCH_ROWS = 64
_WAIT_S = 5.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def make_work(model: ServedModel) -> Callable[..., Work]:
    return work_maker(model)


class Telling(NumpyRunner):
    """Keeps the threads that it ran on, and takes ``spent_s`` a row; once warmed up, ``fails`` as often as told."""

    def __init__(self, spent_s: float = 1e-5) -> None:
        super().__init__()
        self.spent_s = spent_s
        self.threads: list[int] = []
        self.fails = 0

    def run(self, batch: Batch, out: np.ndarray) -> None:
        self.threads.append(threading.get_ident())
        super().run(batch, out)
        time.sleep(self.spent_s * batch.rows)
        if self.fails:
            self.fails -= 1
            raise RuntimeError("out of luck")

    @property
    def on_loop(self) -> list[bool]:
        """Of each run since the warm-up, whether this thread made it, which has the event loop."""
        return [thread == threading.get_ident() for thread in self.threads]


@contextmanager
def served(
    runner: Telling,
    make_work: Callable[..., Work],
    monkeypatch: pytest.MonkeyPatch,
    *,
    cores: float = 1.0,
    workers: int = 1,
    observe: Callable[[BatchRun], Any] = lambda run: None,
) -> Iterator[Pool]:
    """A pool that believes in so many cores, and plans all that comes: nothing is taken beside the plan."""
    monkeypatch.setattr("rankine.serving.pool.usable_cores", lambda: cores)
    limits = Limits(max_batch_rows=_BATCH_ROWS, max_queue_rows=10_000)
    pool = Pool(alone(runner), tasks=1, workers=workers, limits=limits, observe=observe)
    pool.start([make_work(1, rows) for rows in (1, _BATCH_ROWS)])
    runner.threads.clear()
    runner.batches.clear()
    pool.here.enabled = False
    try:
        yield pool
    finally:
        pool.close()


def settled(ask: Callable[[], list[asyncio.Future[Outcome]]]) -> list[Outcome | BaseException]:
    """What becomes of what ``ask`` submits in one turn of an event loop, which must not have to report anything."""

    async def turns() -> list[Outcome | BaseException]:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        found = await asyncio.wait_for(asyncio.gather(*ask(), return_exceptions=True), _ALL_S)
        await asyncio.sleep(0)  # a turn that was still scheduled
        assert reported == []
        return found

    return asyncio.run(turns())


@pytest.mark.parametrize(("cores", "workers", "here"), [(1.0, 1, True), (2.0, 1, False), (1.0, 2, False)])
def test_planned_batch_runs_on_the_event_loop_when_the_only_worker_shares_its_core(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch, *, cores: float, workers: int, here: bool
) -> None:
    runner, work = Telling(), make_work(5, 40)
    with served(runner, make_work, monkeypatch, cores=cores, workers=workers) as pool:
        (found,) = settled(lambda: [pool.submit(work)])
    assert isinstance(found, Outcome)
    assert np.allclose(found.logits, expected_logits(join([work], as_they_are)), atol=1e-6)
    assert runner.on_loop == [here]


def test_planned_batch_runs_on_a_worker_when_requests_come_from_threads_without_a_loop(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Telling()
    with served(runner, make_work, monkeypatch) as pool:
        pool.without_loop()
        settled(lambda: [pool.submit(make_work(5, 40))])
    assert runner.on_loop == [False]


@pytest.mark.parametrize(("limit_s", "here"), [(1e-2, False), (1.0, True)])
def test_batch_goes_to_the_worker_when_it_is_predicted_to_take_too_long(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch, *, limit_s: float, here: bool
) -> None:
    monkeypatch.setattr(one_core, "_SHARED_S", limit_s)
    runner = Telling(spent_s=2.5e-4)
    with served(runner, make_work, monkeypatch) as pool:
        (found,) = settled(lambda: [pool.submit(make_work(5, 60))])
        assert isinstance(found, Outcome)
        assert runner.on_loop == [here]


def test_short_batch_waits_for_the_worker_when_that_runs_a_long_one(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Telling(spent_s=2.5e-4)
    with served(runner, make_work, monkeypatch) as pool:

        async def one_after_the_other() -> None:
            runner.gate.clear()
            long = pool.submit(make_work(5, _BATCH_ROWS))
            while not runner.threads:  # the worker has begun it
                await asyncio.sleep(1e-3)
            short = pool.submit(make_work(6, 1))
            for _ in range(5):  # turns of the loop
                await asyncio.sleep(0)
            assert not short.done()
            runner.gate.set()
            await asyncio.wait_for(asyncio.gather(long, short), _ALL_S)

        asyncio.run(one_after_the_other())
    assert runner.on_loop == [False, False]


def test_requests_join_the_planned_batch_when_others_wait_for_the_event_loop(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "HELD_S", _WAIT_S)
    runner, works = Telling(), [make_work(user, 5 + user) for user in (1, 2, 3)]
    with served(runner, make_work, monkeypatch) as pool:

        async def one_after_the_other() -> list[Outcome]:
            pool.turns.crowded = lambda: True
            waiting = []
            for work in works:
                waiting.append(pool.submit(work))
                for _ in range(5):  # turns of the loop
                    await asyncio.sleep(0)
            assert runner.threads == []
            pool.turns.crowded = lambda: False
            return await asyncio.wait_for(asyncio.gather(*waiting), _ALL_S)

        found = asyncio.run(one_after_the_other())
    assert runner.on_loop == [True]
    expected = expected_logits(join(works, as_they_are))
    assert np.allclose(np.concatenate([outcome.logits for outcome in found]), expected, atol=1e-6)


def test_planned_batch_waits_no_longer_than_it_may_when_others_keep_coming(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    held_s = 0.05
    monkeypatch.setattr(turns_module, "HELD_S", held_s)
    runner = Telling()
    with served(runner, make_work, monkeypatch) as pool:
        pool.turns.crowded = lambda: True
        (found,) = settled(lambda: [pool.submit(make_work(5, 40))])
    assert isinstance(found, Outcome)
    assert held_s <= found.queue_s < _WAIT_S


def test_next_batch_runs_in_a_later_turn_when_two_are_planned(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    with served(Telling(), make_work, monkeypatch, observe=lambda run: order.append("batch")) as pool:

        def ask() -> list[asyncio.Future[Outcome]]:
            waiting = [pool.submit(make_work(user, 60)) for user in (1, 2)]
            asyncio.get_running_loop().call_soon(order.append, "other")
            for future in waiting:
                future.add_done_callback(lambda done: order.append("reply"))
            return waiting

        settled(ask)
    assert order == ["batch", "other", "reply", "batch", "reply"]


def test_time_of_the_loop_between_two_batches_is_learned_when_the_second_waits(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    between_s, runs = 0.015, list[BatchRun]()
    with served(Telling(1e-4), make_work, monkeypatch, observe=runs.append) as pool:
        before_s = pool.middling_s

        def ask() -> list[asyncio.Future[Outcome]]:
            waiting = [pool.submit(make_work(user, 60)) for user in (1, 2)]
            asyncio.get_running_loop().call_soon(time.sleep, between_s)
            return waiting

        settled(ask)
        first, second = runs
        assert second.spent_s - second.run_s >= between_s > first.spent_s
        assert second.run_s < between_s
        assert pool.middling_s > before_s


def test_a_batch_is_not_learned_to_be_long_when_it_is_the_loop_that_is_busy(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = list[BatchRun]()
    with served(Telling(), make_work, monkeypatch, observe=runs.append) as pool:

        def ask() -> list[asyncio.Future[Outcome]]:
            waiting = [pool.submit(make_work(user, 60)) for user in (1, 2)]
            asyncio.get_running_loop().call_soon(time.sleep, 0.5)
            return waiting

        settled(ask)
    assert runs[1].spent_s < 0.25


def test_time_in_which_nothing_waits_is_not_learned_when_the_next_batch_comes(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle_s, runs = 0.05, list[BatchRun]()
    with served(Telling(), make_work, monkeypatch, observe=runs.append) as pool:

        async def one_after_the_other() -> None:
            await asyncio.gather(*(pool.submit(make_work(user, 60)) for user in (1, 2)))
            await asyncio.sleep(idle_s)
            await pool.submit(make_work(3, 60))

        asyncio.run(one_after_the_other())
    assert len(runs) == 3
    assert runs[-1].spent_s < idle_s


def test_nothing_is_lost_when_the_pool_closes_before_the_turn_of_what_waits(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, works = Telling(), [make_work(user, 60) for user in (1, 2, 3)]
    with served(runner, make_work, monkeypatch) as pool:

        def ask() -> list[asyncio.Future[Outcome]]:
            waiting = [pool.submit(work) for work in works]
            pool.close()
            return waiting

        found = settled(ask)
        assert not pool.busy
    for work, outcome in zip(works, found, strict=True):
        assert isinstance(outcome, Outcome)
        assert np.allclose(outcome.logits, expected_logits(join([work], as_they_are)), atol=1e-6)
    assert runner.on_loop == [False, False, False]


def test_all_are_answered_when_the_engine_fails_on_the_event_loop(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Telling()
    with served(runner, make_work, monkeypatch) as pool:
        runner.fails = 4  # the batch of three, and each of them alone
        works = [make_work(user, rows) for user, rows in ((1, 15), (2, 15), (3, 15), (4, 60))]
        found = settled(lambda: [pool.submit(work) for work in works])
        assert not pool.busy
    assert [type(one) for one in found] == [EngineError, EngineError, EngineError, Outcome]
    assert runner.on_loop == [True] * 5


def test_time_since_a_batch_that_the_worker_took_over_is_not_learned_when_the_loop_runs_again(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle_s, runs, runner = 0.05, list[BatchRun](), Telling(spent_s=2.5e-4)
    with served(runner, make_work, monkeypatch, observe=runs.append) as pool:

        async def one_after_the_other() -> None:
            await asyncio.gather(*(pool.submit(make_work(user, rows)) for user, rows in ((1, 10), (2, 60))))
            await asyncio.sleep(idle_s)
            await pool.submit(make_work(3, 10))

        asyncio.run(one_after_the_other())
    assert runner.on_loop == [True, False, True]
    assert runs[-1].spent_s < idle_s
