"""The oracle of the serving proof."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def test_oracle_leaves_out_the_largest_when_not_all_can_be_in_time(serving: Any) -> None:
    service = serving.oracle.Service(call_s=0.0, row_s=0.001)
    due_s, rows = np.array([0.0, 0.001, 0.002, 1.0]), np.array([20.0, 45.0, 20.0, 50.0])
    assert serving.oracle.left_out(due_s, rows, service, 0.050, most=9) == 1
    assert serving.oracle.left_out(due_s, rows[[0, 2, 2, 3]] / 2, service, 0.050, most=9) == 0
    assert serving.oracle.left_out(due_s, np.full(4, 60.0), service, 0.050, most=2) == 3


def test_oracle_pays_for_a_call_when_it_was_idle(serving: Any) -> None:
    service = serving.oracle.Service(call_s=0.02, row_s=0.001)
    assert serving.oracle.left_out(np.array([0.0, 1.0]), np.full(2, 30.0), service, 0.0501, most=9) == 0
    assert serving.oracle.left_out(np.array([0.0, 1.0]), np.full(2, 31.0), service, 0.0501, most=9) == 2


def test_oracle_is_near_the_capacity_when_deadlines_are_long(serving: Any) -> None:
    service = serving.oracle.Service(call_s=0.0, row_s=1e-5, request_s=1e-3)
    users = [{"user": 1}]
    queries = serving.queries.draw_queries(users, np.arange(200), serving.queries.Mix(candidates="100"), seed=0)
    found = serving.oracle.oracle_rps("exponential", queries, service, 1.0, duration_s=20.0, seed=0)
    assert found == pytest.approx(500.0, rel=0.05)
