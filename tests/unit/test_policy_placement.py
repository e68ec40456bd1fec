"""Devices: the one that finishes first, what a slow one leaves, and requests divided among several."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankine.policy.backlog import Backlog
from rankine.policy.batching import Limits
from rankine.policy.cost import CostModel
from rankine.policy.lanes import Lane, start_of
from rankine.policy.placement import Device, Turn, next_for, place
from rankine.policy.reason import Reason
from unit.policy_requests import Ask, big, costs

FAST_FAR = CostModel([(1, 0.004), (2048, 0.008)])
SLOW_NEAR = CostModel([(1, 0.0002), (2048, 0.04)])
NEAR_AND_FAR = (Device("near", SLOW_NEAR), Device("far", FAST_FAR))


@pytest.mark.parametrize(("rows", "device"), [(10, 0), (2000, 1)])
def test_place_takes_the_near_device_for_few_rows_and_the_fast_one_for_many_when_both_are_free(
    rows: int, device: int
) -> None:
    placement = place(rows, 1, NEAR_AND_FAR, 0.0)
    assert [part.device for part in placement.parts] == [device]
    assert placement.reason is Reason.LEAST_FINISH


def test_place_waits_for_the_fast_device_when_it_is_done_sooner_there() -> None:
    devices = (Device("near", SLOW_NEAR), Device("far", FAST_FAR, free_s=0.01))
    placement = place(2000, 1, devices, 0.0)
    assert placement.parts[0].device == 1
    assert placement.finish_s == pytest.approx(0.01 + FAST_FAR.mean_s(2000))


def test_place_divides_a_large_request_when_that_pays() -> None:
    devices = (Device("a", big()), Device("b", big()))
    placement = place(2000, 1, devices, 0.0, divisible=True)
    assert placement.reason is Reason.SPREAD
    assert placement.finish_s < 0.6 * big().mean_s(2000)
    assert place(100, 1, devices, 0.0, divisible=True).reason is Reason.LEAST_FINISH
    assert place(2000, 1, devices, 0.0).reason is Reason.LEAST_FINISH
    assert place(2000, 1, devices[:1], 0.0, divisible=True).reason is Reason.ONLY


def test_place_divides_nothing_when_the_other_device_is_busy_for_long() -> None:
    devices = (Device("a", big()), Device("b", big(), free_s=1.0))
    assert place(2000, 1, devices, 0.0, divisible=True).reason is Reason.LEAST_FINISH


@given(
    st.integers(1, 5000),
    st.lists(st.tuples(costs(), st.floats(0.0, 0.05)), min_size=1, max_size=4),
    st.integers(1, 200),
    st.booleans(),
)
def test_place_covers_every_row_once_and_is_never_later_than_one_device_when_devices_are_any(
    rows: int, devices: list[tuple[CostModel, float]], least: int, divisible: bool
) -> None:
    given_devices = [Device(str(at), cost, free_s) for at, (cost, free_s) in enumerate(devices)]
    placement = place(rows, 1, given_devices, 0.0, divisible=divisible, least_rows=least)
    at = 0
    for part in placement.parts:
        assert part.first_row == at
        at += part.rows
    assert at == rows
    assert len({part.device for part in placement.parts}) == len(placement.parts)
    alone_s = min(device.finish_s(rows, 1, 0.0) for device in given_devices)
    assert placement.finish_s <= alone_s
    if len(placement.parts) > 1:
        assert min(part.rows for part in placement.parts) >= least


def _planned(rows: int, batches: int) -> Backlog[Ask]:
    backlog: Backlog[Ask] = Backlog(big(), Limits())
    for _ in range(batches):
        backlog.push(Ask(rows), (Lane(0.0),))
    return backlog


def test_next_for_leaves_a_batch_to_the_fast_device_when_that_will_be_done_sooner() -> None:
    slow = CostModel([(rows, 3 * seconds) for rows, seconds in big().curve])
    devices = (Device("fast", big(), free_s=0.002), Device("slow", slow))
    assert next_for(1, _planned(500, 1).planned, devices, 0.0) is None
    assert next_for(0, _planned(500, 1).planned, devices, 0.002) == Turn(0, 1)


def test_next_for_takes_what_the_fast_device_would_come_to_too_late_when_much_waits() -> None:
    slow = CostModel([(rows, 3 * seconds) for rows, seconds in big().curve])
    devices = (Device("fast", big(), free_s=0.002), Device("slow", slow))
    backlog = _planned(500, 5)
    assert next_for(1, backlog.planned, devices, 0.0) == Turn(2, 1)
    batch = backlog.planned[2]
    assert backlog.take(0.0, 2).slices[0].work is batch.pieces[0].entry.work
    assert len(backlog) == 4


def test_start_of_is_that_of_the_fast_lane_when_a_slow_one_is_free_and_would_be_done_later() -> None:
    lanes = (Lane(0.010), Lane(0.0, slowdown=10.0))
    assert start_of(0.005, lanes) == pytest.approx(0.010)
    assert start_of(0.001, lanes) == pytest.approx(0.009)  # the slow one is done with it at 0.010
    assert start_of(0.005, lanes[:1]) == 0.010
