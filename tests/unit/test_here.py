"""What a pool runs on the event loop itself, alone or together."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from msgspec.structs import replace

from rankine.errors import DeadlineExceeded, EngineError
from rankine.models.columns import Batch
from rankine.policy import one_core
from rankine.policy.batching import Limits
from rankine.policy.reason import Reason
from rankine.serving import devices as devices_module
from rankine.serving import here as here_module
from rankine.serving import pool as pool_module
from rankine.serving.bodies import ClientGone
from rankine.serving.cores import core_numbers
from rankine.serving.desk import Asked
from rankine.serving.devices import PoolDevice
from rankine.serving.model import ServedModel
from rankine.serving.pool import Pool
from rankine.serving.refusals import QueueRefused
from rankine.serving.work import Outcome, Presence, Work, join
from unit.numpy_served import NumpyRunner, alone, as_they_are, expected_logits, numpy_model, work_maker


def limit(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Other limits of what runs on the loop: ``alone_s``, ``joined_s``, and of how long it is ``held_s``."""
    for name, value in seconds.items():
        if name == "held_s":
            monkeypatch.setattr(here_module, "HELD_S", value)
        else:
            monkeypatch.setattr(one_core, f"_{name.upper()}", value)


@pytest.fixture(autouse=True)
def several_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop and the workers have a core each, also on a machine that has one."""
    monkeypatch.setattr(pool_module, "usable_cores", lambda: 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def make_work(model: ServedModel) -> Callable[..., Work]:
    return work_maker(model)


class Telling(NumpyRunner):
    """Keeps the threads that it ran on; slow where ``spent_s`` says so."""

    def __init__(self, spent_s: float = 0.0) -> None:
        super().__init__()
        self.spent_s = spent_s
        self.threads: list[int] = []

    def run(self, batch: Batch, out: np.ndarray) -> None:
        self.threads.append(threading.get_ident())
        super().run(batch, out)
        time.sleep(self.spent_s)


@pytest.mark.parametrize(("spent_s", "here"), [(0.0, True), (0.05, False)])
def test_pool_runs_a_request_on_the_event_loop_when_it_is_alone_and_short(
    model: ServedModel,
    make_work: Callable[..., Work],
    monkeypatch: pytest.MonkeyPatch,
    *,
    spent_s: float,
    here: bool,
) -> None:
    limit(monkeypatch, alone_s=0.02)
    runner, runs = Telling(spent_s), []
    limits = Limits(max_batch_rows=64, max_queue_rows=1000)
    pool = Pool(alone(runner), tasks=1, workers=1, limits=limits, observe=runs.append)
    works = [make_work(1, rows) for rows in (1, 64)]
    pool.start(works)
    warmed = len(runner.threads)
    outcome = asyncio.run(pool.run(make_work(5, 7)))
    pool.close()
    assert np.allclose(outcome.logits, expected_logits(runner.batches[-1]), atol=1e-6)
    assert len(runs) == 1
    assert [thread == threading.get_ident() for thread in runner.threads[warmed:]] == [here]


def test_pool_leaves_a_request_to_its_workers_when_it_has_to_be_cut(
    model: ServedModel, make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, alone_s=10.0)
    runner, runs = Telling(), []
    limits = Limits(max_batch_rows=64, max_queue_rows=1000)
    pool = Pool(alone(runner), tasks=1, workers=1, limits=limits, observe=runs.append)
    pool.start([make_work(1, rows) for rows in (1, 64)])
    work = make_work(5, 200)
    outcome = asyncio.run(pool.run(work))
    pool.close()
    assert np.allclose(outcome.logits, expected_logits(join([work], as_they_are)), atol=1e-6)
    assert len(runs) > 1
    assert threading.get_ident() not in runner.threads


def test_pool_runs_requests_together_on_the_event_loop_when_others_wait_for_it(
    model: ServedModel, make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, alone_s=5.0, joined_s=5.0, held_s=5.0)
    runner, runs = Telling(0.005), []  # a batch costs the same whatever its rows: large ones are efficient
    limits = Limits(max_batch_rows=64, max_queue_rows=1000)
    pool = Pool(alone(runner), tasks=1, workers=1, limits=limits, observe=runs.append)
    pool.start([make_work(1, rows) for rows in (1, 64)])
    warmed = len(runner.threads)
    works = [make_work(user, 5 + user) for user in (1, 2, 3)]

    async def one_after_the_other() -> list[Outcome]:
        monkeypatch.setattr(pool.here, "crowded", lambda: True)
        waiting = []
        for work in works:
            waiting.append(asyncio.ensure_future(pool.run(work)))
            for _ in range(5):  # turns of the loop
                await asyncio.sleep(0)
        assert runs == []
        monkeypatch.setattr(pool.here, "crowded", lambda: False)
        return await asyncio.gather(*waiting)

    outcomes = asyncio.run(one_after_the_other())
    pool.close()
    assert [run.requests for run in runs] == [3]
    assert runner.threads[warmed:] == [threading.get_ident()]
    expected = expected_logits(join(works, as_they_are))
    assert np.allclose(np.concatenate([outcome.logits for outcome in outcomes]), expected, atol=1e-6)


def test_pool_holds_nobody_when_one_that_joins_is_due_soon(
    model: ServedModel, make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, alone_s=5.0, joined_s=5.0, held_s=0.5)
    pool = Pool(alone(NumpyRunner()), tasks=1, workers=1, limits=Limits(max_queue_rows=1000), observe=lambda run: None)
    pool.start([make_work(1, rows) for rows in (1, 64)])
    monkeypatch.setattr(pool.here, "crowded", lambda: True)

    async def both() -> list[bool]:
        patient, hurried = make_work(2, 3), make_work(3, 3)
        hurried.deadline_s = time.perf_counter() + 0.4
        futures = [pool.submit(patient)]
        held = not futures[0].done()
        futures.append(pool.submit(hurried))
        done = [future.done() for future in futures]
        await asyncio.gather(*futures)
        return [held, *done]

    assert asyncio.run(both()) == [True, True, True]
    pool.close()


def test_pool_runs_what_it_holds_when_one_more_would_make_it_too_long(
    model: ServedModel, make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, alone_s=5.0, joined_s=0.0, held_s=5.0)
    runner, runs = Telling(0.005), []
    pool = Pool(alone(runner), tasks=1, workers=1, limits=Limits(max_queue_rows=1000), observe=runs.append)
    pool.start([make_work(1, rows) for rows in (1, 64)])
    warmed = len(runner.threads)
    held = [True, True, False]  # as often as the second is looked at, and then no more
    monkeypatch.setattr(pool.here, "crowded", lambda: bool(held) and held.pop(0))

    async def both() -> None:
        await asyncio.gather(pool.run(make_work(1, 5)), pool.run(make_work(2, 6)))

    asyncio.run(both())
    pool.close()
    assert [run.requests for run in runs] == [1, 1]
    assert set(runner.threads[warmed:]) == {threading.get_ident()}


def test_pool_waits_a_moment_for_others_when_the_event_loop_is_busy(
    model: ServedModel, make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, alone_s=5.0, joined_s=5.0, held_s=5.0)
    runner, runs = Telling(0.005), []
    pool = Pool(alone(runner), tasks=1, workers=1, limits=Limits(max_queue_rows=1000), observe=runs.append)
    pool.start([make_work(1, rows) for rows in (1, 64)])
    busy = [1.0]
    monkeypatch.setattr(pool.here, "busy", lambda: busy[0])

    async def one_after_the_other() -> None:
        waiting = [asyncio.ensure_future(pool.run(make_work(1, 5)))]
        await asyncio.sleep(0.01)
        assert runs == []
        waiting.append(asyncio.ensure_future(pool.run(make_work(2, 6))))
        busy[0] = 0.0
        await asyncio.gather(*waiting)
        await pool.run(make_work(3, 7))

    asyncio.run(one_after_the_other())
    pool.close()
    assert [run.requests for run in runs] == [2, 1]


def test_pool_gives_what_it_holds_to_a_worker_that_has_begun_something(
    model: ServedModel, make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, alone_s=5.0, joined_s=5.0, held_s=5.0)
    runner, runs = Telling(0.05), []
    limits = Limits(max_batch_rows=64, max_queue_rows=1000)
    pool = Pool(alone(runner), tasks=1, workers=1, limits=limits, observe=runs.append)
    pool.start([make_work(1, rows) for rows in (1, 64)])
    warmed = len(runner.threads)
    crowded = [True]
    monkeypatch.setattr(pool.here, "crowded", lambda: crowded[0])

    async def both() -> list[Outcome]:
        small = asyncio.ensure_future(pool.run(make_work(1, 5)))
        await asyncio.sleep(0)
        monkeypatch.setattr(pool.here, "make_room", lambda work: None)
        large = asyncio.ensure_future(pool.run(make_work(2, 200)))  # has to be cut: a worker's
        await asyncio.sleep(0.02)
        crowded[0] = False
        return await asyncio.gather(small, large)

    outcomes = asyncio.run(both())
    pool.close()
    assert [len(outcome.logits) for outcome in outcomes] == [5, 200]
    assert threading.get_ident() not in runner.threads[warmed:]
    assert pool.queued_rows == 0


def test_pool_does_not_run_what_nobody_waits_for_when_it_was_held(
    model: ServedModel, make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, alone_s=5.0, joined_s=5.0, held_s=5.0)
    runner, runs, reasons = Telling(0.001), [], []
    pool = Pool(
        alone(runner), tasks=1, workers=1, limits=Limits(max_queue_rows=1000), observe=runs.append,
        decided=reasons.append,
    )  # fmt: skip
    pool.start([make_work(1, rows) for rows in (1, 64)])
    monkeypatch.setattr(pool.here, "crowded", lambda: True)
    stays, leaves, late = (make_work(user, 5) for user in (1, 2, 3))
    leaves.presence = Presence()

    async def three() -> list[Outcome | BaseException]:
        waiting = [asyncio.ensure_future(pool.run(work)) for work in (stays, leaves, late)]
        await asyncio.sleep(0)
        leaves.presence = Presence(gone=True)
        late.deadline_s = time.perf_counter()
        monkeypatch.setattr(pool.here, "crowded", lambda: False)
        return await asyncio.gather(*waiting, return_exceptions=True)

    found = asyncio.run(three())
    pool.close()
    assert isinstance(found[0], Outcome)
    assert isinstance(found[1], ClientGone)
    assert isinstance(found[2], DeadlineExceeded)
    assert [run.requests for run in runs] == [1]
    assert reasons.count(Reason.EXPIRED) == 1


def test_requests_without_a_deadline_wait_no_longer_than_they_may_when_many_come(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    runner, limits = Telling(0.01), Limits(max_batch_rows=64, max_wait_s=0.2)
    pool = Pool(alone(runner), tasks=1, workers=1, limits=limits, observe=lambda run: None)
    pool.start([make_work(1, rows) for rows in (1, 64)])

    async def flood() -> list[Outcome | BaseException]:
        waiting = []
        for _ in range(100):
            work = make_work(1, 60)
            work.arrived_s = time.perf_counter()
            waiting.append(asyncio.ensure_future(pool.run(work)))
        return await asyncio.gather(*waiting, return_exceptions=True)

    found = asyncio.run(flood())
    pool.close()
    refused = [one for one in found if isinstance(one, QueueRefused)]
    answered = [one for one in found if isinstance(one, Outcome)]
    assert len(refused) + len(answered) == 100
    assert refused
    assert max(one.queue_s for one in answered) < 1.0  # all of them would take longer


def test_what_was_held_is_answered_when_it_cannot_be_begun(
    model: ServedModel, make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, alone_s=5.0)
    pool = Pool(alone(Telling()), tasks=1, workers=1, limits=Limits(), observe=lambda run: None)
    pool.start([make_work(1, rows) for rows in (1, 64)])

    def broken(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(pool._desk, "joined", broken)

    async def scenario() -> None:
        with pytest.raises(EngineError, match="a bug"):
            await pool.run(make_work(1, 5))

    asyncio.run(scenario())
    assert not pool.busy
    pool.close()


@pytest.mark.parametrize(("left_s", "runs_here"), [(0.15, True), (0.05, False)])
def test_request_that_is_due_soon_joins_what_is_about_to_run_when_all_are_in_time(
    model: ServedModel,
    make_work: Callable[..., Work],
    monkeypatch: pytest.MonkeyPatch,
    *,
    left_s: float,
    runs_here: bool,
) -> None:
    limit(monkeypatch, alone_s=5.0, joined_s=5.0, held_s=0.0)
    runner = Telling(0.1)  # of an efficient batch: there is not four times as much left
    pool = Pool(alone(runner), tasks=1, workers=1, limits=Limits(max_queue_rows=1000), observe=lambda run: None)
    pool.start([make_work(1, rows) for rows in (1, 64)])
    monkeypatch.setattr(pool.here, "crowded", lambda: True)

    async def both() -> list[bool]:
        patient, hurried = make_work(2, 3), make_work(3, 3)
        hurried.deadline_s = time.perf_counter() + left_s
        with pool._lock:
            now_s = time.perf_counter()
            held = pool.here.takes(patient, now_s)
            pool.here.hold(patient)
            return [held, pool.here.takes(hurried, now_s)]

    assert asyncio.run(both()) == [True, runs_here]
    pool.close()


def test_head_is_refused_when_those_in_line_before_it_leave_it_no_time(
    model: ServedModel, make_work: Callable[..., Work]
) -> None:
    limits = Limits(max_batch_rows=64, max_queue_rows=1000)
    pool = Pool(alone(Telling(0.02)), tasks=1, workers=1, limits=limits, observe=lambda run: None)
    pool.start([make_work(1, rows) for rows in (1, 64)])
    now_s = time.perf_counter()
    pool._desk.unanswered = 5  # else it would be let in to try whether the prediction holds
    asked = Asked(64, 1, now_s, now_s + 0.07)  # not at ease
    assert pool.ask(asked) is None
    behind = replace(asked, line_rows=640, line_requests=10)
    assert pool.ask(behind) is None  # it may be a burst
    for before in range(59, -1, -1):
        pool._desk.gates.standing.look(1.0, 1.0, time.perf_counter() - 0.01 * before)
    found = pool.ask(behind)
    assert found is not None
    assert found.reason is Reason.KEPT_SHORT
    pool._desk.unanswered = 0
    pool.close()


@pytest.mark.parametrize(("own", "one_core"), [(True, False), (False, True)])
def test_loop_leaves_batches_to_a_worker_when_that_has_a_core_of_its_own(
    make_work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch, *, own: bool, one_core: bool
) -> None:
    monkeypatch.setattr(pool_module, "usable_cores", lambda: 1)
    core = core_numbers()[0]
    monkeypatch.setattr(devices_module, "core_numbers", lambda: (core + 1,) if own else (core,))  # the loop's
    device = PoolDevice("numpy", alone(Telling()), cores=(core,))
    pool = Pool(device.rungs, tasks=1, workers=1, limits=Limits(), observe=lambda run: None, devices=(device,))
    pool.start([make_work(1, 5)])
    assert pool.here.one_core is one_core
    pool.close()
