"""What a front end knows of its own time: how fast its line moves, what a reply takes, how often it was wrong."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest

from rankine.policy.front_end import Ahead, FrontEnd, Outlook
from rankine.policy.standing import Standing
from rankine.serving import entry as entry_module
from rankine.serving.entry import EntryLine


def _outlook(front_end: FrontEnd, *, left_s: float = 10.0, waiting: int = 0, lag_s: float = 0.0) -> Outlook:
    """Right after somebody was let in."""
    front_end.let_in(5.0)
    return front_end.outlook(5.0, left_s, waiting, lag_s)


def test_entry_takes_as_long_as_the_line_moves_when_others_wait() -> None:
    front_end = FrontEnd(Standing())
    for _ in range(500):
        front_end.moved(0.002)
    assert _outlook(front_end).entry_s == 0.0
    assert _outlook(front_end, waiting=10).entry_s == pytest.approx(0.020, rel=0.01)
    assert _outlook(front_end, waiting=10, lag_s=0.03).entry_s == 0.03


def test_entry_stays_predicted_when_the_process_was_frozen_once() -> None:
    front_end = FrontEnd(Standing())
    before_s = _outlook(front_end, waiting=1).entry_s
    front_end.moved(60.0)
    assert _outlook(front_end, waiting=1).entry_s < before_s + 0.001


def test_reply_is_predicted_above_its_mean_when_times_spread() -> None:
    steady, spread = FrontEnd(Standing()), FrontEnd(Standing())
    for turn in range(400):
        steady.replied(0.002)
        spread.replied(0.001 if turn % 2 else 0.003)
    assert _outlook(steady).reply_s == pytest.approx(0.002, rel=0.02)
    assert _outlook(spread).reply_s > 0.003


def test_somebody_is_still_let_in_when_noise_has_driven_everything_up() -> None:
    front_end = FrontEnd(Standing())
    for turn in range(1000):
        front_end.moved(1.0)
        front_end.replied(1.0 if turn % 2 else 0.0)
        front_end.answered(late=True, now_s=5.0)
    assert _outlook(front_end, left_s=0.05).seconds < 0.05
    assert front_end.outlook(5.1, 0.05, 0, 0.2).seconds == 0.0  # nobody was for a while: it has to try
    assert front_end.outlook(5.1, 0.05, 3, 0.2).entry_s >= 0.05  # but not where a line stands


def test_margin_grows_fast_and_shrinks_slowly_when_requests_are_late() -> None:
    front_end = FrontEnd(Standing())
    for _ in range(5):
        front_end.answered(late=True, now_s=5.0)
    grown = front_end.margin
    front_end.answered(late=False, now_s=5.0)
    assert 0.05 < grown < 0.5
    assert grown - 0.001 < front_end.margin < grown
    for _ in range(1000):
        front_end.answered(late=True, now_s=5.0)
    assert front_end.margin == 0.5


def test_margin_is_forgotten_within_seconds_when_a_burst_is_over() -> None:
    front_end = FrontEnd(Standing())
    for _ in range(100):
        front_end.answered(late=True, now_s=5.0)
    front_end.answered(late=False, now_s=7.0)
    assert 0.15 < front_end.margin < 0.2
    front_end.answered(late=False, now_s=15.0)
    assert front_end.margin < 0.005


@pytest.mark.parametrize(("late_one_in", "margin"), [(150, 0.5), (333, 0.2), (700, 0.0)])
def test_margin_stays_where_three_in_a_thousand_are_late_and_moves_when_they_are_not(
    late_one_in: int, margin: float
) -> None:
    front_end = FrontEnd(Standing())
    while front_end.margin < 0.19:
        front_end.answered(late=True, now_s=5.0)
    for number in range(20_000):
        front_end.answered(late=number % late_one_in == 0, now_s=5.0)
    assert front_end.margin == pytest.approx(margin, abs=0.025)


@pytest.mark.parametrize(("turn_s", "expected"), [(10.0, [0]), (0.001, [2, 1, 0])])
def test_line_begins_as_many_a_turn_as_there_is_time_for_when_many_come_at_once(
    monkeypatch: pytest.MonkeyPatch, turn_s: float, expected: list[int]
) -> None:
    monkeypatch.setattr(entry_module, "_TURN_S", turn_s)

    async def scenario() -> tuple[list[int], list[int]]:
        line, begun, lengths = EntryLine(FrontEnd(Standing())), list[int](), list[int]()

        def begin(number: int) -> None:
            begun.append(number)
            time.sleep(0.002)

        for number in range(4):
            line.put(partial(begin, number), rows=10)
        at_once = list(begun)
        while len(line):
            assert line.rows == 10 * len(line)
            await asyncio.sleep(0)
            lengths.append(len(line))
        assert line.rows == 0
        await asyncio.sleep(0)
        line.put(lambda: begun.append(4))  # an empty line: nobody to wait for
        assert begun == [0, 1, 2, 3, 4]
        return at_once, lengths

    at_once, lengths = asyncio.run(scenario())
    assert at_once == [0]
    assert lengths == expected


def test_queue_does_not_stand_when_deadlines_are_shorter_than_reading_takes() -> None:
    front_end = FrontEnd(Standing())
    assert not any(front_end.unseen_stands(0.00015, 0.001, 10.0 + 0.01 * turn) for turn in range(100))
    assert not any(front_end.unseen_stands(0.00015, -1.0, 12.0 + 0.01 * turn) for turn in range(100))


def test_queue_stands_when_nobody_is_read_in_time_for_a_while() -> None:
    front_end = FrontEnd(Standing())
    assert not front_end.unseen_stands(0.040, 0.050, 10.0)  # the server stood still: this is the first that it reads
    assert not front_end.unseen_stands(0.040, 0.050, 10.09)
    assert front_end.unseen_stands(0.040, 0.050, 10.11)
    assert not front_end.unseen_stands(0.004, 0.050, 10.12)  # one that has not waited
    assert not front_end.unseen_stands(0.040, 0.050, 10.13)
    assert not front_end.unseen_stands(0.040, 10.0, 10.25)  # to whom it is not long
    assert not front_end.unseen_stands(0.040, 0.050, 10.26)


@pytest.mark.parametrize("others_share", [0.1, 1.0])
def test_queue_stands_when_it_moves_between_the_engine_and_the_line(others_share: float) -> None:
    standing = Standing()
    front_end = FrontEnd(standing)
    for _ in range(200):
        front_end.moved(0.001)
    for turn in range(52):  # half of the time it is all in the one place, then all in the other
        now_s = 7.0 + 0.01 * turn
        front_end.let_in(now_s)
        waiting, queue_s = (30, 0.0) if turn % 20 < 10 else (0, 0.03)
        ahead = Ahead(queue_s, 0.001 * others_share * waiting)
        assert not front_end.terms(now_s, now_s + 0.05, now_s, waiting=waiting, ahead=ahead).refuses
    assert standing.stands(7.52)
    terms = front_end.terms(7.52, 7.57, 7.52, waiting=30, ahead=Ahead(0.0))
    assert terms.refuses
    assert terms.is_kept_out
    assert terms.line_s == pytest.approx(0.03, rel=0.1)
    behind = front_end.terms(7.52, 7.57, 7.52, waiting=2, ahead=Ahead(0.03))
    assert not behind.refuses  # the plan decides what waits there


@pytest.mark.parametrize(("kept_s", "refuses"), [(0.0, False), (0.01, True)])
def test_line_is_left_to_higher_priorities_first_when_the_queue_stands(*, kept_s: float, refuses: bool) -> None:
    front_end = FrontEnd(Standing())
    for _ in range(200):
        front_end.moved(0.001)
    for turn in range(60):
        now_s = 7.0 + 0.01 * turn
        front_end.let_in(now_s)
        terms = front_end.terms(now_s, now_s + 0.05, now_s, waiting=15, ahead=Ahead(0.0, 0.0, kept_s))
    assert terms.refuses == refuses


def test_a_request_that_is_late_is_not_kept_out_when_the_queue_stands() -> None:
    front_end = FrontEnd(Standing())
    for turn in range(60):
        now_s = 7.0 + 0.01 * turn
        front_end.terms(now_s, now_s + 0.05, now_s, waiting=60, ahead=Ahead(0.03))
    late = front_end.terms(now_s - 0.0015, now_s - 0.0005, now_s, waiting=1, ahead=Ahead(0.03))
    assert not late.is_kept_out


def test_line_stands_when_it_is_long_and_the_engine_would_be_done_with_it_at_once() -> None:
    standing = Standing()
    front_end = FrontEnd(standing)
    for turn in range(60):
        now_s = 7.0 + 0.01 * turn
        front_end.terms(now_s, now_s + 0.05, now_s, waiting=30, ahead=Ahead(0.0, 0.0001))
    assert standing.stands(now_s)
