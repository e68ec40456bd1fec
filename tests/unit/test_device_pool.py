"""Several devices in one pool: where batches go, what is divided, and what becomes of a device that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from rankine.cli.device_pool import parse_device
from rankine.config import parse
from rankine.errors import BadRequest, ConfigError, EngineError, UsageError
from rankine.models.columns import Columns
from rankine.policy.batching import Limits
from rankine.policy.reason import Reason
from rankine.serving.config import PoolDeviceConfig, ServeConfig
from rankine.serving.cores import pinned
from rankine.serving.devices import Health, PoolDevice, complete_on
from rankine.serving.metrics import ServerMetrics
from rankine.serving.model import ServedModel
from rankine.serving.pool import Pool
from rankine.serving.rungs import ServedRung
from rankine.serving.running import BatchRun
from rankine.serving.work import Outcome, Work
from unit.numpy_served import numpy_model
from unit.sleepers import Sleeper, work_maker


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("devices"))


@pytest.fixture(scope="module")
def make_work(model: ServedModel) -> Callable[..., Work]:
    return work_maker(model)


class Served:
    """A pool of sleepers, and what it told."""

    def __init__(self, sleepers: Sequence[Sleeper], works: Sequence[Work]) -> None:
        self.runs: list[BatchRun] = []
        self.reasons: list[Reason] = []
        devices = [PoolDevice(f"sleep-{at}", (ServedRung("v", f"sleep-{at}", one),)) for at, one in enumerate(sleepers)]
        self.pool = Pool(
            devices[0].rungs,
            tasks=1,
            workers=1,
            limits=Limits(max_batch_rows=512, max_queue_rows=100_000),
            observe=self.runs.append,
            decided=self.reasons.append,
            devices=devices,
        )
        self.pool.start(works)

    def ask(self, *works: Work, gap_s: float = 0.0) -> list[Outcome | BaseException]:
        async def scenario() -> list[Outcome | BaseException]:
            tasks = []
            for work in works:
                tasks.append(asyncio.ensure_future(self.pool.run(work)))
                await asyncio.sleep(gap_s)
            return await asyncio.gather(*tasks, return_exceptions=True)

        return asyncio.run(scenario())


Start = Callable[[Sequence[Sleeper]], AbstractContextManager[Served]]


@pytest.fixture
def serve(make_work: Callable[..., Work]) -> Start:
    works = [make_work(rows) for rows in (1, 64, 512) for _ in range(4)]  # the median of three is the prediction

    @contextmanager
    def start(sleepers: Sequence[Sleeper]) -> Iterator[Served]:
        served = Served(sleepers, works)
        try:
            yield served
        finally:
            served.pool.close()

    return start


def test_lone_requests_go_to_the_fast_device_when_both_are_idle(serve: Start, make_work: Callable[..., Work]) -> None:
    with serve([Sleeper(0.0, 0.0004), Sleeper(1.0, 0.0001)]) as served:
        outcomes = served.ask(*[make_work(60) for _ in range(6)], gap_s=0.1)
    assert all(isinstance(outcome, Outcome) for outcome in outcomes)
    placed = [run for run in served.runs if run.placed is not Reason.EXPLORE]  # on a slow machine there may be one
    assert len(placed) >= 5
    assert {run.placed for run in placed} == {Reason.LEAST_FINISH}
    assert {run.device for run in placed} == {"sleep-1"}


def test_slow_device_is_tried_when_it_has_run_nothing_for_a_while(serve: Start, make_work: Callable[..., Work]) -> None:
    with serve([Sleeper(0.0, 0.0004), Sleeper(1.0, 0.0001)]) as served:
        served.ask(*[make_work(60) for _ in range(14)], gap_s=0.1)
        [short] = served.ask(make_work(60, within_s=0.04))
    tried = [run for run in served.runs if run.placed is Reason.EXPLORE]
    assert 1 <= len(tried) <= 3
    assert {run.device for run in tried} == {"sleep-0"}
    dispatch = served.pool._desk.placing._dispatch
    assert dispatch is not None
    seen = dispatch.exploration._seen["sleep-0"]
    assert seen.interval_s != dispatch.exploration.limits.first_s, "nobody told that it was a trial that ran"
    assert not isinstance(short, Outcome) or short.engine == "sleep-1"


def test_fast_device_gets_larger_batches_when_much_waits(serve: Start, make_work: Callable[..., Work]) -> None:
    with serve([Sleeper(0.0, 0.001), Sleeper(1.0, 0.00002, call_s=0.005)]) as served:
        outcomes = served.ask(*[make_work(20) for _ in range(120)])
    assert all(isinstance(outcome, Outcome) for outcome in outcomes)
    sizes = [[run.rows for run in served.runs if run.device == f"sleep-{at}"] for at in range(2)]
    assert sum(map(sum, sizes)) == 120 * 20
    assert max(sizes[1]) > 250
    assert max(sizes[0], default=0) < 100


def test_both_devices_work_and_the_slow_one_less_when_much_waits(serve: Start, make_work: Callable[..., Work]) -> None:
    with serve([Sleeper(0.0, 0.0001), Sleeper(1.0, 0.0004)]) as served:
        outcomes = served.ask(*[make_work(200) for _ in range(40)])
    assert all(isinstance(outcome, Outcome) for outcome in outcomes)
    for outcome in outcomes:
        assert isinstance(outcome, Outcome)
        marks = {int(name.removeprefix("sleep-")) for name in outcome.engine.split("+")}
        assert set(np.unique(outcome.logits)) == marks
    rows = [sum(run.rows for run in served.runs if run.device == f"sleep-{at}") for at in range(2)]
    assert sum(rows) == 40 * 200
    assert 0 < rows[1] < rows[0]


def test_slow_device_leaves_what_waits_when_the_fast_one_is_done_with_it_sooner(
    serve: Start, make_work: Callable[..., Work]
) -> None:
    with serve([Sleeper(0.0, 0.0001), Sleeper(1.0, 0.001)]) as served:
        outcomes = served.ask(*[make_work(60) for _ in range(5)], gap_s=0.001)
    assert [outcome.engine for outcome in outcomes if isinstance(outcome, Outcome)] == ["sleep-0"] * 5
    assert Reason.LEAVE in served.reasons


def test_one_large_request_is_divided_when_nothing_else_waits(serve: Start, make_work: Callable[..., Work]) -> None:
    with serve([Sleeper(0.0, 0.00003), Sleeper(1.0, 0.00003)]) as served:
        [outcome] = served.ask(make_work(500))
    assert isinstance(outcome, Outcome)
    assert outcome.engine == "sleep-0+sleep-1"
    assert outcome.logits.shape == (500, 1)
    parts = {run.device: run.rows for run in served.runs}
    assert parts == {f"sleep-{at}": int((outcome.logits == at).sum()) for at in range(2)}
    assert sum(parts.values()) == 500
    assert {run.placed for run in served.runs} == {Reason.SPREAD}


def test_requests_are_answered_by_the_other_device_when_one_fails(serve: Start, make_work: Callable[..., Work]) -> None:
    fast, slow = Sleeper(0.0, 0.0001), Sleeper(1.0, 0.0002)
    with serve([fast, slow]) as served:
        fast.error, fast.calls = RuntimeError("gone"), 0
        outcomes = served.ask(*[make_work(50) for _ in range(10)], gap_s=0.02)
    assert [outcome.engine for outcome in outcomes if isinstance(outcome, Outcome)] == ["sleep-1"] * 10
    assert fast.calls == 1  # it is left out after the first
    assert served.reasons.count(Reason.DEVICE_FAILED) == 1
    assert served.runs[0].placed is Reason.DEVICE_FAILED


def test_request_gets_its_error_and_both_devices_go_on_when_it_fails_on_both(
    serve: Start, make_work: Callable[..., Work]
) -> None:
    fast, slow = Sleeper(0.0, 0.0001), Sleeper(1.0, 0.0002)
    with serve([fast, slow]) as served:
        fast.error = slow.error = RuntimeError("poison")
        [failed] = served.ask(make_work(50))
        fast.error = slow.error = None
        [after] = served.ask(make_work(50))
        assert not served.pool.queued_rows
    assert isinstance(failed, EngineError)
    assert "poison" in str(failed)
    assert isinstance(after, Outcome)
    assert after.engine == "sleep-0"


def test_device_is_not_blamed_when_the_request_is_at_fault(serve: Start, make_work: Callable[..., Work]) -> None:
    fast, slow = Sleeper(0.0, 0.0001), Sleeper(1.0, 0.0002)
    with serve([fast, slow]) as served:
        slow.calls = 0
        fast.error = BadRequest("no such row")
        [failed] = served.ask(make_work(50))
    assert isinstance(failed, BadRequest)
    assert slow.calls == 0
    assert Reason.DEVICE_FAILED not in served.reasons


def test_health_leaves_a_device_out_for_twice_as_long_when_it_fails_again() -> None:
    health = Health()
    assert not health.is_out(0.0)
    health.failed(10.0)
    assert health.is_out(10.9)
    assert not health.is_out(11.0)
    health.failed(11.0)
    assert health.is_out(12.9)
    assert not health.is_out(13.0)
    health.excuse()
    health.worked()
    health.failed(20.0)
    assert not health.is_out(21.0)


class Storing(Sleeper):
    """Computes a column of an item ahead of time, as an engine does that runs in parts."""

    def complete(self, items: Columns) -> Columns:
        self.calls += 1
        return {**items, "stored": np.ones((len(np.asarray(items["price"])), 1), np.float32)}


def test_items_are_completed_once_when_several_devices_read_what_is_stored() -> None:
    runners = [Sleeper(0.0, 0.0), Storing(1.0, 0.0), Storing(2.0, 0.0)]
    devices = tuple(PoolDevice(str(at), (ServedRung("v", "e", one),)) for at, one in enumerate(runners))
    items = complete_on(devices, {"price": np.zeros((3, 1), np.float32)})
    assert set(items) == {"price", "stored"}
    assert [runner.calls for runner in runners] == [0, 1, 0]


def test_metrics_tell_placements_and_errors_by_device_when_a_batch_ran() -> None:
    metrics = ServerMetrics()
    metrics.ran(BatchRun(10, 1, 1, 0.002, (0.0,), 0.002, 0.001, device="native-0", placed=Reason.SPREAD))
    metrics.ran(BatchRun(10, 1, 1, 0.002, (0.0,), 0.002, 0.001, device="eager-1"))
    text = metrics.render(0).decode()
    assert 'rankine_placements_total{device="native-0",reason="spread"} 1.0' in text
    assert 'rankine_prediction_error_count{device="eager-1"} 1.0' in text
    assert 'rankine_placements_total{device="eager-1"' not in text


def test_config_refuses_settings_of_one_device_when_there_is_a_pool() -> None:
    pool = [{"engine": "native"}, {"engine": "onnxruntime", "cores": ["1"]}]
    config = parse(ServeConfig, {"artifact": Path("small"), "device_pool": pool})
    assert config.device_pool == (PoolDeviceConfig(engine="native"), PoolDeviceConfig(engine="onnxruntime", cores=(1,)))
    for name, value in (("engine", "native"), ("threads", 2), ("workers", 2), ("device", "gpu")):
        with pytest.raises(ConfigError, match=f"each device has its own `{name}`"):
            parse(ServeConfig, {"artifact": Path("small"), "device_pool": pool, name: value})


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("engine=native", {"engine": "native"}),
        ("engine=native,threads=2,cores=0+1", {"engine": "native", "threads": "2", "cores": ["0", "1"]}),
    ],
)
def test_device_pool_option_gives_a_mapping_when_it_is_well_formed(text: str, device: dict[str, object]) -> None:
    assert parse_device(text) == device


@pytest.mark.parametrize("text", ["native", "engine=native,engine=eager", "engine=native,", ""])
def test_device_pool_option_is_refused_when_it_is_malformed(text: str) -> None:
    with pytest.raises(UsageError, match="not a device of a pool"):
        parse_device(text)


def test_pinned_is_refused_when_there_is_no_such_core() -> None:
    with pytest.raises(UsageError, match="no such cores here"), pinned((100_000,), "device_pool.1.cores"):
        pytest.fail("it should not get here")
