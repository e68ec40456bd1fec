"""The simulated accelerator: what its cost model says, and that a call takes that long."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rankine.cli.device_pool import parse_device
from rankine.compilation.engine import ConfigurableEngine, PartsEngine, Runner
from rankine.compilation.engines import load_engine
from rankine.compilation.engines.simulated import Simulated, SimulatedCost, SimulatedRunner
from rankine.config import parse
from rankine.errors import BadRequest, ConfigError, EngineError
from rankine.models.columns import Batch, Columns
from rankine.serving.config import PoolDeviceConfig


@pytest.mark.parametrize(
    ("buckets", "rows", "launches", "computed"),
    [
        ((), 0, 0, 0),
        ((), 1, 1, 1),
        ((), 700, 1, 700),
        ((64, 512), 1, 1, 64),
        ((64, 512), 64, 1, 64),
        ((64, 512), 65, 1, 512),
        ((64, 512), 512, 1, 512),
        ((64, 512), 513, 2, 512 + 64),
        ((64, 512), 1024, 2, 1024),
    ],
)
def test_cost_is_launches_transfers_and_padded_rows_when_rows_are_given(
    buckets: tuple[int, ...], rows: int, launches: int, computed: int
) -> None:
    cost = SimulatedCost(launch_us=300, transfer_us=2, rows_per_ms=1000, row_buckets=buckets)
    expected_us = 300 * launches + 2 * rows + computed
    assert cost.seconds(rows) == pytest.approx(1e-6 * expected_us)


def test_options_make_a_cost_model_when_they_are_text() -> None:
    given = {"launch_us": "10", "transfer_us": "0.5", "rows_per_ms": "250", "row_buckets": "512+64+512"}
    cost = Simulated().configured(given).cost
    assert cost == SimulatedCost(launch_us=10, transfer_us=0.5, rows_per_ms=250, row_buckets=(64, 512))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("launch", "3", "Did you mean 'launch_us'"),
        ("launch_us", "-1", "greater than or equal to 0"),
        ("launch_us", "soon", "valid number"),
        ("launch_us", "nan", "finite"),
        ("rows_per_ms", "0", "greater than or equal to 0.001"),
        ("rows_per_ms", "inf", "finite"),
        ("transfer_us", "-0.1", "greater than or equal to 0"),
        ("row_buckets", "64+x", "valid integer"),
        ("row_buckets", "0", "greater than or equal to 1"),
        ("row_buckets", "", "valid integer"),
    ],
)
def test_options_are_refused_by_name_when_they_make_no_sense(name: str, value: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Simulated().configured({name: value})
    assert f"simulated: {name}" in str(refused.value)
    assert told in str(refused.value)


def test_engine_says_that_it_is_simulated_when_its_record_is_read() -> None:
    engine = load_engine("simulated")
    record = engine.capabilities()
    assert {device: record.runs_on(device) for device in record.devices} == {"cpu": "simulated"}
    assert record.on_request
    assert isinstance(engine, ConfigurableEngine)
    assert isinstance(engine, PartsEngine)
    assert not isinstance(load_engine("native"), ConfigurableEngine)


def test_device_pool_option_gives_the_engine_its_options_when_they_are_no_devices_own() -> None:
    found = parse_device("engine=simulated,launch_us=300,threads=2,rows_per_ms=4000,row_buckets=64+512")
    config = parse(PoolDeviceConfig, found)
    options = {"launch_us": "300", "rows_per_ms": "4000", "row_buckets": "64+512"}
    assert config == PoolDeviceConfig(engine="simulated", threads=2, options=options)


class Clock:
    """Time that passes only where somebody sleeps or computes."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


class Computing:
    """Takes its time, writes ones, and fails when it is told to."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.error: Exception | None = None
        self.closed = False

    def run(self, batch: Batch, out: np.ndarray) -> None:
        if self.error is not None:
            raise self.error
        self.clock.now_s += self.seconds
        out[:] = 1.0

    def complete(self, items: Columns) -> Columns:
        return items

    def close(self) -> None:
        self.closed = True


def opened(seconds: float, **cost: Any) -> tuple[Clock, Computing, SimulatedRunner]:
    clock = Clock()
    inner = Computing(clock, seconds)
    runner: Runner = inner
    return clock, inner, SimulatedRunner(runner, SimulatedCost(**cost), sleep=clock.sleep, clock=clock)


def batch(rows: int) -> tuple[Batch, np.ndarray]:
    index = np.zeros(rows, np.int32)
    return Batch({}, {}, {}, item_index=index, request_index=index), np.zeros((rows, 1), np.float32)


def test_call_takes_what_the_cost_model_says_when_its_scores_are_there_sooner() -> None:
    clock, _, runner = opened(0.0002, launch_us=1000, rows_per_ms=100)
    given, out = batch(200)
    runner.run(given, out)
    assert clock.now_s == pytest.approx(100.003)
    assert (out == 1).all()
    assert runner.overran == 0


def test_call_is_counted_when_its_scores_take_longer(caplog: pytest.LogCaptureFixture) -> None:
    clock, _, runner = opened(0.01, launch_us=1000, rows_per_ms=100)
    for _ in range(40):
        runner.run(*batch(200))
    assert clock.now_s == pytest.approx(100.4)
    assert runner.overran == 40
    assert [record.message[:25] for record in caplog.records] == ["the simulated accelerator"]


def test_calls_wait_for_each_other_when_they_come_at_the_same_time() -> None:
    clock, _, runner = opened(0.0, launch_us=1000, rows_per_ms=1000)
    ends_s: list[float] = []
    sleep = clock.sleep

    def second_call_comes(seconds: float) -> None:
        runner._sleep = sleep
        runner.run(*batch(1000))  # while the first one runs
        ends_s.append(clock.now_s)
        sleep(max(1e-9, 100 + seconds - clock.now_s))

    runner._sleep = second_call_comes
    runner.run(*batch(1000))
    assert ends_s == [pytest.approx(100.004)]


def test_refused_batch_takes_no_time_when_it_is_at_fault() -> None:
    clock, inner, runner = opened(0.0, launch_us=1000)
    inner.error = BadRequest("no such row")
    with pytest.raises(BadRequest):
        runner.run(*batch(3))
    assert clock.now_s == 100.0
    inner.error = None
    runner.run(*batch(0))
    assert clock.now_s == 100.0


def test_runner_is_refused_when_it_is_closed() -> None:
    _, inner, runner = opened(0.0)
    runner.close()
    runner.close()
    assert inner.closed
    with pytest.raises(EngineError, match="closed"):
        runner.run(*batch(1))
