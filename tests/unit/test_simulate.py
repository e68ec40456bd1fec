"""The simulator: its traffic, that queues are bounded below capacity, and what overload leaves of the goodput."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankine.errors import SloNotMet, UsageError
from rankine.planning import simulate_worker
from rankine.planning.simulate import Slo, simulate, sustainable_rate
from rankine.planning.simulate_entry import Connections
from rankine.planning.simulate_oracle import OracleServer
from rankine.planning.simulate_server import SimulatedServer
from rankine.planning.simulate_setup import Setup, SimulatedDevice
from rankine.planning.simulate_traffic import Trace, Traffic, draw_trace
from rankine.policy.batching import Limits
from rankine.policy.ladder import Rung

PROFILE = ((1, 0.0006), (64, 0.0019), (512, 0.0108), (2048, 0.0415))
ONE = Setup((SimulatedDevice("one", PROFILE),))
CAPACITY_RPS = 1 / (0.02 * 0.27)
"""About: 20 us a row and 270 rows a request."""


def _traffic(rate_rps: float, duration_s: float = 15.0, seed: int = 3) -> Traffic:
    return Traffic(rate_rps=rate_rps, duration_s=duration_s, seed=seed)


def test_trace_is_the_same_when_drawn_again_and_another_when_the_seed_is() -> None:
    first, again, other = (draw_trace(_traffic(200.0, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.arrived_s, again.arrived_s)
    assert np.array_equal(first.rows, again.rows)
    assert len(first) != len(other) or not np.array_equal(first.arrived_s, other.arrived_s)


@pytest.mark.parametrize("arrivals", ["exponential", "bursts", "day"])
def test_trace_has_the_mean_rate_when_arrivals_are_of_any_kind(arrivals: str) -> None:
    trace = draw_trace(Traffic(rate_rps=100, duration_s=2000, arrivals=arrivals, seed=5))  # type: ignore[arg-type]
    assert len(trace) / 2000 == pytest.approx(100, rel=0.08)
    assert (np.diff(trace.arrived_s) >= 0).all()
    assert 0 <= trace.arrived_s[0] <= trace.arrived_s[-1] < 2000


def test_bursts_come_at_five_times_the_calm_rate_when_they_come() -> None:
    trace = draw_trace(Traffic(rate_rps=140, duration_s=4000, arrivals="bursts", burst_s=6.0, seed=1))
    by_second = np.bincount(trace.arrived_s.astype(int), minlength=4000)
    assert np.median(by_second) == pytest.approx(100, rel=0.05)
    assert np.median(by_second[by_second > 300]) == pytest.approx(500, rel=0.05)
    assert (by_second > 300).mean() == pytest.approx(0.1, abs=0.03)


def test_candidates_are_those_of_mlperf_when_not_said_otherwise() -> None:
    rows = draw_trace(_traffic(1000.0)).rows
    assert rows.mean() == pytest.approx(270, rel=0.02)
    assert set(np.unique(rows)) == {100, 200, 300, 400, 500, 600, 700}
    heavy = draw_trace(Traffic(rate_rps=1000, duration_s=15, candidates="lognormal")).rows
    assert np.median(heavy) == pytest.approx(150, rel=0.05)
    assert (heavy > 500).mean() == pytest.approx(0.1, abs=0.01)
    assert set(draw_trace(Traffic(rate_rps=100, duration_s=1, candidates=7)).rows) == {7}


def test_short_deadlines_have_their_share_when_asked_for() -> None:
    trace = draw_trace(Traffic(rate_rps=1000, duration_s=15, short_share=0.3, short_deadline_ms=20))
    assert (trace.budget_s == 0.02).mean() == pytest.approx(0.3, abs=0.02)


def test_simulate_refuses_when_no_request_comes() -> None:
    with pytest.raises(UsageError, match="duration_s"):
        simulate(Traffic(rate_rps=1e-6, duration_s=1.0), ONE)


@given(st.floats(0.1, 0.6), st.integers(0, 1000), st.sampled_from([0.0, 0.3]))
@settings(max_examples=12, deadline=None)
def test_queue_is_bounded_and_hardly_anybody_misses_when_utilization_is_below_one(
    load: float, seed: int, noise: float
) -> None:
    device = SimulatedDevice("one", PROFILE, noise=noise)
    traffic = _traffic(load * CAPACITY_RPS, 10.0, seed).model_copy(update={"deadline_ms": 1000.0})
    found = simulate(traffic, Setup((device,)))
    assert found.missed == 0.0
    assert found.p99_ms is not None
    assert found.p99_ms < 300
    assert found.utilization < 0.95


def test_every_request_ends_once_when_the_server_is_overloaded() -> None:
    trace = draw_trace(_traffic(3 * CAPACITY_RPS))
    outcomes = SimulatedServer(trace, ONE).run()
    assert set(np.unique(outcomes.status)) <= {200, 429, 503, 504}
    assert np.isfinite(outcomes.finish_s).all()
    assert (outcomes.latency_s >= 0).all()
    assert (outcomes.rung[outcomes.answered] == 0).all()


@pytest.mark.parametrize("arrivals", ["exponential", "bursts"])
def test_goodput_stays_at_its_peak_when_twice_the_sustainable_rate_is_offered(arrivals: str) -> None:
    traffic = Traffic(rate_rps=60, duration_s=12, arrivals=arrivals, burst_s=0.3, seed=4)  # type: ignore[arg-type]
    rate_rps, at_best = sustainable_rate(traffic, ONE, Slo(), precision=0.05)
    found = simulate(traffic.model_copy(update={"rate_rps": 2 * rate_rps}), ONE)
    assert found.goodput_rps >= 0.9 * at_best.goodput_rps
    assert found.admitted_on_time >= 0.985
    assert found.missed > 0.01


def test_sustainable_rate_holds_and_a_higher_one_does_not_when_found() -> None:
    rate_rps, found = sustainable_rate(_traffic(50.0), ONE, Slo(), precision=0.03)
    assert found.meets(Slo())
    assert not simulate(_traffic(1.3 * rate_rps), ONE).meets(Slo())
    assert rate_rps < CAPACITY_RPS


def test_sustainable_rate_says_so_when_no_rate_holds() -> None:
    with pytest.raises(SloNotMet, match="no offered rate"):
        sustainable_rate(_traffic(100.0), ONE, Slo(p99_ms=1.0))


def test_sustainable_rate_says_so_when_every_rate_that_can_be_played_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rankine.planning.simulate.MOST_REQUESTS", 1000)
    with pytest.raises(UsageError, match="holds at 40 requests/s, and more cannot be played"):
        sustainable_rate(_traffic(20.0), ONE, Slo())


def test_oracle_is_ahead_when_both_see_the_same_overload() -> None:
    traffic = _traffic(1.2 * CAPACITY_RPS)
    server, oracle = simulate(traffic, ONE), simulate(traffic, ONE, oracle=True)
    assert 0.85 * oracle.goodput_rps < server.goodput_rps < oracle.goodput_rps
    outcomes = OracleServer(draw_trace(traffic), ONE).run()
    assert outcomes.on_time[outcomes.answered].all()


def test_server_learns_when_the_profile_is_wrong_by_far() -> None:
    traffic = _traffic(0.6 * CAPACITY_RPS, 30.0)
    right = simulate(traffic, ONE)
    for error in (0.3, 3.0):
        wrong = simulate(traffic, replace(ONE, profile_error=error))
        assert wrong.goodput_rps >= 0.95 * right.goodput_rps


def test_nobody_is_shed_when_the_ladder_may_step_down() -> None:
    rungs = (Rung("fine", 0.0005, 0.0004, 1.0), Rung("lean", 0.001, 0.0008, 0.6), Rung("thin", 0.002, 0.0016, 0.4))
    traffic = _traffic(1.0 * CAPACITY_RPS, 20.0)
    plain, bending = simulate(traffic, ONE), simulate(traffic, replace(ONE, rungs=rungs, floor=0.002))
    assert plain.missed > 0.05
    assert bending.missed <= 0.01
    assert 0.0004 < bending.quality_debt <= 0.0016
    assert sum(bending.rungs) == pytest.approx(1.0)
    capped = simulate(traffic, replace(ONE, rungs=rungs, floor=0.001))
    assert capped.quality_debt <= 0.0008
    assert len(capped.rungs) <= 2


def test_quality_is_back_within_5_s_when_the_load_falls() -> None:
    rungs = (Rung("fine", 0.0005, 0.0004, 1.0), Rung("thin", 0.002, 0.0016, 0.4))
    trace = draw_trace(_traffic(1.3 * CAPACITY_RPS, 30.0))
    calm = (trace.arrived_s < 10) | (np.arange(len(trace)) % 4 == 0)
    trace = replace(trace, **{name: getattr(trace, name)[calm] for name in ("arrived_s", "rows", "budget_s", "tenant")})
    outcomes = SimulatedServer(trace, replace(ONE, rungs=rungs, floor=0.002)).run()
    assert (outcomes.rung[trace.arrived_s < 10] == 1).mean() > 0.2
    assert (outcomes.rung[trace.arrived_s >= 15] == 0).all()


def test_a_slow_device_adds_to_the_goodput_when_it_helps_a_fast_one() -> None:
    slow = SimulatedDevice("slow", tuple((rows, 3 * seconds) for rows, seconds in PROFILE))
    for rate, gain in ((0.3, 1.0), (1.4, 1.15)):
        traffic = _traffic(rate * CAPACITY_RPS)
        alone, both = simulate(traffic, ONE), simulate(traffic, replace(ONE, devices=(*ONE.devices, slow)))
        assert both.goodput_rps >= gain * alone.goodput_rps


def test_a_modest_tenant_keeps_its_share_when_another_floods() -> None:
    traffic = _traffic(3 * CAPACITY_RPS).model_copy(update={"tenants": {"modest": 0.1, "greedy": 0.9}})
    trace = draw_trace(traffic)
    missed = {}
    for name, setup in (("equal", ONE), ("fair", replace(ONE, weights={"modest": 1.0, "greedy": 1.0}))):
        on_time = SimulatedServer(trace, setup).run().on_time
        missed[name] = 1 - on_time[trace.tenant == 0].mean()
    assert missed["equal"] > 0.4
    assert missed["fair"] < 0.5 * missed["equal"]


def test_front_end_costs_capacity_when_it_shares_the_core() -> None:
    traffic = _traffic(0.9 * CAPACITY_RPS)
    apart, shared = simulate(traffic, ONE), simulate(traffic, replace(ONE, front_s=0.001))
    assert shared.goodput_rps < apart.goodput_rps


def test_front_end_bounds_the_rate_when_the_engine_is_quick() -> None:
    quick = Setup((SimulatedDevice("one", ((1, 1e-5), (2048, 1e-4))),), front_s=0.002)
    below, above = (simulate(_traffic(rate_rps, 5.0), quick) for rate_rps in (400.0, 600.0))
    assert below.missed < 0.01
    assert below.p50_ms is not None
    assert below.p50_ms > 2.0  # what the front end does for it is a part of every request's time
    assert above.goodput_rps < 500


def test_requests_without_room_are_refused_when_the_queue_is_short() -> None:
    found = simulate(_traffic(2 * CAPACITY_RPS, 5.0), replace(ONE, limits=Limits(max_queue_rows=700)))
    assert found.reasons["queue_full"] > 0
    assert found.refused > 0.3


def test_simulated_pool_is_as_good_as_the_fast_device_alone_when_the_other_is_far_too_slow() -> None:
    far_slower = SimulatedDevice("slow", tuple((rows, 40 * seconds) for rows, seconds in PROFILE))
    fast = SimulatedDevice("fast", PROFILE)
    traffic = Traffic(rate_rps=130, duration_s=10, seed=1)
    alone, pool = (simulate(traffic, Setup(devices, seed=1)) for devices in ((fast,), (fast, far_slower)))
    assert pool.missed == alone.missed
    assert pool.p99_ms == alone.p99_ms


def _at(arrived_ms: Sequence[float], *, budget_ms: float = 20.0) -> Trace:
    """Requests of 512 rows."""
    count = len(arrived_ms)
    rows, budget_s = np.full(count, 512), np.full(count, budget_ms / 1e3)
    return Trace(np.array(arrived_ms) / 1e3, rows, budget_s, np.zeros(count, np.int64), ("",), 1.0)


def _one_core(batch_ms: float, *, two_ms: float | None = None, max_batch_rows: int = 512) -> Setup:
    """The loop takes 0.2 ms to read a head, 0.5 ms for a body and 0.3 ms to answer, and every batch the same; or more,
    with two."""
    profile = ((1, batch_ms / 1e3), (512, batch_ms / 1e3), (1024, (two_ms or batch_ms) / 1e3))
    device = SimulatedDevice("one", profile, per_request_s=0.0)
    return Setup((device,), front_s=0.001, exact=True, limits=Limits(max_batch_rows=max_batch_rows))


@pytest.mark.parametrize(
    ("batch_ms", "budget_ms", "finish_ms"),
    [
        (5.5, 20.0, [0.7 + 5.5 + 0.3, 6.5 + 0.7 + 5.5 + 0.3]),
        (10.5, 30.0, [0.7 + 10.5 + 0.7 + 0.3, 11.9 + 0.3 + 10.5 + 0.3]),
    ],
)
def test_batch_is_interrupted_by_reading_when_it_is_too_long_for_the_event_loop(
    batch_ms: float, budget_ms: float, finish_ms: list[float]
) -> None:
    outcomes = SimulatedServer(_at([0.0, 2.0], budget_ms=budget_ms), _one_core(batch_ms)).run()
    assert 1e3 * outcomes.finish_s == pytest.approx(finish_ms)


def test_loop_reads_on_for_a_moment_when_others_come_before_the_planned_batch() -> None:
    trace = _at([0.0, 0.1, 0.1, 0.1, 0.1])
    outcomes = SimulatedServer(trace, _one_core(5.0, max_batch_rows=4096)).run()
    # The first runs at once. When it is answered all heads are read, and the others begin within two milliseconds.
    assert outcomes.batches == 2
    began_ms = 6.0 + 0.7 + 3 * 0.2 + 3 * 0.5
    assert 1e3 * outcomes.finish_s == pytest.approx([6.0, *(began_ms + 5.0 + 0.3 * np.arange(1, 5))])


def test_loop_answers_and_reads_between_planned_batches_when_several_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    learned_ms: list[float] = []
    monkeypatch.setattr(
        simulate_worker.ExactCost,
        "observe",
        lambda self, rows, requests, co_running, seconds: learned_ms.append(1e3 * seconds),
    )
    outcomes = SimulatedServer(_at([0.0, 0.1, 3.0]), _one_core(5.5)).run()
    scored_ms = [0.7 + 5.5, 6.2 + 0.3 + 0.7 + 0.7 + 5.5, 13.4 + 0.3 + 5.5]
    assert 1e3 * outcomes.finish_s == pytest.approx([each_ms + 0.3 for each_ms in scored_ms])
    assert learned_ms == pytest.approx([5.5, 5.5, scored_ms[2] - scored_ms[1]])


def test_loop_runs_what_it_holds_when_one_more_at_ease_would_make_it_too_long() -> None:
    outcomes = SimulatedServer(_at([0.0, 0.0], budget_ms=50.0), _one_core(7.0, two_ms=11.0, max_batch_rows=4096)).run()
    assert 1e3 * outcomes.finish_s == pytest.approx([2 * 0.7 + 7.0 + 0.3, 8.7 + 7.0 + 0.3])


def test_each_part_of_a_request_costs_time_when_the_loop_shares_the_core() -> None:
    setup = replace(_one_core(2.0), front_row_s=1e-6, batch_s=0.0001, outside_s=0.0002)
    outcomes = SimulatedServer(_at([5.0]), setup).run()
    assert 1e3 * outcomes.latency_s == pytest.approx([0.7 + 0.512 + 2.0 + 0.1 + 0.3 + 0.2])


def test_loop_wakes_more_slowly_when_it_was_idle_for_longer() -> None:
    setup = replace(_one_core(2.0), wakes_s=((0.001, 0.0), (0.011, 0.001)))
    outcomes = SimulatedServer(_at([20.0, 23.5, 33.1]), setup).run()
    # Idle for 20 ms, not at all (the second waits for half a millisecond), and for 6.1 ms from 27 on.
    assert 1e3 * outcomes.latency_s == pytest.approx([3.0 + 1.0, 3.0 + 0.5, 3.0 + 0.51])


def test_a_connection_is_opened_when_all_wait_for_an_answer() -> None:
    connections = Connections()
    assert connections.opens(0.0)
    assert connections.opens(1.0)
    connections.answered(3.0)
    connections.answered(2.0)
    assert not connections.opens(2.5)
    assert connections.opens(2.6)
    assert not connections.opens(3.0)


def test_requests_on_new_connections_cost_more_when_they_come_together() -> None:
    trace, setup = _at([0.0, 0.0, 0.0, 20.0, 20.0, 20.0]), _one_core(1.0, max_batch_rows=4096)
    plain = SimulatedServer(trace, setup).run()
    fresh = SimulatedServer(trace, replace(setup, connect_s=0.0001)).run()
    assert 1e3 * (fresh.finish_s - plain.finish_s)[3:] == pytest.approx(0.0)
    assert 1e3 * (fresh.finish_s - plain.finish_s)[2] == pytest.approx(0.3)


def test_heads_are_refused_at_their_own_cost_when_those_in_line_take_all_the_time() -> None:
    setup = replace(_one_core(5.5), refuse_s=0.00005)
    server = SimulatedServer(_at([0.0] * 10), setup)
    for turn in range(12, 0, -1):
        server._gates.standing.look(1.0, 1.0, -0.05 * turn)  # the load has lasted
    outcomes = server.run()
    refused = outcomes.status != 200
    # One is planned and one is in line, which is as much as a queue may hold that stands; neither has begun.
    assert refused.tolist() == [False] * 2 + [True] * 8
    assert 1e3 * outcomes.finish_s[refused] == pytest.approx(0.7 + 0.2 + 0.05 * np.arange(1, 9))


def test_server_knows_what_batches_take_when_it_has_run_before() -> None:
    device = SimulatedDevice("one", PROFILE, believed=((1, 0.006), (2048, 0.4)))
    setup, traffic = Setup((device,)), _traffic(0.7 * CAPACITY_RPS, 2.0)
    first = SimulatedServer(draw_trace(traffic), setup).run()
    again = SimulatedServer(draw_trace(traffic), replace(setup, learned=first.learned)).run()
    assert again.on_time.sum() > first.on_time.sum()
    assert first.learned[0].observed == first.batches  # what it has learned is as it was
    assert again.learned[0].observed == first.batches + again.batches
    with pytest.raises(UsageError, match="learned"):
        replace(setup, learned=first.learned * 2)


def test_what_is_due_soon_joins_what_is_held_when_it_is_short() -> None:
    trace = replace(_at([0.0, 0.0]), budget_s=np.array([0.05, 0.0025]))
    outcomes = SimulatedServer(trace, _one_core(0.5, max_batch_rows=4096)).run()
    # With 1 ms left it is not at ease, and would have been planned, and run alone, before.
    assert outcomes.batches == 1
    assert outcomes.on_time.all()


def test_ladder_steps_down_when_the_event_loop_runs_its_batches() -> None:
    rungs = (Rung("fine", 0.0005, 0.0004, 1.0), Rung("thin", 0.002, 0.0016, 0.4))
    device = SimulatedDevice("one", tuple((rows, seconds / 3) for rows, seconds in PROFILE))
    traffic = _traffic(2.6 * CAPACITY_RPS, 10.0)
    plain = Setup((device,), front_s=0.0005, batch_s=0.0001)
    without, bending = simulate(traffic, plain), simulate(traffic, replace(plain, rungs=rungs, floor=0.002))
    assert without.missed > 0.05
    assert bending.missed < 0.3 * without.missed
    assert bending.rungs[1] > 0.1
