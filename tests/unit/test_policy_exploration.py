"""Exploration: what is tried, what that may cost, and how it becomes rare where nothing new is found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankine.policy.backlog import Backlog
from rankine.policy.batching import FormedBatch, Limits
from rankine.policy.cost import CostModel
from rankine.policy.exploration import Exploration, ExplorationLimits, Trial
from rankine.policy.lanes import Lane
from rankine.policy.placement import Device, next_for
from unit.policy_requests import NEVER, Ask, asks, big, costs

LIMITS = ExplorationLimits()
SLOW = CostModel([(rows, 3 * seconds) for rows, seconds in big().curve])


def _planned(*requests: Ask, now_s: float = 0.0) -> Sequence[FormedBatch[Ask]]:
    backlog: Backlog[Ask] = Backlog(big(), Limits())
    for request in requests:
        request.arrived_s = now_s
        backlog.push(request, (Lane(now_s),))
    return backlog.planned


def _lone(now_s: float, rows: int = 100, within_s: float = 1.0) -> Sequence[FormedBatch[Ask]]:
    return _planned(Ask(rows, deadline_s=now_s + within_s), now_s=now_s)


def _devices(slow: CostModel = SLOW, free_s: float = 0.0) -> tuple[Device, Device]:
    return Device("fast", big()), Device("slow", slow, free_s)


def _started() -> Exploration:
    exploration = Exploration()
    assert exploration.trial(_lone(0.0), _devices(), 0.0) is None  # the warm-up has just measured it
    return exploration


def test_trial_is_due_when_a_device_has_run_nothing_for_a_while() -> None:
    exploration = _started()
    assert exploration.trial(_lone(0.9), _devices(), 0.9) is None
    trial = exploration.trial(_lone(1.0), _devices(), 1.0)
    assert trial is not None
    assert (trial.device, trial.batch) == (1, 0)
    assert trial.best_s == pytest.approx(big().mean_s(100))
    assert trial.worst_s == pytest.approx(SLOW.predict(100).p99_s)
    assert next_for(0, _lone(1.0), _devices(), 1.0, left=trial.batch) is None


@pytest.mark.parametrize("device", [Device("slow", SLOW, free_s=2.0), Device("slow", big())])
def test_nothing_is_tried_when_the_device_is_busy_or_not_slower_at_all(device: Device) -> None:
    exploration = _started()
    assert exploration.trial(_lone(1.5), (Device("fast", big()), device), 1.5) is None


def test_nothing_is_tried_when_the_deadline_is_short() -> None:
    exploration, worst_s = _started(), SLOW.predict(100).p99_s
    assert exploration.trial(_lone(1.5, within_s=1.9 * worst_s), _devices(), 1.5) is None
    assert exploration.trial(_lone(1.5, within_s=2.1 * worst_s), _devices(), 1.5) is not None


def test_the_one_with_time_is_tried_when_the_first_has_none() -> None:
    exploration = _started()
    batches = _planned(Ask(600, deadline_s=1.52), Ask(600, deadline_s=3.0), now_s=1.5)
    trial = exploration.trial(batches, _devices(), 1.5)
    assert trial is not None
    assert trial.batch == 1


def test_small_requests_are_not_tried_when_others_are_larger() -> None:
    exploration = _started()
    for _ in range(100):
        exploration.ran("fast", 400, 0.01, 0.01, 0.5)
    assert exploration.trial(_lone(1.5, rows=100), _devices(), 1.5) is None
    assert exploration.trial(_lone(1.5, rows=400), _devices(), 1.5) is not None


def test_nothing_is_tried_when_it_would_cost_more_than_there_is_credit() -> None:
    exploration = _started()
    hopeless = CostModel([(1, 1.0), (2048, 2.0)])
    assert exploration.trial(_lone(1.5, within_s=NEVER), _devices(hopeless), 1.5) is None


def _tried(exploration: Exploration, now_s: float, takes: float) -> bool:
    """Whether there is a trial at a time, which then takes so many times what is believed."""
    trial = exploration.trial(_lone(now_s), _devices(), now_s)
    if trial is None:
        return False
    exploration.began(trial, "slow", now_s)
    predicted_s = SLOW.mean_s(100)
    exploration.ran("slow", 100, predicted_s, takes * predicted_s, now_s + takes * predicted_s, trial)
    return True


def _times(exploration: Exploration, until_s: float, takes: float) -> list[float]:
    steps = [0.05 * at for at in range(1, int(20 * until_s))]
    return [now_s for now_s in steps if _tried(exploration, now_s, takes)]


def test_trials_become_rare_when_they_confirm_the_belief() -> None:
    times = _times(_started(), 600.0, takes=1.0)
    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert all(later > 1.5 * sooner for sooner, later in pairwise(gaps) if later < 50)
    assert max(gaps) == pytest.approx(LIMITS.most_s, abs=0.2)  # but never not at all


def test_trials_come_at_once_when_one_was_faster_than_believed() -> None:
    exploration = _started()
    assert len(_times(exploration, 300.0, takes=1.0)) < 12
    exploration.credit_s = LIMITS.most_credit_s
    found = [now_s for now_s in (300.0 + 0.05 * at for at in range(1500)) if _tried(exploration, now_s, takes=0.5)]
    assert found[0] <= 361.0
    assert found[5] - found[0] == pytest.approx(5 * LIMITS.least_s, abs=0.5)


def test_trial_is_left_to_others_when_its_device_does_not_begin_it() -> None:
    exploration = _started()
    batches = _lone(1.0)
    assert exploration.trial(batches, _devices(), 1.0) is not None
    assert exploration.trial(batches, _devices(), 1.01) is not None
    assert exploration.trial(batches, _devices(), 1.05) is None
    assert exploration.trial(_lone(2.0), _devices(), 2.0) is None
    assert exploration.trial(_lone(2.1), _devices(), 2.1) is not None


def test_trial_is_offered_anew_when_the_one_before_vanished() -> None:
    """Its client left, say: nobody has to ask meanwhile."""
    exploration = _started()
    assert exploration.trial(_lone(1.0), _devices(), 1.0) is not None
    another = _lone(1.5)
    assert exploration.trial(another, _devices(), 1.5) is not None
    assert exploration.trial(another, _devices(), 1.505) is not None
    assert exploration.trial(another, _devices(), 1.55) is None, "from its own offer on, it lapses"


def test_trial_is_charged_what_it_cost_when_the_device_ran_another_batch_meanwhile() -> None:
    """A device with two workers."""
    exploration, trial = _started(), Trial(1, 0, worst_s=0.05, best_s=0.01)
    exploration.began(trial, "slow", 1.0)
    left_s = exploration.credit_s
    exploration.ran("slow", 10, 0.004, 0.004, 1.01)
    assert exploration.credit_s == pytest.approx(left_s + LIMITS.share * 0.004), "an ordinary batch is no trial"
    exploration.ran("slow", 500, 0.05, 0.2, 1.2, trial)
    assert exploration.credit_s == pytest.approx(left_s + LIMITS.share * 0.004 + trial.cost_s - (0.2 - trial.best_s))
    assert exploration.trial(_lone(2.3), _devices(), 2.3) is None, "it was no faster: the time is doubled"


def test_trials_become_rarer_when_the_device_fails_on_one() -> None:
    exploration = _started()
    trial = exploration.trial(_lone(1.0), _devices(), 1.0)
    assert trial is not None
    exploration.began(trial, "slow", 1.0)
    exploration.failed("slow", 1.1)
    assert exploration.trial(_lone(3.0), _devices(), 3.0) is None
    assert exploration.trial(_lone(3.2), _devices(), 3.2) is not None


@given(
    st.lists(st.tuples(asks(2.0), st.floats(0.0, 2.0), st.floats(0.2, 1.0)), min_size=1, max_size=80),
    costs(),
    costs(),
)
@settings(deadline=None)
def test_trials_cost_a_hundredth_at_most_and_never_a_deadline_when_predictions_hold(
    asked: list[tuple[Ask, float, float]], fast: CostModel, slow: CostModel
) -> None:
    """Lone requests; ``slow`` takes some share of its 99th percentile, so no trial takes longer than was predicted."""
    exploration, now_s, lost_s, work_s = Exploration(), 0.0, 0.0, 0.0
    devices = (Device("fast", fast), Device("slow", slow))
    for ask, gap_s, share in asked:
        now_s += gap_s
        request = Ask(ask.rows, now_s + ask.deadline_s)
        batches = _planned(request, now_s=now_s)[:1]
        rows = batches[0].rows
        trial = exploration.trial(batches, devices, now_s)
        assert exploration.trial(batches, devices, now_s) == trial
        if trial is None:
            best = min(devices, key=lambda each: each.cost.mean_s(rows))
            seconds = best.cost.mean_s(rows)
            exploration.ran(best.name, rows, seconds, seconds, now_s + seconds)
            work_s += seconds
            continue
        device = devices[trial.device]
        seconds = share * trial.worst_s
        assert now_s + 2 * trial.worst_s <= batches[0].due_s * (1 + 1e-9)
        exploration.began(trial, device.name, now_s)
        exploration.ran(device.name, rows, device.cost.mean_s(rows), seconds, now_s + seconds, trial)
        lost_s += max(0.0, seconds - trial.best_s)
        assert exploration.credit_s >= -1e-9
        assert lost_s <= LIMITS.most_credit_s + LIMITS.share * work_s + 1e-9
