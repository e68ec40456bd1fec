"""Student's t against SciPy and against what it tends to."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from scipy import stats as oracle

from rankine.errors import UsageError
from rankine.student import t_probability, t_quantile


@pytest.mark.parametrize("freedom", [1.0, 2.5, 5.0, 45.3, 150.0, 6000.0])
def test_probability_and_quantile_equal_scipy_when_freedom_is_finite(freedom: float) -> None:
    for value in (-30.0, -3.3, -0.2, 0.0, 1.2, 8.0):
        assert t_probability(value, freedom) == pytest.approx(oracle.t.cdf(value, freedom), rel=1e-9, abs=1e-12)
    for probability in (0.01, 0.05, 0.5, 0.95, 0.975):
        assert t_quantile(probability, freedom) == pytest.approx(oracle.t.ppf(probability, freedom), abs=1e-5)


def test_t_is_normal_when_freedom_is_infinite_or_huge() -> None:
    assert t_quantile(0.95, math.inf) == NormalDist().inv_cdf(0.95)
    assert t_quantile(0.95, 1e9) == pytest.approx(NormalDist().inv_cdf(0.95), abs=1e-5)
    assert t_probability(-2.0, math.inf) == NormalDist().cdf(-2.0)


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, float("nan")])
def test_quantile_refuses_when_probability_is_out_of_range(probability: float) -> None:
    with pytest.raises(UsageError, match="not a probability"):
        t_quantile(probability, 5.0)
