"""Whether a request is handed to another process, and to which."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rankine.policy.balance import HANDOVER_S, better_process, has_too_many

DRAW = random.Random(1).sample


def test_request_goes_to_an_idle_process_only_when_a_fifth_of_its_time_is_left_after_handing_over() -> None:
    just_s = HANDOVER_S / 0.8
    assert better_process(0.99 * just_s, {1: 0.0}, DRAW) is None
    assert better_process(1.01 * just_s, {1: 0.0}, DRAW) == 1


def test_request_stays_when_nobody_else_is_there() -> None:
    assert better_process(1.0, {}, DRAW) is None


def test_request_goes_to_the_better_of_two_when_both_are_idle_enough() -> None:
    assert better_process(0.1, {1: 0.05, 2: 0.01}, DRAW) == 2


def test_request_stays_when_the_gain_is_less_than_handing_over_costs() -> None:
    assert better_process(0.010, {1: 0.009}, DRAW) is None
    assert better_process(0.100, {1: 0.085}, DRAW) is None  # and than a fifth of the time


def test_request_goes_to_the_best_of_those_drawn_when_there_are_many() -> None:
    asked: list[tuple[list[int], int]] = []

    def draw(numbers: Sequence[int], count: int) -> Sequence[int]:
        asked.append((list(numbers), count))
        return [3, 5]

    assert better_process(1.0, {number: number / 100 for number in range(1, 9)}, draw) == 3
    assert asked == [(list(range(1, 9)), 2)]


def test_requests_spread_when_all_others_are_equal() -> None:
    found = {better_process(1.0, dict.fromkeys(range(4), 0.0), DRAW) for _ in range(100)}
    assert found == {0, 1, 2, 3}


def test_connections_are_too_many_when_another_process_has_just_started() -> None:
    assert has_too_many(6, [0])
    assert has_too_many(1000, [590])
    assert not has_too_many(1000, [620])


def test_connections_are_left_alone_when_there_are_few() -> None:
    assert not has_too_many(2, [0])
    assert not has_too_many(1, [0, 0, 0])
    assert not has_too_many(0, [])
