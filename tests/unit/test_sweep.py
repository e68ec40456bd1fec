"""The rate sweep, driven against a synthetic server of known capacity."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from rankine.config import parse
from rankine.errors import ConfigError
from rankine.events import Event, Progress
from rankine.observation.load import LoadConfig, LoadResult, SweepConfig, SweepResult, sweep
from rankine.observation.load.answer import Answer
from rankine.observation.load.generator import Run
from rankine.observation.load.record import summarize


@dataclass
class Cliff:
    """Answers in 10 ms up to ``capacity_rps``, in ``late_ms`` above it; ``refusing`` sheds what is over it instead."""

    capacity_rps: float
    late_ms: float = 500.0
    cpu_share: float = 0.1
    refusing: bool = False
    offered: list[tuple[float, float]] = field(default_factory=list)
    drains: int = 0

    def estimate(self) -> float:
        return self.capacity_rps * 1.1

    def offer(self, rate_rps: float, duration_s: float) -> LoadResult:
        self.offered.append((rate_rps, duration_s))
        requests = max(1, round(rate_rps * duration_s))
        over = max(0.0, 1 - self.capacity_rps / rate_rps)
        hit = round(requests * over)
        bad = (
            Answer(0, 0, 0.001, "503", False, 1) if self.refusing else Answer(0, 0, self.late_ms / 1e3, "200", True, 1)
        )
        answers = [bad] * hit + [Answer(0, 0, 0.010, "200", True, 1)] * (requests - hit)
        load = LoadConfig(url="http://127.0.0.1:1", rate_rps=rate_rps, slo_ms=50, warmup_s=0)
        return summarize(load, Run(answers, requests, duration_s, self.cpu_share), {"cpu": "test"})

    def drain(self) -> None:
        self.drains += 1


def config(**changes: object) -> SweepConfig:
    load = {"url": "http://127.0.0.1:1", "slo_ms": 50}
    return SweepConfig.model_validate({"load": load, "least_queries": 1} | changes)


@pytest.mark.parametrize("capacity_rps", [3.0, 22.0, 144.0, 5000.0])
@pytest.mark.parametrize("start_rps", [None, 1.0, 400.0])
def test_sweep_finds_capacity_when_it_is_known(capacity_rps: float, start_rps: float | None) -> None:
    target = Cliff(capacity_rps)
    found = sweep(config(start_rps=start_rps, max_trials=30), target=target)
    assert found.sustainable_rps is not None
    # Above by the tolerated misses (1 %), below by the search's precision.
    assert 0.94 * capacity_rps <= found.sustainable_rps <= 1.02 * capacity_rps
    assert found.goodput_rps == pytest.approx(found.sustainable_rps, rel=0.011)
    assert found.failed_rps is not None
    assert found.failed_rps <= 1.051 * max(trial.rate_rps for trial in found.trials if trial.held)


@pytest.mark.parametrize("refusing", [False, True])
def test_rate_fails_when_refused_as_when_late(refusing: bool) -> None:
    found = sweep(config(), target=Cliff(100, refusing=refusing))
    assert found.sustainable_rps == pytest.approx(100, rel=0.06)
    failures = [trial.why for trial in found.trials if not trial.held]
    assert failures
    assert all("misses" in why for why in failures)


@pytest.mark.parametrize(("attempts", "forgiven"), [(1, False), (2, True)])
def test_one_hiccup_is_forgiven_when_second_attempt_is_allowed(attempts: int, forgiven: bool) -> None:
    class Hiccup(Cliff):
        def offer(self, rate_rps: float, duration_s: float) -> LoadResult:
            self.capacity_rps = 0.1 if not self.offered else 100  # the first trial only
            return super().offer(rate_rps, duration_s)

    found = sweep(config(start_rps=90, attempts=attempts), target=Hiccup(100))
    assert [trial.held for trial in found.trials][:2] == [False, True]
    assert (found.trials[1].rate_rps == 90) is forgiven
    assert found.sustainable_rps is not None
    assert (found.sustainable_rps > 90) is forgiven


def test_trials_are_long_enough_when_rate_allows() -> None:
    target = Cliff(100)
    sweep(config(min_queries=459, min_trial_s=2, max_trial_s=10), target=target)
    assert all(2 <= duration_s <= 10 for _, duration_s in target.offered)
    assert all(rate_rps * duration_s >= 459 for rate_rps, duration_s in target.offered if rate_rps >= 51)
    assert target.drains == len(target.offered) - 1


def test_sweep_answers_none_when_no_rate_holds() -> None:
    class Slow(Cliff):
        def offer(self, rate_rps: float, duration_s: float) -> LoadResult:
            return super().offer(rate_rps, duration_s) if rate_rps > 1e9 else Cliff(1e-9).offer(rate_rps, duration_s)

    found = sweep(config(min_rate_rps=2), target=Slow(50))
    assert (found.sustainable_rps, found.goodput_rps, found.p99_ms) == (None, None, None)
    assert "no rate held" in found.reason
    assert [trial.held for trial in found.trials] == [False] * len(found.trials)
    assert min(trial.rate_rps for trial in found.trials) >= 2


def test_no_rate_is_claimed_when_too_few_requests_could_show_it() -> None:
    found = sweep(config(least_queries=100, max_trial_s=8), target=Cliff(3))
    assert found.sustainable_rps is None
    assert all(trial.rate_rps >= 100 / 8 for trial in found.trials)


def test_sweep_answers_none_when_server_answers_nothing() -> None:
    found = sweep(config(), target=Cliff(0.0))
    assert found.sustainable_rps is None
    assert found.trials == ()
    assert "no rate was tried" in found.reason


def test_limit_is_said_to_lie_higher_when_nothing_failed() -> None:
    found = sweep(config(start_rps=1, max_trials=3), target=Cliff(1e6))
    assert found.failed_rps is None
    assert found.sustainable_rps == pytest.approx(4, rel=0.1)
    assert "lies higher" in found.reason


def test_generator_is_blamed_when_it_was_busy_in_the_deciding_trials() -> None:
    found = sweep(config(), target=Cliff(100, cpu_share=0.95))
    assert found.generator_bound
    assert "may lie higher" in found.reason
    assert not sweep(config(), target=Cliff(100)).generator_bound


def test_p99_claim_is_withheld_when_trials_were_too_short() -> None:
    found = sweep(config(max_trial_s=3), target=Cliff(20))
    assert found.sustainable_rps is not None
    assert not found.supports_p99
    assert "do not support" in found.reason


def test_every_trial_is_told_and_kept_when_sweep_ends() -> None:
    events: list[Event] = []
    found = sweep(config(), events.append, target=Cliff(100))
    told = [event for event in events if isinstance(event, Progress)]
    assert len(told) == len(found.trials)
    assert SweepResult.model_validate_json(found.model_dump_json()) == found
    assert len(found.table()) == len(found.trials) + 1


@pytest.mark.parametrize(
    "values",
    [
        {"load": {"url": "http://127.0.0.1:1"}},
        {"load": {"url": "http://127.0.0.1:1", "slo_ms": 50, "rate_rps": 3}},
        {"load": {"url": "http://127.0.0.1:1", "slo_ms": 50}, "min_trial_s": 9, "max_trial_s": 3},
    ],
)
def test_sweep_is_refused_when_its_load_is_not_open_and_bounded(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        parse(SweepConfig, values)
