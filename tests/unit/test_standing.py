"""Queues that stand."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.policy.standing import Standing


def comes(standing: Standing, queue_s: float, wait_s: float, left_s: float, now_s: float) -> bool:
    """Whether one who comes is refused."""
    standing.look(queue_s, left_s, now_s)
    return standing.refuses(wait_s, left_s, now_s)


@pytest.mark.parametrize(("wait_s", "refuses"), [(0.041, True), (0.039, False)])
def test_queue_is_kept_short_when_it_was_never_short_for_half_a_second(*, wait_s: float, refuses: bool) -> None:
    standing = Standing()
    for turn in range(51):
        assert not comes(standing, 0.05, wait_s, 0.1, 7.0 + 0.01 * turn)
    assert comes(standing, 0.05, wait_s, 0.1, 7.51) == refuses


def test_queue_does_not_stand_when_it_was_short_once() -> None:
    standing = Standing()
    for turn in range(200):
        queue_s = 0.009 if turn % 50 == 49 else 0.05
        assert not comes(standing, queue_s, queue_s, 0.1, 0.01 * turn)


def test_those_with_less_time_are_refused_when_one_with_more_is() -> None:
    standing = Standing()
    least_s = Standing.least_left_s(0.04)
    for now_s in 0.05 * np.arange(20):
        found = [comes(standing, 0.5, 0.04, least_s * factor, now_s) for factor in (0.99, 1.01)]
    assert found == [True, False]


@pytest.mark.parametrize(("short", "stands"), [(5, True), (9, False)])
def test_queue_that_stands_goes_on_doing_so_until_it_is_short_for_a_while(*, short: int, stands: bool) -> None:
    standing = Standing()
    for turn in range(100):
        standing.look(0.05, 0.1, 0.01 * turn)
    for turn in range(short):
        standing.look(0.001, 0.1, 1.0 + 0.01 * turn)
    assert comes(standing, 0.05, 0.05, 0.1, 1.01 + 0.01 * (short - 1)) == stands


def test_queue_does_not_stand_when_nobody_has_come_for_a_while() -> None:
    standing = Standing()
    for turn in range(100):
        standing.look(0.05, 0.1, 0.01 * turn)
    assert standing.stands(1.0)
    assert not comes(standing, 0.05, 0.05, 0.1, 1.5)


def test_queue_stands_no_more_when_the_load_has_fallen_to_where_it_is_long_now_and_then() -> None:
    standing = Standing()
    for turn in range(100):
        standing.look(0.05, 0.1, 0.01 * turn)
    for turn in range(100):  # long at every third look: never short for a tenth of a second on end
        standing.look(0.05 if turn % 3 == 0 else 0.001, 0.1, 1.0 + 0.01 * turn)
    assert not standing.stands(2.0)


@pytest.mark.parametrize("other_s", [10.0, 0.002])
def test_queue_stands_when_a_few_have_much_more_or_less_time_than_most(other_s: float) -> None:
    standing = Standing()
    for turn in range(1000):
        standing.look(0.03, other_s if turn % 50 == 7 else 0.05, 0.001 * turn)
    assert standing.stands(1.0)


def test_queue_does_not_stand_when_one_client_has_next_to_no_time() -> None:
    standing = Standing()
    for turn in range(1000):
        standing.look(0.002, -0.001 if turn % 50 == 7 else 0.05, 0.001 * turn)
    assert not standing.stands(1.0)


def test_queue_does_not_stand_when_nobody_has_looked_for_a_while() -> None:
    standing = Standing()
    for turn in range(3):
        standing.look(0.05, 0.1, 0.01 * turn)
    assert not standing.stands(1000.0)


def test_queue_stands_when_requests_take_long_and_few_come() -> None:
    standing = Standing()
    for turn in range(10):
        standing.look(1.0, 2.0, 0.25 * turn)
    assert standing.stands(2.25)


def test_nobody_waits_too_long_when_it_has_no_time_left() -> None:
    assert not Standing.is_much(0.0, -0.001)
    assert not Standing.is_much(0.01, 0.0)
