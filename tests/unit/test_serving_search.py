"""How the serving proof finds what servers sustain: one search, one turn's overload, rounds, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rankine.errors import EngineError
from rankine.observation.load.answer import Answer
from rankine.observation.load.config import LoadConfig
from rankine.observation.load.generator import Run
from rankine.observation.load.record import summarize

LOAD = LoadConfig(url="http://x", slo_ms=50)


@dataclass
class Fickle:
    """Sustains 1,000 requests per second; one probe is hit by a hiccup."""

    guess_rps: float = 1000.0
    hiccup_at: int = -1
    offered: list[float] = field(default_factory=list)

    def estimate(self) -> float:
        return self.guess_rps

    def offer(self, rate_rps: float, duration_s: float) -> Any:
        holds = rate_rps <= 1000.0 and len(self.offered) != self.hiccup_at
        self.offered.append(rate_rps)
        outcome = Answer(0, 0, 0.01 if holds else 0.2, "200", True, 1)
        requests = round(rate_rps * duration_s)
        run = Run([outcome] * requests, requests, duration_s, 0.1)
        return summarize(LOAD.model_copy(update={"rate_rps": rate_rps, "warmup_s": 0.0}), run, {})

    def drain(self) -> None:
        """Nothing waits."""


# One search


@pytest.mark.parametrize("near_rps", [960.0, 1000.0, 1040.0])
def test_search_takes_four_probes_when_the_rate_is_near(near_rps: float, serving: Any) -> None:
    driven = Fickle()
    found = serving.search.find_rate(driven, LOAD, probe_s=1.0, precision=0.031, near_rps=near_rps)
    assert len(driven.offered) <= 4
    assert 1000 / 1.032 < found.best.offered_rps <= 1001
    assert 1000 < found.failed.rate_rps <= 1.032 * found.best.offered_rps
    assert not found.capped


@pytest.mark.parametrize("guess_rps", [300.0, 1300.0, 4000.0])
def test_search_brackets_the_rate_when_the_guess_is_far(guess_rps: float, serving: Any) -> None:
    found = serving.search.find_rate(Fickle(guess_rps), LOAD, probe_s=1.0, precision=0.03)
    assert found.best.offered_rps <= 1001 < found.failed.rate_rps < 1.5 * found.best.offered_rps


def test_search_begins_where_another_server_stands_when_told_of_it(serving: Any) -> None:
    driven = Fickle()
    serving.search.find_rate(driven, LOAD, probe_s=1.0, precision=0.03, rival_rps=1500.0)
    assert driven.offered[:2] == pytest.approx([600.0, 780.0])


@pytest.mark.parametrize("hiccup_at", range(4))
def test_search_is_off_by_a_step_at_most_when_a_probe_is_hit_by_a_hiccup(hiccup_at: int, serving: Any) -> None:
    driven = Fickle(hiccup_at=hiccup_at)
    found = serving.search.find_rate(driven, LOAD, probe_s=1.0, precision=0.03, near_rps=990.0)
    assert 900 < found.best.offered_rps <= 1001


def test_search_finds_nothing_when_no_rate_holds(serving: Any) -> None:
    class Slow(Fickle):
        def offer(self, rate_rps: float, duration_s: float) -> Any:
            return super().offer(rate_rps + 1000, duration_s)

    found = serving.search.find_rate(Slow(), LOAD, probe_s=1.0, precision=0.03, rival_rps=22.0)
    assert (found.best, found.capped) == (None, False)
    assert found.failed.rate_rps == serving.search.LEAST_RPS
    assert "no rate held" in found.reason


def test_search_goes_on_down_when_the_server_has_become_far_slower(serving: Any) -> None:
    found = serving.search.find_rate(Fickle(), LOAD, probe_s=1.0, precision=0.03, near_rps=2500.0)
    assert 700 < found.best.offered_rps <= 1001


def test_limit_may_lie_higher_when_no_rate_failed(serving: Any) -> None:
    class Fast(Fickle):
        def offer(self, rate_rps: float, duration_s: float) -> Any:
            return super().offer(rate_rps / 1000, duration_s * 1000)

    found = serving.search.find_rate(Fast(), LOAD, probe_s=1.0, precision=0.03, near_rps=9.0)
    assert found.capped


# What comes after it


def refused_and_served() -> Run:
    good = [Answer(1, 1, 1.010, "200", True, 1)] * 90
    late = [Answer(1, 1, 1.060, "200", True, 1)] * 5
    refused = [Answer(1, 1, 1.002, "503", False, 1)] * 99 + [Answer(1, 1, 1.004, "504", False, 1)]
    return Run([*good, *late, *refused], 200, 10.0, 0.1)


def test_overload_tells_refusals_apart_from_what_was_admitted_when_counted(serving: Any) -> None:
    class Overloaded:
        def drain(self) -> None:
            """Nothing waits."""

        def open(self, rate_rps: float, duration_s: float) -> tuple[LoadConfig, Run]:
            assert (rate_rps, duration_s) == (400.0, 5.0)
            return LoadConfig(url="http://x", rate_rps=400, slo_ms=50, warmup_s=0), refused_and_served()

        def record(self, config: LoadConfig, run: Run) -> Any:
            return summarize(config, run, {})

    found = serving.sections.run_overload(Overloaded(), 200.0, 199.0, 2.0, 5.0)
    assert (found.refused, found.requests) == (100, 200)
    assert found.refusal_p99_ms == pytest.approx(2.0)
    assert found.admitted_in_time_share == pytest.approx(0.9)  # five late, five never answered
    assert found.goodput_share == pytest.approx(9.0 / 199.0)


# Rounds


@dataclass
class Contestants:
    """Servers that do nothing, and a note of the turns that they were given."""

    serving: Any
    turns: list[tuple[str, int, float | None]] = field(default_factory=list)
    fails_at: int = -1

    def peer(self, name: str, *, starts: bool = True) -> Any:
        @contextmanager
        def start(served: Any, place: Any, settings: Any) -> Iterator[Any]:
            if not starts:
                raise EngineError("the server did not start", where=name)
            yield self.serving.peers.peer.Running(f"http://{name}", None)

        return self.serving.peers.peer.Peer(name, name, start, {})

    def take_turn(self, drive: Any, *given: Any, before: Any, **more: Any) -> Any:
        if len(self.turns) == self.fails_at:
            raise KeyboardInterrupt
        rate_rps = 100.0 + len(self.turns)
        self.turns.append((drive.running.url[7:], drive.seed, before.sustained_rps if before else None))
        return turn(self.serving, rate_rps)


def turn(serving: Any, rate_rps: float | None, **more: Any) -> Any:
    given = {
        "sustained_rps": rate_rps,
        "failed_rps": 210.0,
        "goodput_rps": rate_rps,
        "p50_ms": 8.0,
        "p99_ms": 40.0,
        "requests": 2000,
        "capped": False,
        "engine_ms": (3.0, 3.1),
        "attempts": (),
        "settings": {},
    }
    return serving.record.Turn.model_validate({**given, **more})


@pytest.fixture
def contestants(serving: Any, monkeypatch: pytest.MonkeyPatch) -> Contestants:
    found = Contestants(serving)
    monkeypatch.setattr(serving.rounds, "take_turn", found.take_turn)
    monkeypatch.setattr(serving.drive.Drive, "check", lambda self, reference: None)
    return found


def held(
    contestants: Contestants, peers: list[Any], result: Any, folder: Path, rounds: int = 3
) -> tuple[Any, list[Any]]:
    serving, kept = contestants.serving, []
    effort = serving.effort.Effort(rounds=rounds)
    settings = {peer.name: {} for peer in peers}
    plan = serving.rounds.Plan(folder, serving.queries.Mix(), effort, 2.0, (0,), (1,), Path("python"), settings, 0)
    served = serving.served.Served("big", folder, folder, "x", [{"user": 1}], np.arange(1000))
    contest = serving.record.Contest(model="big", traffic="exponential", candidates="mlperf")

    ranker = SimpleNamespace(best=None)
    result = serving.rounds.run_rounds(contest, peers, served, ranker, plan, result, kept.append, lambda text: None)
    return result, kept


def test_rounds_go_there_and_back_under_arrivals_of_their_own_when_run(
    contestants: Contestants, serving: Any, tmp_path: Path
) -> None:
    peers = [contestants.peer("rankine"), contestants.peer("window")]
    found, kept = held(contestants, peers, serving.record.ServingProof(), tmp_path)
    assert contestants.turns == [
        ("rankine", 0, None), ("window", 0, None),
        ("window", 1, 101.0), ("rankine", 1, 100.0),
        ("rankine", 2, 103.0), ("window", 2, 102.0),
    ]  # fmt: skip
    assert [len(one.rounds) for one in kept] == [1, 2, 3]
    assert found == kept[-1]


def test_rounds_go_on_where_they_ended_when_one_was_cut_off(
    contestants: Contestants, serving: Any, tmp_path: Path
) -> None:
    peers = [contestants.peer("rankine"), contestants.peer("window")]
    contestants.fails_at = 3
    with pytest.raises(KeyboardInterrupt):
        held(contestants, peers, serving.record.ServingProof(), tmp_path)
    contestants.fails_at = -1
    first, _ = held(contestants, peers, serving.record.ServingProof(), tmp_path, rounds=1)
    contestants.turns.clear()
    found, _ = held(contestants, peers, first, tmp_path, rounds=2)
    assert [seed for _, seed, _ in contestants.turns] == [1, 1]
    assert all(before is not None for *_, before in contestants.turns)
    assert len(found.rounds) == 2
    contestants.turns.clear()
    assert held(contestants, peers, found, tmp_path, rounds=2)[0] == found
    assert contestants.turns == []


def test_rounds_are_held_without_a_server_when_it_does_not_start(
    contestants: Contestants, serving: Any, tmp_path: Path
) -> None:
    peers = [contestants.peer("rankine"), contestants.peer("window", starts=False)]
    found, _ = held(contestants, peers, serving.record.ServingProof(), tmp_path, rounds=1)
    assert list(found.rounds[0].turns) == ["rankine"]


# What rounds say


def proof(serving: Any, *rounds: dict[str, float | None], **more: Any) -> Any:
    contest = {"model": "small", "traffic": "exponential", "candidates": "mlperf"}
    return serving.record.ServingProof(
        rounds=[
            {
                "contest": contest,
                "number": number,
                "slo_ms": 50,
                "effort": {},
                "turns": {server: turn(serving, rate_rps, **more) for server, rate_rps in rates.items()},
                "created": "2026-11-21T10:00:00Z",
                "environment": {},
            }
            for number, rates in enumerate(rounds)
        ]
    )


def test_ratio_is_that_of_each_round_when_the_host_gets_faster(serving: Any) -> None:
    found = proof(serving, {"rankine": 100, "peer": 50}, {"peer": 75, "rankine": 150}, {"rankine": 200, "peer": 100})
    [contest] = serving.standing.contests(found)
    assert serving.standing.ratios(found, contest, "rankine", "peer").values == (2.0, 2.0, 2.0)
    assert serving.standing.standings(found, contest)["rankine"].rates.text(".0f") == "**150** (100 to 200)"


def test_ratio_is_infinite_when_the_other_sustains_nothing(serving: Any) -> None:
    found = proof(serving, {"rankine": 100, "peer": None}, {"rankine": 100})
    [contest] = serving.standing.contests(found)
    assert serving.standing.ratios(found, contest, "rankine", "peer").values == (float("inf"),)
    assert serving.standing.ratios(found, contest, "rankine", "absent") is None


def test_control_tells_drift_within_a_round_and_over_all_when_they_differ(serving: Any) -> None:
    first = proof(serving, {"rankine": 100}, engine_ms=(2.0, 2.2)).rounds
    second = proof(serving, {"rankine": 100}, engine_ms=(3.0, 3.0)).rounds
    assert serving.standing.control_drift([*first, *second]) == pytest.approx((0.1, 0.5))


@pytest.mark.parametrize(("peer", "met"), [((51.0, 60.0, 40.0), False), ((50.0, 80.0, 40.0), True)])
def test_bar_is_judged_by_the_median_of_rounds_when_they_differ(
    peer: tuple[float, ...], met: bool, serving: Any
) -> None:
    found = proof(serving, *({"rankine": 100.0, "fastapi": rate_rps} for rate_rps in peer))
    bars = {bar.what: bar for bar in serving.bars.bars_of(found)}
    assert bars["over fastapi, small, exponential"].met is met
    assert bars["goodput at SLO, small, exponential"].met is True
