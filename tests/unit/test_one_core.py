"""What an event loop decides that shares its core with the engine."""

from __future__ import annotations

from rankine.policy.one_core import Company

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
