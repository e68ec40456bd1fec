"""The ladder: never below the floor, down at once, up after a dwell time; sessions; and what was given up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankine.errors import UsageError
from rankine.policy.debt import QualityDebt
from rankine.policy.demand import engine_share
from rankine.policy.ladder import Ladder, LadderLimits, Load, Rung, within_floor
from rankine.policy.reason import Reason
from rankine.policy.sessions import SessionRungs

RUNGS = (
    Rung("fine", 0.0005, 0.0004, 1.0),
    Rung("lean", 0.001, 0.0008, 0.6),
    Rung("thin", 0.002, 0.0015, 0.4),
    Rung("bare", 0.005, 0.004, 0.2),
)
CALM = Load(demand=0.3, wait_s=0.001, slack_s=lambda slowdown: 1.0)


def _load(demand: float, wait_s: float = 0.0, slack_s: float = 1.0) -> Load:
    return Load(demand, wait_s, lambda slowdown: slack_s)


loads = st.builds(_load, st.floats(0.0, 5.0), st.floats(0.0, 0.2), st.floats(-0.1, 0.1))


def test_within_floor_keeps_what_is_certified_and_cheaper_when_a_floor_is_given() -> None:
    rungs = (*RUNGS[:2], Rung("dear", 0.0015, 0.001, 0.7), *RUNGS[2:])
    assert [rung.variant for rung in within_floor(rungs, 0.002)] == ["fine", "lean", "thin"]


@pytest.mark.parametrize(
    ("rungs", "floor"),
    [(RUNGS, 0.0001), ((), 1.0), (RUNGS[::-1], 1.0), ((Rung("free", 0.001, 0.0, 0.0),), 1.0)],
)
def test_ladder_refuses_when_no_rung_is_allowed_or_rungs_are_wrong(rungs: tuple[Rung, ...], floor: float) -> None:
    with pytest.raises(UsageError):
        Ladder(rungs, floor)


@given(st.lists(st.tuples(st.floats(0.0, 0.5), loads), max_size=80), st.sampled_from([0.0005, 0.001, 0.002, 0.005]))
def test_ladder_stays_within_the_floor_and_dwells_when_loads_are_any(
    steps: list[tuple[float, Load]], floor: float
) -> None:
    ladder = Ladder(RUNGS, floor, LadderLimits(dwell_s=0.5))
    now_s, moved_s, before = 0.0, -math.inf, 0
    for gap_s, load in steps:
        now_s += gap_s
        choice = ladder.choose(now_s, load)
        assert choice.rung.margin <= floor
        if choice.at < before:  # upwards: one rung, after the dwell time, and only where it carries the demand
            assert choice.reason is Reason.STEP_UP
            assert choice.at == before - 1
            assert now_s - moved_s >= 0.5
            assert load.demand * ladder.factor(choice.at) <= 0.9
        moved_s = now_s if choice.at != before else moved_s
        before = choice.at


def test_ladder_steps_down_at_once_when_somebody_would_be_late() -> None:
    ladder = Ladder(RUNGS, 0.002)
    choice = ladder.choose(0.0, Load(0.5, 0.0, lambda slowdown: 0.01 if slowdown < 2.0 else -0.01))
    assert (choice.rung.variant, choice.reason) == ("lean", Reason.FORCED_DOWN)
    assert ladder.choose(0.01, _load(0.5, slack_s=-0.01)).rung.variant == "thin"


def test_ladder_settles_on_the_best_rung_that_carries_the_demand_when_load_is_steady() -> None:
    for demand, expected in ((0.5, {"fine"}), (1.4, {"lean"}), (2.0, {"thin"})):
        ladder = Ladder(RUNGS, 0.002)
        used = set()
        for at in range(1000):
            factor = ladder.factor(ladder.at)
            wait_s = 0.002 if demand * factor < 0.9 else 0.03
            variant = ladder.choose(at / 100, _load(demand, wait_s)).rung.variant
            if at >= 500:
                used.add(variant)
        assert used == expected


def test_ladder_is_back_at_the_top_within_5_s_when_the_load_falls() -> None:
    ladder = Ladder(RUNGS, 0.005)
    for at in range(2000):
        ladder.choose(at / 100, _load(4.0, 0.2, -1.0))
    assert ladder.at == 3
    back = next(at for at in range(1000) if ladder.choose(20 + at / 100, CALM).at == 0)
    assert back / 100 < 5.0


def test_ladder_steps_down_one_rung_at_a_time_when_the_line_before_the_queue_is_long() -> None:
    ladder, load = Ladder(RUNGS, 0.005), Load(0.5, 0.0, lambda slowdown: 1.0, is_long=True)
    assert [(found := ladder.choose(0.05 * at, load)).at for at in range(7)] == [1, 1, 2, 2, 3, 3, 3]
    assert ladder.choose(0.0, load).at == 3
    assert found.reason is not Reason.STEP_UP


@pytest.mark.parametrize(
    ("loop", "engine", "share"), [(0.9, 0.3, 0.4), (0.3, 0.3, 1.0), (0.1, 0.2, 1.0), (1.0, 0.0, 0.05)]
)
def test_engine_has_what_an_event_loop_leaves_it_when_both_share_a_core(
    loop: float, engine: float, share: float
) -> None:
    assert engine_share(loop, engine) == pytest.approx(share)


def test_ladder_has_nowhere_to_go_when_it_has_one_rung() -> None:
    ladder = Ladder(RUNGS[:1], 0.001)
    assert [ladder.choose(at, _load(3.0, 1.0, -1.0)).at for at in range(5)] == [0] * 5


def test_ladder_keeps_a_session_on_its_rung_when_asked() -> None:
    ladder = Ladder(RUNGS, 0.001)
    kept = ladder.keep(1)
    assert (kept.rung.variant, kept.reason) == ("lean", Reason.SESSION)
    assert ladder.keep(3).rung.variant == "lean"


def test_session_rungs_forget_when_time_passes_or_there_are_too_many() -> None:
    sessions = SessionRungs(keep_s=10.0, most=2)
    sessions.saw("a", 1, 0.0)
    assert sessions.rung("a", 9.0) == 1
    assert sessions.rung("a", 11.0) is None
    for session in "bca":
        sessions.saw(session, 2, 12.0)
    assert [sessions.rung(session, 12.0) for session in "abc"] == [2, None, 2]


def test_debt_is_the_mean_over_requests_when_rungs_were_mixed() -> None:
    debt = QualityDebt(memory_s=10.0)
    assert debt.total == debt.recent(0.0) == 0.0
    debt.add(0.0004, 30, 0.0)
    debt.add(0.002, 10, 0.0)
    assert debt.total == pytest.approx((30 * 0.0004 + 10 * 0.002) / 40)
    debt.add(-0.001, 40, 0.0)
    assert debt.total == pytest.approx((30 * 0.0004 + 10 * 0.002) / 80)


def test_debt_of_late_forgets_when_time_passes() -> None:
    debt = QualityDebt(memory_s=10.0)
    debt.add(0.002, 1000, 0.0)
    for at in range(100):
        debt.add(0.0, 10, float(at))
    assert debt.recent(100.0) < 1e-4 < debt.total
