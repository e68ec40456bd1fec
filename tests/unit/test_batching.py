"""Joining work into batches, and the pool that runs them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from time import perf_counter

import numpy as np
import pytest

from rankine.errors import BadRequest, DeadlineExceeded
from rankine.models.columns import Batch, Columns
from rankine.policy.batching import Limits
from rankine.policy.reason import Reason
from rankine.serving import running as running_module
from rankine.serving.bodies import ClientGone
from rankine.serving.desk import Asked
from rankine.serving.model import ServedModel
from rankine.serving.pool import Pool
from rankine.serving.refusals import QueueRefused
from rankine.serving.results import scatter
from rankine.serving.running import BatchRun
from rankine.serving.work import Outcome, Presence, Work, join
from unit.numpy_served import POISON, NumpyRunner, alone, as_they_are, expected_logits, numpy_model, work_maker

NEVER = float("inf")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def make_work(model: ServedModel) -> Callable[..., Work]:
    return work_maker(model)


@pytest.mark.parametrize("inline", [(), (1,), (0, 1, 2)])
def test_join_gives_every_row_its_own_score_when_work_is_mixed(
    model: ServedModel, make_work: Callable[..., Work], inline: tuple[int, ...]
) -> None:
    works = [make_work(3 + at, 4 + at, first=10 * at, inline=at in inline) for at in range(3)]
    batch = join(works, as_they_are)
    apart = np.concatenate([expected_logits(join([work], as_they_are)) for work in works])
    assert np.allclose(expected_logits(batch), apart, atol=1e-6)
    assert (np.diff(batch.request_index) >= 0).all()
    assert batch.request_index.dtype == batch.item_index.dtype == np.int32


def test_join_gives_every_row_its_own_request_when_work_holds_several(make_work: Callable[..., Work]) -> None:
    one, other, last = make_work(1, 3), make_work(2, 4), make_work(3, 2)
    both = join([one, other], as_they_are)
    several = Work(both.request, both.pair, one.items, both.request_index, both.item_index, 2, 0.0, NEVER)
    batch = join([last, several], as_they_are)
    assert batch.request_index.tolist() == [0] * 2 + [1] * 3 + [2] * 4
    assert batch.request_index.dtype == np.int32
    apart = np.concatenate([expected_logits(join([work], as_they_are)) for work in (last, one, other)])
    assert np.allclose(expected_logits(batch), apart, atol=1e-6)


def test_scatter_refuses_only_the_request_without_finite_score_when_others_are_in_its_batch(
    make_work: Callable[..., Work], model: ServedModel
) -> None:
    works = [make_work(1, 3), make_work(2, 4), make_work(3, 2)]
    logits = np.arange(9, dtype=np.float32).reshape(9, 1)
    logits[5] = np.nan
    found = scatter(works, logits, 1.0, 0.5, "why", model.rungs[0])
    assert [work for work, _ in found] == works
    assert [type(result) for _, result in found] == [Outcome, BadRequest, Outcome]
    last = found[2][1]
    assert isinstance(last, Outcome)
    assert last.logits.tolist() == [[7.0], [8.0]]
    assert (last.batch_rows, last.batch_requests) == (9, 3)


def test_join_refers_to_the_catalog_as_it_lies_when_no_item_is_inline(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    batch = join([make_work(1, 3), make_work(2, 3)], as_they_are)
    assert model.items is not None
    assert batch.item is model.items.view.segments[0].columns


def _pool(model: ServedModel, runner: NumpyRunner, runs: list[BatchRun], *, max_queue_rows: int = 1000) -> Pool:
    pool = Pool(
        alone(runner),
        tasks=1,
        workers=1,
        limits=Limits(max_batch_rows=64, max_queue_rows=max_queue_rows),
        observe=runs.append,
    )
    pool.start()
    return pool


async def _wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it did not happen within 5 s")


async def _queue_behind_a_run(
    pool: Pool, runner: NumpyRunner, works: list[Work], hold_s: float = 0.0
) -> list[Outcome | BaseException]:
    """Outcomes of ``works``, all queued while the worker runs the first of them, ``hold_s`` longer."""
    runner.gate.clear()
    tasks = [asyncio.ensure_future(pool.run(works[0]))]
    await _wait_until(lambda: pool.busy and pool.queued_rows == 0)
    tasks += [asyncio.ensure_future(pool.run(work)) for work in works[1:]]
    await _wait_until(lambda: pool.queued_rows == sum(work.rows for work in works[1:]))
    await asyncio.sleep(hold_s)
    runner.gate.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_pool_joins_what_waited_and_scatters_it_back_when_worker_was_busy(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    runner, runs = NumpyRunner(), []
    pool = _pool(model, runner, runs)
    works = [make_work(1, 5), make_work(2, 6, inline=True), make_work(3, 7, first=50)]
    outcomes = asyncio.run(_queue_behind_a_run(pool, runner, works))
    pool.close()
    assert [run.requests for run in runs] == [1, 2]
    for work, outcome in zip(works, outcomes, strict=True):
        assert isinstance(outcome, Outcome)
        assert np.allclose(outcome.logits, expected_logits(join([work], as_they_are)), atol=1e-6)
    assert isinstance(outcomes[2], Outcome)
    assert outcomes[2].batch_rows == 13
    assert outcomes[2].reason == "joined all 2 that waited"
    assert runner.closed


def test_pool_answers_the_others_when_one_request_of_a_batch_fails(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    runner = NumpyRunner()
    pool = _pool(model, runner, [])
    works = [make_work(1, 5), make_work(2, 6, slot=POISON), make_work(3, 7)]
    outcomes = asyncio.run(_queue_behind_a_run(pool, runner, works))
    pool.close()
    assert isinstance(outcomes[1], BadRequest)
    assert isinstance(outcomes[2], Outcome)
    assert len(outcomes[2].logits) == 7


def test_pool_answers_deadline_exceeded_when_it_passed_in_the_queue(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    runner = NumpyRunner()
    pool = _pool(model, runner, [])
    works = [make_work(1, 5), make_work(2, 6, deadline_s=perf_counter() + 0.5)]
    outcomes = asyncio.run(_queue_behind_a_run(pool, runner, works, hold_s=0.6))
    pool.close()
    assert isinstance(outcomes[0], Outcome)
    assert isinstance(outcomes[1], DeadlineExceeded)
    assert len(runner.batches) == 1


def test_pool_refuses_at_once_when_the_deadline_has_passed_already(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    runner = NumpyRunner()
    pool = _pool(model, runner, [])
    with pytest.raises(DeadlineExceeded, match="passed before the request ran"):
        asyncio.run(pool.run(make_work(1, 5, deadline_s=perf_counter() - 1)))
    assert not pool.busy
    pool.close()
    assert not runner.batches


def test_pool_splits_a_request_and_puts_it_together_when_it_is_larger_than_a_batch(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    runner, runs = NumpyRunner(), []
    pool = _pool(model, runner, runs)
    work = make_work(1, 150, first=20)
    outcome = asyncio.run(pool.run(work))
    pool.close()
    assert len(runs) >= 3
    assert max(run.rows for run in runs) <= 64
    assert sum(run.rows for run in runs) == 150
    assert sum(run.first for run in runs) == 1
    assert np.allclose(outcome.logits, expected_logits(join([work], as_they_are)), atol=1e-6)
    assert outcome.run_s == pytest.approx(sum(run.run_s for run in runs))


def test_pool_answers_a_split_request_once_when_a_part_fails(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    runner, runs = NumpyRunner(), []
    pool = _pool(model, runner, runs)
    with pytest.raises(BadRequest):
        asyncio.run(pool.run(make_work(1, 150, slot=POISON)))
    assert len(asyncio.run(pool.run(make_work(1, 3))).logits) == 3
    asyncio.run(_wait_until(lambda: not pool.busy))  # counted as answered just after the answer
    assert pool.queued_rows == 0
    pool.close()


def test_pool_lets_urgent_work_go_first_when_it_came_later(model: ServedModel, make_work: Callable[..., Work]) -> None:
    runner, runs = NumpyRunner(), []
    pool = _pool(model, runner, runs)
    works = [make_work(1, 5), make_work(2, 40), make_work(3, 30, deadline_s=perf_counter() + 5)]
    outcomes = asyncio.run(_queue_behind_a_run(pool, runner, works))
    pool.close()
    assert all(isinstance(outcome, Outcome) for outcome in outcomes)
    assert [run.rows for run in runs][:2] == [5, 30]


def test_pool_refuses_what_would_be_late_when_the_queue_is_long(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    class Slow(NumpyRunner):
        def run(self, batch: Batch, out: np.ndarray) -> None:
            super().run(batch, out)
            time.sleep(0.4)

    runner, reasons = Slow(), []
    limits = Limits(max_batch_rows=64, max_queue_rows=1000)
    runs: list[BatchRun] = []
    pool = Pool(alone(runner), tasks=1, workers=1, limits=limits, observe=runs.append, decided=reasons.append)
    pool.start([make_work(1, rows) for rows in (1, 64)])

    async def scenario() -> list[Outcome | BaseException]:
        works = [make_work(user, 60) for user in (1, 2)]
        tasks = [asyncio.ensure_future(pool.run(work)) for work in works]
        await _wait_until(lambda: pool.queued_rows == 60)
        found = pool.ask(Asked(60, 1, perf_counter(), perf_counter() + 0.5))
        assert found is not None
        assert "late" in found.text
        assert pool.ask(Asked(60, 1, perf_counter(), NEVER)) is None
        late = pool.run(make_work(9, 60, deadline_s=perf_counter() + 0.5))
        return await asyncio.gather(*tasks, late, return_exceptions=True)

    outcomes = asyncio.run(scenario())
    pool.close()
    assert [type(outcome) for outcome in outcomes] == [Outcome, Outcome, QueueRefused]
    assert isinstance(outcomes[-1], QueueRefused)
    assert 0 < outcomes[-1].retry_after_s < 5
    assert reasons.count(Reason.TOO_LATE) == 1  # what is only asked is counted by whoever refuses it


def test_pool_runs_no_request_when_its_client_left_while_it_waited(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    runner, runs = NumpyRunner(), []
    pool = _pool(model, runner, runs)
    works = [make_work(1, 5), make_work(2, 6), make_work(3, 7)]
    works[1].presence, works[2].presence = Presence(gone=True), Presence()
    outcomes = asyncio.run(_queue_behind_a_run(pool, runner, works))
    pool.close()
    assert [type(outcome) for outcome in outcomes] == [Outcome, ClientGone, Outcome]
    assert [run.rows for run in runs] == [5, 7]
    assert all(len(run.queue_s) == run.requests and min(run.queue_s) >= 0 for run in runs)
    assert pool.queued_rows == 0


def test_pool_goes_on_when_its_observer_fails(model: ServedModel, make_work: Callable[..., Work]) -> None:
    seen: list[BatchRun] = []

    def observe(run: BatchRun) -> None:
        seen.append(run)
        if len(seen) == 1:
            raise ValueError("no room for another figure")

    limits = Limits(max_batch_rows=64, max_queue_rows=100)
    pool = Pool(alone(NumpyRunner()), tasks=1, workers=1, limits=limits, observe=observe)
    pool.start()
    for count in (1, 2):  # it is not the fault of a request
        assert len(asyncio.run(pool.run(make_work(1, 2))).logits) == 2
        assert len(seen) == count
        assert pool.alive
    pool.close()
    assert not pool.alive


def test_pool_refuses_when_queue_is_full_or_draining(model: ServedModel, make_work: Callable[..., Work]) -> None:
    runner = NumpyRunner()
    pool = _pool(model, runner, [], max_queue_rows=10)

    async def scenario() -> list[Outcome | BaseException]:
        runner.gate.clear()
        tasks = [asyncio.ensure_future(pool.run(make_work(1, 5)))]
        await _wait_until(lambda: pool.busy and pool.queued_rows == 0)
        for user, rows in ((2, 8), (3, 5)):  # the second one of these finds the queue full
            tasks.append(asyncio.ensure_future(pool.run(make_work(user, rows))))
            await asyncio.sleep(0)
        await _wait_until(lambda: pool.queued_rows == 8)
        pool.drain()
        tasks.append(asyncio.ensure_future(pool.run(make_work(4, 1))))
        await asyncio.sleep(0)
        runner.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(scenario())
    pool.close()
    assert [type(outcome) for outcome in outcomes] == [Outcome, Outcome, QueueRefused, QueueRefused]
    assert "queue is full" in str(outcomes[2])
    assert "shutting down" in str(outcomes[3])


def test_pool_answers_bad_request_when_a_score_is_not_finite(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    class Infinite(NumpyRunner):
        def run(self, batch: object, out: np.ndarray) -> None:
            out[:] = np.inf

    pool = _pool(model, Infinite(), [])
    with pytest.raises(BadRequest, match="no finite score"):
        asyncio.run(pool.run(make_work(1, 2)))
    pool.close()


def test_pool_counts_the_completion_of_inline_items_when_it_times_a_run(
    model: ServedModel, make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(running_module, "perf_counter", lambda: now_s)

    class Slow(NumpyRunner):
        def complete(self, items: Columns) -> Columns:
            nonlocal now_s
            now_s += 3.0
            return items

        def run(self, batch: Batch, out: np.ndarray) -> None:
            nonlocal now_s
            super().run(batch, out)
            now_s += 2.0

    runs: list[BatchRun] = []
    pool = _pool(model, Slow(), runs)
    inline, stored = (asyncio.run(pool.run(make_work(1, 4, inline=inline))) for inline in (True, False))
    pool.close()
    assert [run.run_s for run in runs] == [inline.run_s, stored.run_s] == [5.0, 2.0]


def test_pool_start_raises_when_the_engine_fails_in_the_warm_up(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    pool = Pool(
        alone(NumpyRunner()),
        tasks=1,
        workers=2,
        limits=Limits(max_batch_rows=8, max_queue_rows=8),
        observe=lambda run: None,
    )
    with pytest.raises(BadRequest, match="slot"):
        pool.start([make_work(1, 2, slot=POISON)])
    pool.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own there")
def test_workers_give_way_to_the_event_loop_when_they_share_its_cores(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    class Nice(NumpyRunner):
        def run(self, batch: Batch, out: np.ndarray) -> None:
            found.append(os.getpriority(os.PRIO_PROCESS, 0))
            super().run(batch, out)

    found: list[int] = []
    pool = Pool(alone(Nice()), tasks=1, workers=1, limits=Limits(), observe=lambda run: None)
    pool.start()
    asyncio.run(pool.run(make_work(1, 5)))
    pool.close()
    assert found == [min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)]
