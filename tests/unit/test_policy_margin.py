"""The margin of admission, and the demand that the ladder looks at."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.policy.demand import Demand
from rankine.policy.margin import Margin


def test_margin_is_what_the_spread_suggests_when_nothing_is_known() -> None:
    assert Margin().seconds(0.002) == 0.002


def test_margin_settles_where_few_are_late_when_lateness_is_random() -> None:
    random = np.random.default_rng(0)
    margin, late_of_last = Margin(late_share=0.01, step_s=0.0005), 0
    for at in range(20_000):
        late = bool(random.exponential(0.002) > margin.seconds(0.01))
        margin.observe(0.01, late=late, on_time=not late)
        late_of_last += late and at >= 10_000
    assert late_of_last / 10_000 == pytest.approx(0.01, abs=0.004)
    assert margin.seconds(0.01) == pytest.approx(0.002 * np.log(100), rel=0.3)


def test_margin_is_bounded_when_everybody_is_late() -> None:
    margin = Margin()
    for _ in range(1000):
        margin.observe(0.001, late=1)
    assert margin.seconds(0.001) <= 0.004


def test_demand_is_the_offered_work_when_arrivals_are_steady_and_fades_when_they_stop() -> None:
    demand = Demand(memory_s=1.0)
    for at in range(1000):
        demand.add(0.012, at / 100)
    assert demand.per_s(10.0) == pytest.approx(1.2, rel=0.02)
    assert demand.per_s(15.0) < 0.01
