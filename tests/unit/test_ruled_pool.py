"""What the operator's rules do to requests in a pool whose worker waits for the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from e2e.small_served import rank_body
from rankine.policy.batching import Limits
from rankine.policy.codel import CoDel
from rankine.policy.fairness import FairShares, TokenBucket
from rankine.policy.gradient import GradientLimit
from rankine.policy.priorities import Priority
from rankine.policy.reason import Reason
from rankine.policy.rules import Rules
from rankine.serving.desk import Asked
from rankine.serving.model import ServedModel
from rankine.serving.pool import Pool
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.refusals import OverQuota, QueueRefused
from rankine.serving.work import Outcome, Work
from unit.numpy_served import NumpyRunner, alone, numpy_model

NEVER = float("inf")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


@dataclass
class Ruled:
    """A pool under rules; its runner waits while the gate is closed."""

    pool: Pool
    runner: NumpyRunner
    protocol: RankProtocol
    decided: list[Reason] = field(default_factory=list)
    would: list[Reason] = field(default_factory=list)

    def work(self, rows: int, *, tenant: str = "", priority: Priority = Priority.NORMAL) -> Work:
        body: Any = rank_body(rows)
        body["candidates"]["features"]["slot"] = [1] * rows
        raw = msgspec.json.encode(body)
        work = self.protocol.prepare(raw, arrived_s=perf_counter(), deadline_s=NEVER, announced=None).work
        work.tenant, work.priority = tenant, priority
        return work

    async def run(self, rows: int, **more: Any) -> Outcome:
        return await self.pool.run(self.work(rows, **more))

    async def occupied(self) -> asyncio.Task[Outcome]:
        """A request whose batch runs, at the closed gate."""
        self.runner.gate.clear()
        task = asyncio.create_task(self.run(2))
        async with asyncio.timeout(5):
            while not self.pool.busy or self.pool.queued_rows:
                await asyncio.sleep(0.001)
        return task


@asynccontextmanager
async def _ruled(model: ServedModel, rules: Rules, **limits: Any) -> AsyncIterator[Ruled]:
    runner, decided, would = NumpyRunner(), list[Reason](), list[Reason]()
    pool = Pool(
        alone(runner),
        tasks=1,
        workers=1,
        limits=Limits(**limits),
        observe=lambda batch: None,
        decided=decided.append,
        would=would.append,
    )
    pool.govern(rules)
    pool.start()
    try:
        yield Ruled(pool, runner, RankProtocol(model, max_candidates=1000), decided, would)
    finally:
        runner.gate.set()
        pool.close()


def _run(model: ServedModel, rules: Rules, scenario: Callable[[Ruled], Awaitable[None]], **limits: Any) -> None:
    async def whole() -> None:
        async with _ruled(model, rules, **limits) as ruled:
            await scenario(ruled)

    asyncio.run(whole())


def _quota(*, dry_run: bool) -> Rules:
    return Rules(quotas={"shop": TokenBucket(0.01, 1.0)}, dry_run=dry_run)


def test_tenant_is_refused_when_its_quota_is_used_up(model: ServedModel) -> None:
    async def scenario(ruled: Ruled) -> None:
        await ruled.run(3, tenant="shop")
        with pytest.raises(OverQuota) as found:
            await ruled.run(3, tenant="shop")
        assert (found.value.http_status, found.value.reason) == (429, Reason.QUOTA)
        asked = ruled.pool.ask(Asked(3, 1, perf_counter(), NEVER, "shop"))  # on its head alone
        assert asked is not None
        assert (asked.status, asked.reason) == (429, Reason.QUOTA)
        await ruled.run(3, tenant="app")

    _run(model, _quota(dry_run=False), scenario)


def test_refusal_is_only_told_when_rules_are_not_in_force(model: ServedModel) -> None:
    async def scenario(ruled: Ruled) -> None:
        for _ in range(3):
            await ruled.run(3, tenant="shop")
        assert ruled.would == [Reason.QUOTA, Reason.QUOTA]
        assert ruled.decided.count(Reason.ADMITTED) == 3

    _run(model, _quota(dry_run=True), scenario)


def test_tenant_over_its_share_is_refused_when_others_wait(model: ServedModel) -> None:
    rules = Rules(shares=FairShares({"app": 1e12}, burst_s=1e-6, contended_s=1e-9))

    async def scenario(ruled: Ruled) -> None:
        first = await ruled.occupied()
        waiting = [asyncio.create_task(ruled.run(3, tenant=name)) for name in ("app", "shop")]
        await asyncio.sleep(0.01)
        with pytest.raises(OverQuota) as found:
            await ruled.run(3, tenant="shop")
        assert found.value.reason is Reason.FAIR_SHARE
        ruled.runner.gate.set()
        await asyncio.gather(first, *waiting)
        await ruled.run(3, tenant="shop")  # nobody waits any more

    _run(model, rules, scenario)


@pytest.mark.parametrize("dry_run", [False, True])
def test_low_priority_is_refused_first_when_time_is_short(model: ServedModel, dry_run: bool) -> None:
    async def scenario(ruled: Ruled) -> None:
        first = await ruled.occupied()  # something is in flight: nobody is let in as a probe
        now_s = perf_counter()
        soon = Asked(1, 1, now_s, now_s + 10.0)
        assert ruled.pool.ask(replace(soon, priority=Priority.HIGH)) is None
        assert ruled.pool.ask(replace(soon, priority=Priority.NORMAL)) is None
        found = ruled.pool.ask(replace(soon, priority=Priority.LOW))
        assert (found and found.reason) is (None if dry_run else Reason.PRIORITY)
        ruled.runner.gate.set()
        await first

    # A normal request leaves 6 of 10 s to high ones; a low one would have to leave 12.
    _run(model, Rules(dry_run=dry_run), scenario, headroom_s=6.0, max_wait_s=100.0)


def test_request_is_refused_when_more_are_in_flight_than_the_limit(model: ServedModel) -> None:
    async def scenario(ruled: Ruled) -> None:
        first = await ruled.occupied()
        with pytest.raises(QueueRefused) as found:
            await ruled.run(2)
        assert found.value.reason is Reason.CONCURRENCY
        ruled.runner.gate.set()
        await first

    _run(model, Rules(concurrency=GradientLimit(first=1.0, least=1.0)), scenario)


def test_head_of_the_queue_is_dropped_when_the_queue_stands(model: ServedModel) -> None:
    rules = Rules(codel=CoDel(target_s=0.001, interval_s=0.0))

    async def scenario(ruled: Ruled) -> None:
        first = await ruled.occupied()
        waiting = [asyncio.create_task(ruled.run(2)) for _ in range(3)]
        await asyncio.sleep(0.02)
        ruled.runner.gate.set()
        found = await asyncio.gather(first, *waiting, return_exceptions=True)
        dropped = [one for one in found if isinstance(one, QueueRefused)]
        assert [one.reason for one in dropped] == [Reason.STANDING_QUEUE]
        assert sum(isinstance(one, Outcome) for one in found) == 3
        while ruled.pool.busy:  # counted as answered just after the answer
            await asyncio.sleep(0.001)

    _run(model, rules, scenario)


def test_fewer_rows_are_scored_when_not_all_fit(model: ServedModel) -> None:
    async def scenario(ruled: Ruled) -> None:
        first = await ruled.occupied()
        second = asyncio.create_task(ruled.run(60))
        await asyncio.sleep(0.01)
        asked = Asked(80, 1, perf_counter(), NEVER)
        assert ruled.pool.rows_that_fit(10, asked) == 40  # 60 wait, and 100 may
        assert ruled.pool.rows_that_fit(60, asked) == 60  # never fewer than the operator says
        ruled.runner.gate.set()
        await asyncio.gather(first, second)
        assert ruled.pool.rows_that_fit(10, asked) == 80

    _run(model, Rules(), scenario, max_queue_rows=100)


def test_reply_has_the_best_by_prior_when_only_those_were_scored(model: ServedModel) -> None:
    async def scenario(ruled: Ruled) -> None:
        body: Any = rank_body(6, top_k=6)
        body["candidates"]["prior"] = [0.1, 0.9, 0.5, 0.5, 0.7, 0.2]
        raw = msgspec.json.encode(body)
        given = {"arrived_s": perf_counter(), "deadline_s": NEVER, "announced": 6}
        ranking = ruled.protocol.prepare(raw, **given, worth=lambda rows: 3)
        answer = ruled.protocol.answer(ranking, await ruled.pool.run(ranking.work), "id")
        assert sorted(answer["ids"]) == [1001, 1002, 1004]
        assert answer["scored"] == 3
        whole = ruled.protocol.prepare(raw, **given)
        scores = ruled.protocol.answer(whole, await ruled.pool.run(whole.work), "id")
        assert "scored" not in scores
        by_id = dict(zip(scores["ids"], scores["scores"], strict=True))
        assert answer["scores"] == [by_id[one] for one in answer["ids"]]

    _run(model, Rules(), scenario)
