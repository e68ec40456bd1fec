"""Queues that stand."""

from __future__ import annotations

import pytest

from rankine.policy.standing import Standing


@pytest.mark.parametrize(("wait_s", "refuses"), [(0.031, True), (0.029, False)])
def test_queue_is_kept_short_when_it_was_never_short_for_half_a_second(*, wait_s: float, refuses: bool) -> None:
    standing = Standing()
    for turn in range(51):
        assert not standing.refuses(0.05, wait_s, 0.1, 7.0 + 0.01 * turn)
    assert standing.refuses(0.05, wait_s, 0.1, 7.51) == refuses


def test_queue_does_not_stand_when_it_was_short_once() -> None:
    standing = Standing()
    for turn in range(200):
        queue_s = 0.009 if turn % 50 == 49 else 0.05
        assert not standing.refuses(queue_s, queue_s, 0.1, 0.01 * turn)


def test_those_with_less_time_are_refused_when_one_with_more_is() -> None:
    standing = Standing()
    least_s = Standing.least_left_s(0.04)
    for now_s in (0.0, 1.0):
        found = [standing.refuses(0.5, 0.04, least_s * factor, now_s) for factor in (0.99, 1.01)]
    assert found == [True, False]


def test_queue_does_not_stand_when_others_found_it_short() -> None:
    standing = Standing()
    for turn in range(200):
        assert not standing.refuses(0.05, 0.05, 0.1, 0.01 * turn)
        if turn % 50 == 49:
            standing.is_short()
