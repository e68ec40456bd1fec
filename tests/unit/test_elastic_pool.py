"""The ladder in the pool: quality bends under load, comes back, and no request mixes variants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from rankine.models.columns import Batch, Columns
from rankine.policy.batching import Limits
from rankine.policy.reason import Reason
from rankine.serving import pool as pool_module
from rankine.serving.devices import PoolDevice, complete_on
from rankine.serving.model import ServedModel
from rankine.serving.pool import Pool
from rankine.serving.rungs import ServedRung, VariantRunner
from rankine.serving.running import BatchRun
from rankine.serving.work import Outcome, Work
from unit.numpy_served import numpy_model
from unit.sleepers import Sleeper, work_maker


@pytest.fixture(autouse=True)
def several_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop and the workers have a core each, also on a machine that has one."""
    monkeypatch.setattr(pool_module, "usable_cores", lambda: 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("elastic"))


@pytest.fixture
def make_work(model: ServedModel) -> Callable[..., Work]:
    return work_maker(model)


RUNS: list[BatchRun] = []
REASONS: list[Reason] = []


@pytest.fixture
def pool(make_work: Callable[..., Work]) -> Iterator[Pool]:
    """Three rungs, each twice as fast as the one before; a row of the best takes half a millisecond."""
    RUNS.clear()
    REASONS.clear()
    rungs = [
        ServedRung(f"rung-{at}", "sleep", Sleeper(float(at), 0.0005 / 2**at), margin, loss)
        for at, (margin, loss) in enumerate([(0.0005, 0.0002), (0.001, 0.0007), (0.002, 0.0016)])
    ]
    limits = Limits(max_batch_rows=64, max_queue_rows=10_000)
    made = Pool(rungs, tasks=1, workers=1, limits=limits, observe=RUNS.append, decided=REASONS.append)
    made.start([make_work(rows) for rows in (1, 64) for _ in range(3)])
    yield made
    made.close()


async def offer(pool: Pool, works: list[Work], gap_s: float) -> list[Outcome | BaseException]:
    tasks = []
    for work in works:
        now_s = perf_counter()
        work.arrived_s, work.deadline_s = now_s, now_s + work.deadline_s - work.arrived_s
        tasks.append(asyncio.ensure_future(pool.run(work)))
        await asyncio.sleep(gap_s)
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_best_variant_answers_when_there_is_no_load(pool: Pool, make_work: Callable[..., Work]) -> None:
    outcomes = asyncio.run(offer(pool, [make_work(20) for _ in range(5)], 0.03))
    assert [outcome.variant for outcome in outcomes if isinstance(outcome, Outcome)] == ["rung-0"] * 5
    assert RUNS[-1].debt == pytest.approx(0.0002)


def test_ladder_is_stepped_down_and_up_again_when_the_load_comes_and_goes(
    pool: Pool, make_work: Callable[..., Work]
) -> None:
    async def scenario() -> tuple[list[Outcome | BaseException], list[Outcome | BaseException]]:
        # 32 rows every 8 ms: twice of what the best carries, half of what the last does
        loaded = await offer(pool, [make_work(32, within_s=0.2) for _ in range(60)], 0.008)
        await asyncio.sleep(1.0)
        return loaded, await offer(pool, [make_work(10) for _ in range(40)], 0.05)

    loaded, calm = asyncio.run(scenario())
    answered = [outcome for outcome in loaded if isinstance(outcome, Outcome)]
    assert len(answered) >= 40
    assert {"rung-1", "rung-2"} & {outcome.variant for outcome in answered}
    assert {Reason.STEP_DOWN, Reason.FORCED_DOWN} & set(REASONS)
    assert isinstance(calm[-1], Outcome)
    assert calm[-1].variant == "rung-0"
    assert Reason.STEP_UP in REASONS
    for outcome in answered:
        assert (outcome.logits == float(outcome.variant[-1])).all()


def test_no_request_mixes_variants_when_it_is_split_under_load(pool: Pool, make_work: Callable[..., Work]) -> None:
    works = [make_work(150, within_s=2.0) for _ in range(12)]
    outcomes = asyncio.run(offer(pool, works, 0.01))
    answered = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
    assert answered
    assert len({run.rung for run in RUNS}) > 1
    for outcome in answered:
        assert len(outcome.logits) == 150
        assert len(np.unique(outcome.logits)) == 1


def test_session_keeps_its_variant_when_the_load_has_gone(pool: Pool, make_work: Callable[..., Work]) -> None:
    async def scenario() -> tuple[list[Outcome | BaseException], list[Outcome | BaseException]]:
        sessions = [make_work(32, within_s=0.2, session=f"s{at}") for at in range(60)]
        loaded = await offer(pool, sessions, 0.008)
        await asyncio.sleep(1.0)
        await offer(pool, [make_work(10) for _ in range(30)], 0.05)  # up again
        return loaded, await offer(pool, [make_work(10, session=f"s{at}") for at in range(60)], 0.006)

    loaded, calm = asyncio.run(scenario())
    pairs = [(a, b) for a, b in zip(loaded, calm, strict=True) if isinstance(a, Outcome) and isinstance(b, Outcome)]
    assert any(before.variant != "rung-0" for before, _ in pairs)
    assert [after.variant for _, after in pairs] == [before.variant for before, _ in pairs]


class Storing(Sleeper):
    """Stores a column of an item, and reads it back under the same name whatever other variants store."""

    def complete(self, items: Columns) -> Columns:
        return {**items, "stored": np.full((len(np.asarray(items["price"])), 1), self.mark, np.float32)}

    def run(self, batch: Batch, out: np.ndarray) -> None:
        out[:] = np.asarray(batch.item["stored"])[batch.item_index]


def test_variants_store_columns_of_their_own_when_they_share_items() -> None:
    rungs = tuple(
        ServedRung(name, "numpy", VariantRunner(name, Storing(mark, 0.0)))
        for name, mark in (("first", 1.0), ("second", 2.0))
    )
    items = complete_on((PoolDevice("numpy", rungs),), {"price": np.zeros((3, 1), np.float32)})
    assert set(items) == {"price", "first/stored", "second/stored"}
    index = np.arange(3, dtype=np.int32)
    for rung, mark in zip(rungs, (1.0, 2.0), strict=True):
        out = np.zeros((3, 1), np.float32)
        rung.runner.run(Batch({}, items, {}, index, index), out)
        assert (out == mark).all()


def test_floor_is_refused_when_the_artifact_has_no_ladder(model: ServedModel, tmp_path: Path) -> None:
    from rankine.errors import UsageError
    from rankine.serving.model import ladder_within

    with pytest.raises(UsageError, match="has no ladder"):
        ladder_within(model.artifact, 0.001)
