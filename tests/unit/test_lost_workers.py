"""What the pool does with a batch whose worker process was lost: once more, alone; and who kills twice is told so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import msgspec
import numpy as np
import pytest

from e2e.small_served import rank_body
from rankine.errors import DeadlineExceeded, EngineError
from rankine.models.columns import Batch
from rankine.policy.batching import Limits
from rankine.policy.reason import Reason
from rankine.serving.devices import PoolDevice
from rankine.serving.isolation.lost import WorkerDied
from rankine.serving.model import ServedModel
from rankine.serving.pool import Pool
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import Outcome, Work, join
from unit.numpy_served import POISON, NumpyRunner, alone, as_they_are, expected_logits, numpy_model


class Seats:
    """Processes that die of some batches: of those with ``POISON`` in them, and of the next ``deaths``.

    Attributes:
        open: whether a thread has a seat.
        told: what batches were predicted to take.
    """

    def __init__(self) -> None:
        self.deaths = 0
        self.open = threading.Event()
        self.open.set()
        self.told: list[tuple[float, float]] = []
        self.closed = False
        self.start_s = 0.5

    @property
    def up(self) -> int:
        return int(self.open.is_set())

    def ready(self, timeout_s: float) -> bool:
        return self.open.wait(timeout_s)

    def expect(self, mean_s: float, p99_s: float) -> None:
        self.told.append((mean_s, p99_s))

    def settle(self) -> None:
        """It starts nothing."""

    def close(self) -> None:
        self.closed = True


class Mortal(NumpyRunner):
    """Runs in a seat."""

    def __init__(self, seats: Seats) -> None:
        super().__init__()
        self.seats = seats

    def run(self, batch: Batch, out: np.ndarray) -> None:
        self.gate.wait(10)
        self.batches.append(batch)
        if self.seats.deaths or (np.asarray(batch.pair["slot"]) == POISON).any():
            self.seats.deaths = max(0, self.seats.deaths - 1)
            raise WorkerDied("worker process 7 died while it ran")
        out[:] = expected_logits(batch)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def make_work(model: ServedModel) -> Callable[..., Work]:
    protocol = RankProtocol(model, max_candidates=1000)

    def make(rows: int, *, slot: int = 1, within_s: float = float("inf")) -> Work:
        body = rank_body(rows)
        features = {"slot": [slot] * rows, "match": [[rows, row] for row in range(rows)]}
        body |= {"candidates": {"ids": [1000 + row for row in range(rows)], "features": features}}
        now_s = perf_counter()
        raw = msgspec.json.encode(body)
        return protocol.prepare(raw, arrived_s=now_s, deadline_s=now_s + within_s, announced=None).work

    return make


class Served:
    """A pool over such seats, and the reasons of its decisions."""

    def __init__(self, workers: int = 1) -> None:
        self.seats = Seats()
        self.runner = Mortal(self.seats)
        self.reasons: list[Reason] = []
        device = PoolDevice("numpy", alone(self.runner), workers)
        self.pool = Pool(
            device.rungs,
            tasks=1,
            workers=workers,
            limits=Limits(max_batch_rows=64, max_queue_rows=1000),
            observe=lambda run: None,
            decided=self.reasons.append,
            devices=(replace(device, seats=self.seats),),
        )
        self.pool.start()

    async def together(self, works: list[Work]) -> list[Outcome | BaseException]:
        """Outcomes of ``works``, of which all but the first run in one batch."""
        self.runner.gate.clear()
        tasks = [asyncio.ensure_future(self.pool.run(works[0]))]
        while self.pool.queued_rows == works[0].rows or not self.pool.busy:
            await asyncio.sleep(0.005)
        tasks += [asyncio.ensure_future(self.pool.run(work)) for work in works[1:]]
        await asyncio.sleep(0.05)
        self.runner.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


def assert_scored(work: Work, outcome: Outcome | BaseException) -> None:
    assert isinstance(outcome, Outcome), outcome
    assert np.allclose(outcome.logits, expected_logits(join([work], as_they_are)), atol=1e-6)


def test_all_are_answered_when_a_worker_dies_once(make_work: Callable[..., Work]) -> None:
    served = Served()
    served.seats.deaths = 1
    works = [make_work(5), make_work(6), make_work(7)]
    outcomes = asyncio.run(served.together(works))
    served.pool.close()
    for work, outcome in zip(works, outcomes, strict=True):
        assert_scored(work, outcome)
    assert served.reasons.count(Reason.WORKER_LOST) == 1
    assert all(0 < mean_s <= p99_s for mean_s, p99_s in served.seats.told)
    assert served.seats.closed


def test_only_the_request_that_kills_workers_fails_when_it_was_joined_with_others(
    make_work: Callable[..., Work],
) -> None:
    served = Served()
    works = [make_work(5), make_work(6), make_work(7, slot=POISON), make_work(8)]
    outcomes = asyncio.run(served.together(works))
    served.pool.close()
    for at in (0, 1, 3):
        assert_scored(works[at], outcomes[at])
    assert isinstance(outcomes[2], EngineError)
    assert outcomes[2].http_status == 500
    assert [batch.rows for batch in served.runner.batches] == [5, 21, 6, 7, 8]


def test_divided_request_is_whole_when_a_worker_dies_of_one_of_its_parts(make_work: Callable[..., Work]) -> None:
    served = Served()
    work = make_work(150)
    served.seats.deaths = 2  # of the first part, and of another one
    outcomes = asyncio.run(served.together([work]))
    served.pool.close()
    assert isinstance(outcomes[0], EngineError)  # the part that ran again lost its worker again
    again = Served()
    again.seats.deaths = 1
    outcomes = asyncio.run(again.together([work := make_work(150)]))
    again.pool.close()
    assert_scored(work, outcomes[0])


def test_request_is_told_why_when_no_worker_is_up_before_its_deadline(make_work: Callable[..., Work]) -> None:
    served = Served()
    served.seats.deaths = 1

    async def scenario() -> list[Outcome | BaseException]:
        served.runner.gate.clear()
        asked = asyncio.ensure_future(served.pool.run(make_work(5, within_s=0.4)))
        while served.pool.queued_rows or not served.pool.busy:
            await asyncio.sleep(0.005)
        served.seats.open.clear()
        assert not served.pool.alive
        served.runner.gate.set()
        return await asyncio.gather(asked, return_exceptions=True)

    [found] = asyncio.run(scenario())
    served.seats.open.set()
    served.pool.close()
    assert isinstance(found, WorkerDied | DeadlineExceeded)
    assert found.http_status in (503, 504)


def test_other_workers_take_the_queue_when_one_has_no_seat(make_work: Callable[..., Work]) -> None:
    served = Served()
    served.seats.open.clear()

    async def scenario() -> Outcome:
        first = asyncio.ensure_future(served.pool.run(make_work(5)))  # the worker had its seat when it began to wait
        await first
        second = asyncio.ensure_future(served.pool.run(make_work(6)))
        await asyncio.sleep(0.3)
        assert served.pool.queued_rows == 6  # it waits in the queue, where others would take it, not with a worker
        served.seats.open.set()
        return await second

    outcome = asyncio.run(scenario())
    served.pool.close()
    assert outcome.logits.shape == (6, 1)


def test_all_is_answered_when_the_pool_closes_and_no_worker_is_up(make_work: Callable[..., Work]) -> None:
    served = Served()

    async def scenario() -> list[Outcome | BaseException]:
        served.runner.gate.clear()
        tasks = [asyncio.ensure_future(served.pool.run(make_work(rows))) for rows in (5, 6)]
        await asyncio.sleep(0.05)
        served.seats.deaths = 10
        served.seats.open.clear()
        served.runner.gate.set()
        closing = asyncio.get_running_loop().run_in_executor(None, served.pool.close)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await closing
        return found

    outcomes = asyncio.run(scenario())
    assert all(isinstance(outcome, WorkerDied) for outcome in outcomes)
    assert served.seats.closed
