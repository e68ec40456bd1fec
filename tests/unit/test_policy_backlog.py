"""Batches, their order, splitting and joining; and the plan that admission relies on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankine.policy.backlog import Backlog, Decision
from rankine.policy.batching import Entry, Limits, Piece, Shape, form_batch
from rankine.policy.cost import CostModel
from rankine.policy.lanes import Lane, finishes
from rankine.policy.reason import Reason
from unit.policy_requests import NEVER, Ask, asks, big, costs

NOW = (Lane(0.0),)


def _filled(requests: Sequence[Ask], cost: CostModel | None = None, limits: Limits | None = None) -> Backlog[Ask]:
    backlog: Backlog[Ask] = Backlog(cost or big(), limits or Limits())
    for request in requests:
        backlog.push(request, NOW)
    return backlog


def _emptied(backlog: Backlog[Ask], now_s: float = 0.0) -> list[Decision[Ask]]:
    decisions: list[Decision[Ask]] = []
    while len(backlog):
        decisions.append(backlog.take(now_s))
    return decisions


def test_shape_is_the_smallest_that_reaches_the_efficiency_when_costs_are_affine() -> None:
    cost = CostModel([(1, 0.00101), (10_001, 0.10101)])  # 1 ms a call and 10 us a row
    shape = Shape.of(cost, Limits(max_batch_rows=2000, max_batch_s=1.0))
    peak = 2000 / 0.021
    assert shape.most_rows == 2000
    assert shape.target_rows / cost.mean_s(shape.target_rows) >= 0.95 * peak
    assert (shape.target_rows - 1) / cost.mean_s(shape.target_rows - 1) < 0.95 * peak


def test_shape_is_bounded_by_milliseconds_when_the_model_is_heavy() -> None:
    shape = Shape.of(big(), Limits(max_batch_s=0.005))
    assert big().mean_s(shape.most_rows) <= 0.005 < big().mean_s(shape.most_rows + 1)


def test_shape_keeps_half_of_the_peak_rate_when_a_call_alone_exceeds_the_bound() -> None:
    cost = CostModel([(1, 0.0501), (1001, 0.0601)])
    shape = Shape.of(cost, Limits(max_batch_rows=1000, max_batch_s=0.001))
    assert shape.most_rows / cost.mean_s(shape.most_rows) >= 0.5 * 1000 / cost.mean_s(1000)


@given(costs(), st.integers(1, 4096), st.floats(0.0005, 0.05))
def test_shape_is_in_bounds_when_costs_are_any(cost: CostModel, most: int, max_batch_s: float) -> None:
    shape = Shape.of(cost, Limits(max_batch_rows=most, max_batch_s=max_batch_s))
    assert 1 <= shape.target_rows <= shape.most_rows <= most


def test_take_joins_a_flood_of_tiny_requests_when_they_wait() -> None:
    backlog = _filled([Ask(8) for _ in range(20)])
    decision = backlog.take(0.0)
    assert (decision.requests, decision.reason) == (20, Reason.ALL)
    assert decision.text == "joined all 20 that waited"


def test_take_ends_a_batch_when_it_is_efficient() -> None:
    backlog = _filled([Ask(100) for _ in range(30)])
    decision = backlog.take(0.0)
    shape = backlog.shape
    assert decision.reason is Reason.EFFICIENT
    assert shape.target_rows <= decision.rows < 1.25 * shape.target_rows + 100


def test_take_splits_a_request_in_equal_parts_when_it_is_very_large() -> None:
    decisions = _emptied(_filled([Ask(2500)], limits=Limits(max_batch_rows=1000)))
    parts = [(part.first_row, part.rows) for decision in decisions for part in decision.slices]
    assert parts == [(0, 834), (834, 833), (1667, 833)]
    assert [decision.reason for decision in decisions] == [Reason.SPLIT, Reason.SPLIT, Reason.ALONE]


def test_take_lets_an_urgent_request_between_the_parts_when_it_comes_later() -> None:
    backlog = _filled([Ask(2500, deadline_s=1.0)], limits=Limits(max_batch_rows=1000))
    backlog.take(0.0)
    urgent = Ask(10, deadline_s=0.03, arrived_s=0.01)
    backlog.push(urgent, (Lane(0.02),))
    assert [part.work for part in backlog.take(0.02).slices] == [urgent]
    assert [decision.slices[0].first_row for decision in _emptied(backlog, 0.03)] == [834, 1667]


def test_take_keeps_the_first_on_time_when_more_would_make_it_late() -> None:
    first = Ask(100, deadline_s=big().mean_s(150))
    backlog = _filled([first, Ask(100, deadline_s=1.0)])
    decision = backlog.take(0.0)
    assert [part.work for part in decision.slices] == [first]
    assert decision.reason is Reason.URGENT


def test_take_names_the_expired_and_the_hopeless_when_time_has_passed() -> None:
    late, close, fine = Ask(10, deadline_s=0.9), Ask(500, deadline_s=1.001), Ask(10, deadline_s=2.0)
    decision = _filled([fine, close, late]).take(1.0)
    assert decision.expired == (late,)
    assert decision.hopeless == (close,)
    assert [part.work for part in decision.slices] == [fine]


def test_take_runs_a_kept_request_when_it_is_predicted_to_be_late() -> None:
    backlog: Backlog[Ask] = Backlog(big(), Limits())
    probe = Ask(500, deadline_s=0.001)
    backlog.push(probe, NOW, keep=True)
    assert [part.work for part in backlog.take(0.0).slices] == [probe]


def test_take_runs_requests_without_deadline_when_their_turn_is_long_past() -> None:
    backlog = _filled([Ask(100), Ask(100)], limits=Limits(max_wait_s=1.0))
    decision = backlog.take(50.0)
    assert decision.requests == 2


def test_take_keeps_sessions_of_other_rungs_apart_when_they_queue_together() -> None:
    backlog: Backlog[Ask] = Backlog(big(), Limits())
    for rung in (None, 1, None, 2):
        backlog.push(Ask(10), NOW, rung=rung)
    assert [(decision.requests, decision.rung) for decision in _emptied(backlog)] == [(3, 1), (1, 2)]


def test_remove_takes_all_parts_out_when_a_split_request_is_cancelled() -> None:
    gone, stays = Ask(5000, deadline_s=5.0), Ask(10, deadline_s=6.0)
    backlog = _filled([gone, stays])
    backlog.take(0.0)
    assert backlog.remove(gone, 0.0)
    assert not backlog.remove(gone, 0.0)
    assert (len(backlog), backlog.rows) == (1, 10)
    assert [part.work for part in backlog.take(0.0).slices] == [stays]


@given(st.lists(asks(), max_size=40), costs(), st.integers(64, 2000), st.data())
@settings(deadline=None)
def test_take_neither_loses_nor_repeats_a_row_when_requests_come_and_go(
    requests: list[Ask], cost: CostModel, most: int, data: st.DataObject
) -> None:
    backlog: Backlog[Ask] = Backlog(cost, Limits(max_batch_rows=most))
    now_s = 0.0
    rows: dict[int, list[tuple[int, int]]] = {}
    gone: set[int] = set()
    for request in requests:
        backlog.push(request, (Lane(now_s),))
        if data.draw(st.booleans()):
            now_s += data.draw(st.floats(0.0, 0.05))
            _collect(backlog.take(now_s), rows, gone)
        if data.draw(st.integers(0, 9)) == 0 and backlog.remove(request, now_s):
            gone.add(id(request))
    for decision in _emptied(backlog, now_s):
        _collect(decision, rows, gone)
    assert (backlog.rows, len(backlog), backlog.work_s) == (0, 0, 0.0)
    for request in requests:
        parts = rows.get(id(request), [])
        assert all(before[1] == after[0] for before, after in pairwise(parts))
        if id(request) not in gone:
            assert (parts[0][0], parts[-1][1]) == (0, request.rows)


def _collect(decision: Decision[Ask], rows: dict[int, list[tuple[int, int]]], gone: set[int]) -> None:
    assert decision.rows == sum(part.rows for part in decision.slices)
    gone |= {id(request) for request in (*decision.expired, *decision.hopeless)}
    for part in decision.slices:
        rows.setdefault(id(part.work), []).append((part.first_row, part.first_row + part.rows))


@given(st.lists(asks(), min_size=1, max_size=40), costs(), st.integers(64, 2000))
@settings(deadline=None)
def test_take_follows_the_order_of_deadlines_when_all_wait(requests: list[Ask], cost: CostModel, most: int) -> None:
    backlog = _filled(requests, cost, Limits(max_batch_rows=most))
    taken = [part.work for decision in _emptied(backlog) for part in decision.slices]
    assert [request.deadline_s for request in taken] == sorted(request.deadline_s for request in taken)


@given(st.lists(asks(), min_size=1, max_size=30), costs())
def test_form_batch_is_a_prefix_within_bounds_when_the_queue_is_any(requests: list[Ask], cost: CostModel) -> None:
    shape = Shape.of(cost, Limits())
    ordered = sorted(requests, key=lambda request: request.deadline_s)
    queue = [
        Piece(Entry(request, min(request.deadline_s, 10.0), at, request.rows), 0, request.rows)
        for at, request in enumerate(ordered)
    ]
    batch = form_batch(queue, 0.0, shape, cost)
    assert batch is not None
    assert [piece.entry for piece in batch.pieces] == [piece.entry for piece in queue[: len(batch.pieces)]]
    assert batch.rows <= shape.most_rows
    alone_s = sum(cost.mean_s(piece.rows) for piece in batch.pieces)
    assert batch.duration_s <= alone_s * (1 + 1e-9)


def test_form_batch_is_none_when_nothing_waits() -> None:
    queue: list[Piece[Ask]] = []
    assert form_batch(queue, 0.0, Shape(10, 20), big()) is None


@given(st.lists(asks(1.0), max_size=60), costs())
def test_slack_is_that_of_the_planned_batches_when_requests_were_pushed(requests: list[Ask], cost: CostModel) -> None:
    backlog = _filled(requests, cost)
    ends_s = finishes([batch.duration_s for batch in backlog.planned], NOW)
    slacks_s = [batch.due_s - end_s for batch, end_s in zip(backlog.planned, ends_s, strict=True)]
    assert backlog.slack_s(NOW) == min(slacks_s, default=NEVER)
    assert sum(batch.rows for batch in backlog.planned) == backlog.rows == sum(request.rows for request in requests)


def test_offer_refuses_for_the_sake_of_others_when_they_would_be_late() -> None:
    waiting = Ask(400, deadline_s=0.011)
    backlog = _filled([waiting])
    fit = backlog.offer(Ask(300, deadline_s=0.0105), NOW)
    assert (fit.fits, fit.reason) == (False, Reason.OTHERS_LATE)
    assert fit.lacks_s > 0
    assert len(backlog) == 1


def test_offer_refuses_when_the_request_itself_would_be_late() -> None:
    backlog = _filled([Ask(400, deadline_s=0.02), Ask(400, deadline_s=0.02)])
    fit = backlog.offer(Ask(300, deadline_s=0.021), NOW)
    assert (fit.fits, fit.reason) == (False, Reason.TOO_LATE)


@given(st.lists(asks(1.0), max_size=40), costs(), asks(1.0))
@settings(deadline=None)
def test_offer_refuses_the_same_when_the_plan_is_looked_at(requests: list[Ask], cost: CostModel, one: Ask) -> None:
    """What is refused since so much is due before it would be refused by the plan with it as well."""
    backlog = _filled(requests, cost)
    fit = backlog.offer(one, NOW, commit=False)
    if fit.fits or fit.reason is not Reason.TOO_LATE:
        return
    planned = backlog.push(one, NOW)
    due_s = min(one.deadline_s, Limits().max_wait_s)  # without a deadline it still has its turn
    assert planned.finish_s > due_s * (1 - 1e-9)
    assert planned.finish_s >= fit.finish_s * (1 - 1e-9)


def test_offer_changes_nothing_when_it_only_asks() -> None:
    backlog = _filled([Ask(100)])
    assert backlog.offer(Ask(100), NOW, commit=False).fits
    assert (len(backlog), backlog.rows) == (1, 100)


def test_plan_is_made_anew_when_the_cost_model_is_another() -> None:
    backlog = _filled([Ask(400) for _ in range(10)])
    before_s = backlog.work_s
    backlog.recost(CostModel([(1, 0.00006), (2048, 0.00415)]), 0.0)
    assert backlog.work_s < before_s / 5
    assert sum(batch.rows for batch in backlog.planned) == 4000


@pytest.mark.parametrize(("slowdown", "ends"), [(1.0, [1.0, 2.0, 4.0]), (3.0, [1.0, 3.0, 6.0])])
def test_finishes_go_to_the_lane_that_is_done_first_when_there_are_two(slowdown: float, ends: list[float]) -> None:
    lanes = (Lane(0.0), Lane(0.0, slowdown))
    assert finishes([1.0, 2.0, 3.0], lanes) == pytest.approx(ends)
