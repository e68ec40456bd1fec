"""What several devices take of one queue: large batches for the one that leads, small ones for the others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankine.planning.simulate_server import SimulatedServer
from rankine.planning.simulate_setup import Outcomes, Setup, SimulatedDevice
from rankine.planning.simulate_traffic import Traffic, draw_trace
from rankine.policy.backlog import Backlog
from rankine.policy.batching import Limits, Shape
from rankine.policy.cost import CostModel
from rankine.policy.dispatch import Dispatch
from rankine.policy.lanes import Lane
from rankine.policy.placement import Device, Turn, next_for
from rankine.policy.reason import Reason
from rankine.policy.sizes import Sizes
from unit.policy_requests import NEVER, Ask, costs

CPU_PROFILE = ((1, 0.00006), (512, 0.00517), (2048, 0.02053))  # 50 us a call, 100 rows/ms
CHIP_PROFILE = ((1, 0.002951), (512, 0.003462), (2048, 0.004998))  # 2950 us a launch, 1000 rows/ms
LIMITS = Limits(max_batch_rows=16_384)


def cpu() -> CostModel:
    return CostModel(CPU_PROFILE)


def chip() -> CostModel:
    return CostModel(CHIP_PROFILE)


def _planned(cost: CostModel, *rows: int) -> Backlog[Ask]:
    backlog: Backlog[Ask] = Backlog(cost, LIMITS)
    for each in rows:
        backlog.push(Ask(each, deadline_s=0.1), (Lane(0.0),))
    return backlog


def test_slow_device_takes_the_first_requests_when_the_fast_one_comes_to_the_batch_later() -> None:
    backlog = _planned(chip(), *[200] * 20)
    assert len(backlog.planned) == 1
    devices = (Device("cpu", cpu()), Device("chip", chip(), free_s=0.002))
    assert next_for(0, backlog.planned, devices, 0.0) is None  # all of it: 40 ms
    assert next_for(0, backlog.planned, devices, 0.0, shape=Shape.of(cpu(), LIMITS)) == Turn(0, 1)
    backlog.cut(0, 1, 0.0)
    decision = backlog.take(0.0, 0)
    assert (decision.rows, decision.reason) == (200, Reason.OWN_SIZE)
    assert [batch.rows for batch in backlog.planned] == [3800]


def test_slow_device_takes_nothing_when_the_fast_one_is_done_with_all_before() -> None:
    backlog = _planned(chip(), *[700] * 2)
    devices = (Device("cpu", cpu()), Device("chip", chip()))
    assert next_for(0, backlog.planned, devices, 0.0, shape=Shape.of(cpu(), LIMITS)) is None


def test_lead_is_taken_over_when_another_device_does_clearly_more() -> None:
    sizes = Sizes(LIMITS)
    fast, slow, similar = Device("chip", chip()), Device("cpu", cpu()), Device("other", CostModel(CHIP_PROFILE))
    assert sizes.lead([slow, fast], 0) == 1
    assert sizes.lead([slow, fast, similar], 2) == 2
    assert sizes.of(fast).target_rows > 100 * sizes.of(slow).target_rows / 2


def test_lead_follows_when_a_device_turns_out_to_be_faster() -> None:
    dispatch, late = Dispatch(LIMITS), CostModel([(rows, 20 * seconds) for rows, seconds in CHIP_PROFILE])
    devices = (Device("cpu", cpu()), Device("chip", late))
    assert not dispatch.follow(devices)
    for _ in range(200):
        late.observe(512, 1, 0, chip().mean_s(512))
    assert dispatch.follow(devices)
    assert dispatch.lead == 1
    assert not dispatch.follow(devices)


_ASKS = st.builds(Ask, st.integers(1, 200), st.floats(0.001, 1.0) | st.just(NEVER))


@given(st.lists(_ASKS, min_size=1, max_size=8), costs(), costs(), st.floats(0.0, 0.05), st.integers(0, 1))
@settings(deadline=None)
def test_no_row_is_lost_or_run_twice_when_two_devices_empty_a_queue(
    requests: list[Ask], one: CostModel, other: CostModel, busy_s: float, first: int
) -> None:
    backlog: Backlog[Ask] = Backlog(one, Limits())
    for request in requests:
        backlog.push(request, (Lane(0.0),), keep=True)
    dispatch, free_s, now_s = Dispatch(Limits()), [0.0, busy_s], 0.0
    rows = dict.fromkeys(map(id, requests), 0)
    dropped = idle = 0
    turn = first
    while len(backlog):
        idle += 1
        assert idle < 6  # somebody always takes something
        turn, now_s = 1 - turn, max(now_s, min(free_s))
        devices = [Device("one", one, free_s[0]), Device("other", other, free_s[1])]
        if free_s[turn] > now_s:
            continue
        at, _ = dispatch.next(turn, backlog, devices, now_s)
        if at is None:
            free_s[turn] = max(now_s, free_s[1 - turn])  # it looks again when the other one is done
            continue
        idle, decision = 0, backlog.take(now_s, at)
        for piece in decision.slices:
            rows[id(piece.work)] += piece.rows
        dropped += sum(work.rows - rows[id(work)] for work in (*decision.expired, *decision.hopeless))
        free_s[turn] = now_s + devices[turn].cost.mean_s(max(1, decision.rows), max(1, decision.requests))
    assert sum(rows.values()) + dropped == sum(request.rows for request in requests)
    assert all(rows[id(request)] <= request.rows for request in requests)


def _ran(rate_rps: float, *devices: SimulatedDevice) -> Outcomes:
    traffic = Traffic(rate_rps=rate_rps, duration_s=2.0, deadline_ms=50, seed=4)
    return SimulatedServer(draw_trace(traffic), Setup(devices, limits=LIMITS, seed=4)).run()


@pytest.mark.parametrize("wrong", [1.0, 5.0])
def test_accelerator_gets_large_batches_and_the_cpu_small_ones_when_much_is_asked_for(wrong: float) -> None:
    on_cpu = SimulatedDevice("cpu", CPU_PROFILE)
    believed = tuple((rows, wrong * seconds) for rows, seconds in CHIP_PROFILE)
    on_chip = SimulatedDevice("chip", CHIP_PROFILE, believed=believed)
    both, alone = _ran(3400, on_cpu, on_chip), _ran(3400, on_chip)
    of_cpu, of_chip = both.devices
    assert of_chip.rows / of_chip.batches > 5000
    assert of_cpu.rows / of_cpu.batches < 500
    assert both.on_time.sum() > 1.05 * alone.on_time.sum()
