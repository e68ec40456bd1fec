"""What a refusal tells of others: hardly ever more than the policies themselves would say at that moment."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from rankine.policy.admission import Admission, Gates, admit
from rankine.policy.backlog import Backlog
from rankine.policy.batching import Limits
from rankine.policy.cost import CostModel
from rankine.policy.front_end import FrontEnd
from rankine.policy.lanes import Lane
from rankine.policy.reason import Reason
from rankine.policy.refused import FOR_S, Like, RefusedLately
from rankine.policy.standing import Standing

NOW_S = 100.0


class Asks(Struct, frozen=True):
    rows: int
    deadline_s: float
    requests: int = 1
    arrived_s: float = NOW_S


def is_like(like: Like, one: Asks, waited_s: float = 0.0) -> bool:
    return like.tells_of(one.deadline_s, one.rows, waited_s, NOW_S)


def asked(gates: Gates[Asks], one: Asks, now_s: float = NOW_S, *, commit: bool = False) -> Admission:
    return admit(gates, one, now_s, (Lane(now_s),), in_flight=1, commit=commit)


@pytest.mark.parametrize("budgets_s", [(0.05,), (0.05, 0.05, 0.02)])
def test_plan_refuses_nearly_whoever_is_like_one_that_it_has_refused(budgets_s: tuple[float, ...]) -> None:
    random = np.random.default_rng(0)
    cost = CostModel([(1, 0.0003), (256, 0.0006), (1024, 0.0019), (2048, 0.0037)])
    limits, seen, room = Limits(), 0, 0
    for _ in range(40):
        gates: Gates[Asks] = Gates(Backlog(cost, limits), cost, limits)
        lately = RefusedLately()
        for _ in range(200):
            left_s = random.choice(budgets_s) - random.uniform(0.0, 0.006)
            one = Asks(int(min(2000, max(1, random.lognormal(5.2, 0.8)))), NOW_S + left_s)
            alike = any(is_like(like, one) for like in lately.likes())
            found = asked(gates, one, commit=not alike)
            if alike:
                seen, room = seen + 1, room + found.admitted
            elif not found.admitted:
                lately.planned(found.reason, one.deadline_s, one.rows, NOW_S)
    assert seen > 1000
    assert room < 0.005 * seen


@settings(max_examples=300)
@given(
    st.floats(0.0001, 0.002), st.integers(0, 60), st.floats(0.0, 0.04), st.floats(0.005, 0.1),
    st.lists(st.tuples(st.floats(0.0, 0.05), st.floats(0.001, 0.1)), min_size=1, max_size=20), st.integers(0, 40),
)  # fmt: skip
def test_front_end_refuses_whoever_is_like_one_that_it_has_refused(
    gap_s: float, line: int, waited_s: float, budget_s: float, others: list[tuple[float, float]], late: int
) -> None:
    front_end, lately = FrontEnd(Standing()), RefusedLately()
    for _ in range(200):
        front_end.moved(gap_s)
        front_end.replied(0.0005)
    for _ in range(late):
        front_end.answered(late=True, now_s=NOW_S)
    front_end.let_in(NOW_S)
    front_end.unseen_stands(0.2, 0.1, NOW_S - 0.2)  # somebody had waited then
    terms = front_end.terms(NOW_S - waited_s, NOW_S - waited_s + budget_s, NOW_S, waiting=line, ahead=None)
    if terms.refuses:
        lately.behind(terms.alike_by_s, terms.alike_left_s, terms.alike_waited_s, NOW_S)
    for other_waited_s, other_budget_s in others:
        other = Asks(1, NOW_S - other_waited_s + other_budget_s)
        if any(is_like(like, other, other_waited_s) for like in lately.likes()):
            arrived_s = NOW_S - other_waited_s
            assert front_end.terms(arrived_s, other.deadline_s, NOW_S, waiting=line, ahead=None).refuses


def test_refusals_tell_nothing_when_their_moment_is_over() -> None:
    lately = RefusedLately()
    lately.planned(Reason.OTHERS_LATE, NOW_S + 0.05, 10, NOW_S)
    lately.planned(Reason.QUEUE_FULL, NOW_S + 0.05, 500, NOW_S + FOR_S / 2)
    assert [like.reason for like in lately.likes()] == [Reason.QUEUE_FULL, Reason.OTHERS_LATE]
    assert lately.until_s == NOW_S + FOR_S
    lately.planned(Reason.QUEUE_FULL, NOW_S + 0.05, 400, NOW_S + FOR_S)
    assert [like.rows for like in lately.likes()] == [400]


@pytest.mark.parametrize(("waits_s", "for_s"), [(None, FOR_S), (0.03, 0.01), (0.004, 0.002)])
def test_refusals_tell_of_others_until_the_queue_may_be_half_as_long_when_it_stands(
    waits_s: float | None, for_s: float
) -> None:
    lately = RefusedLately()
    lately.behind(math.inf, 0.05, 0.0, NOW_S, waits_s)
    assert lately.until_s == pytest.approx(NOW_S + for_s)


def test_refusals_of_one_who_would_hardly_have_waited_do_not_end_what_others_tell_when_the_queue_stands() -> None:
    lately = RefusedLately()
    lately.behind(math.inf, 0.05, 0.0, NOW_S, 0.03)
    lately.planned(Reason.KEPT_SHORT, NOW_S + 0.002, 10, NOW_S, 0.0005)
    assert lately.until_s == pytest.approx(NOW_S + 0.01)
    assert len(lately.likes()) == 1


def test_refusals_are_kept_once_when_a_newer_one_tells_more() -> None:
    lately = RefusedLately()
    for rows in (900, 300, 500):
        lately.planned(Reason.QUEUE_FULL, NOW_S + 0.05, rows, NOW_S)
    assert [like.rows for like in lately.likes()] == [500, 300]
    for rows in range(100, 0, -1):
        lately.planned(Reason.OTHERS_LATE, NOW_S + rows, rows, NOW_S)
    assert len(lately.likes()) == 8


def test_refusals_for_other_reasons_tell_nothing_of_others() -> None:
    lately = RefusedLately()
    for reason in (Reason.QUOTA, Reason.FAIR_SHARE, Reason.PRIORITY, Reason.CONCURRENCY, Reason.DRAINING):
        lately.planned(reason, NOW_S + 0.05, 10, NOW_S)
    lately.planned(Reason.TOO_LATE, NOW_S + 0.05, 10, NOW_S)
    assert lately.likes() == []


@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(0.02, 0.2)), min_size=20, max_size=60),
    st.lists(st.tuples(st.integers(1, 500), st.floats(0.005, 0.3)), min_size=1, max_size=20),
    st.floats(0.005, 0.3),
)
def test_whoever_is_like_one_is_refused_when_the_queue_stands(
    queue: list[tuple[int, float]], others: list[tuple[int, float]], left_s: float
) -> None:
    cost = CostModel([(1, 0.0006), (64, 0.0019), (512, 0.0108), (2048, 0.0415)])
    gates: Gates[Asks] = Gates(Backlog(cost, Limits()), cost, Limits())
    for rows, due_s in queue:
        asked(gates, Asks(rows, NOW_S + due_s), NOW_S - 1.0, commit=True)
    for turn in range(60, 0, -1):
        gates.standing.look(1.0, 1.0, NOW_S - 0.01 * turn)
    lately, first = RefusedLately(), Asks(1, NOW_S + left_s)
    found = asked(gates, first)
    lately.planned(found.reason, first.deadline_s, 1, NOW_S, found.waits_s)
    for rows, other_s in others:
        one = Asks(rows, NOW_S + other_s)
        if found.reason is Reason.KEPT_SHORT and any(is_like(like, one) for like in lately.likes()):
            assert not asked(gates, one).admitted
