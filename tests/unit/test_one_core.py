"""What an event loop decides that shares its core with the engine."""

from __future__ import annotations

import pytest

from rankine.policy.one_core import Company, is_enough, may_join

BUSY, IDLE = 0.9, 0.3


def test_loop_waits_for_others_when_it_is_busy() -> None:
    company = Company()
    assert company.is_expected(BUSY)
    assert not company.is_expected(IDLE)


def test_loop_hardly_waits_any_more_when_nobody_came() -> None:
    company = Company()
    for _ in range(100):
        if company.is_expected(BUSY):
            company.waited(came=False)
    waits = sum(company.is_expected(BUSY) for _ in range(160))
    assert waits == 10  # now and then it tries


def test_loop_waits_again_when_others_came_where_it_tried() -> None:
    company = Company()
    for _ in range(100):
        company.waited(came=False)
    for _ in range(5):
        company.waited(came=True)
    assert all(company.is_expected(BUSY) for _ in range(10))


@pytest.mark.parametrize(
    ("rows", "predicted_s", "enough"), [(999, 0.01, False), (1000, 0.0002, False), (1000, 0.0004, True)]
)
def test_what_is_held_is_enough_when_it_is_efficient_and_longer_than_what_is_counted_around_it(
    *, rows: int, predicted_s: float, enough: bool
) -> None:
    assert is_enough(rows, 1000, predicted_s) == enough


@pytest.mark.parametrize(
    ("predicted_s", "left_s", "joins"), [(0.0005, 0.0006, True), (0.0005, 0.0004, False), (0.002, 0.1, False)]
)
def test_request_joins_what_is_short_when_all_are_in_time(*, predicted_s: float, left_s: float, joins: bool) -> None:
    assert may_join(predicted_s, left_s) == joins
