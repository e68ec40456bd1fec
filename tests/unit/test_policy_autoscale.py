"""How many hosts an autoscaler is asked for, and why."""

from __future__ import annotations

import pytest

from rankine.policy.autoscale import Offered, Refusals, ScaleReason, Share, Signals, desired_replicas, together
from rankine.policy.reason import Reason


def test_desired_replicas_follow_utilization_when_nothing_is_refused() -> None:
    found = desired_replicas(Signals(utilization=1.4), target=0.7)
    assert found.replicas == pytest.approx(2.0)
    assert found.reason is ScaleReason.UTILIZATION


def test_desired_replicas_count_what_was_refused_when_the_prediction_says_less() -> None:
    found = desired_replicas(Signals(utilization=0.5, shed=0.5), target=0.5)
    assert found.replicas == pytest.approx(4.0)  # twice what it can do, at half of what it could do
    assert found.reason is ScaleReason.REFUSALS


def test_desired_replicas_ignore_refusals_when_they_are_as_rare_as_bursts_make_them() -> None:
    assert desired_replicas(Signals(utilization=0.35, shed=0.005), target=0.7).reason is ScaleReason.UTILIZATION


def test_desired_replicas_are_those_of_a_busy_host_when_quality_bends() -> None:
    found = desired_replicas(Signals(utilization=0.6, debt=1e-4), target=0.8)
    assert found.replicas == pytest.approx(1.25)
    assert found.reason is ScaleReason.QUALITY_DEBT


def test_desired_replicas_are_finite_when_everything_is_refused() -> None:
    assert desired_replicas(Signals(shed=1.0), target=0.5).replicas == pytest.approx(200.0)


def test_together_averages_utilization_and_weighs_the_rest_by_it() -> None:
    found = together([Signals(0.9, shed=0.2), Signals(0.3, shed=0.0), Signals(0.0)])
    assert found.utilization == pytest.approx(0.4)
    assert found.shed == pytest.approx(0.2 * 0.9 / 1.2)
    assert together([]) == Signals()


def test_utilization_is_what_is_offered_when_it_is_steady() -> None:
    offered = Offered(workers=2)
    for at in range(10 * 300):
        offered.add(0.05, at / 10)  # 0.5 seconds of work a second
    assert offered.utilization(300.0) == pytest.approx(0.25, rel=0.01)


def test_utilization_is_right_soon_when_the_server_has_just_started() -> None:
    offered = Offered(workers=1)
    for at in range(100):
        offered.add(0.06, 1000 + at / 10)
    assert offered.utilization(1010.0) == pytest.approx(0.6, rel=0.1)


def test_utilization_fades_when_the_load_ends() -> None:
    offered = Offered(workers=1)
    assert offered.utilization(0.0) == 0.0
    for at in range(600):
        offered.add(0.1, at / 10)
    assert offered.utilization(360.0) < 0.01


def test_share_forgets_when_time_goes_by() -> None:
    share = Share()
    assert share.mean == 0.0
    share.add(0.8, 1.0)
    assert share.mean == pytest.approx(0.8)  # there is nothing else to average with
    for _ in range(600):
        share.add(0.2, 1.0)
    assert share.mean == pytest.approx(0.2, abs=0.001)


def test_refusals_count_capacity_only_when_tenants_are_over_their_quota_too() -> None:
    refusals = Refusals()
    assert refusals.share(0.0) == 0.0
    for reason in (Reason.ADMITTED, Reason.PROBE, Reason.FRONT_END, Reason.OTHERS_LATE, Reason.QUOTA, Reason.TOO_LATE):
        refusals.add(reason, 1.0)
    assert refusals.share(1.0) == pytest.approx(0.5)
