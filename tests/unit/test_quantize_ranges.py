"""Ranges of activations: zero is a level, outliers are clipped where that pays, and the smallest error is chosen."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankine.compression.quantize.choose import choose_ranges
from rankine.compression.quantize.layers import find_layers, read_graph
from rankine.compression.quantize.observe import Observed, observe
from rankine.compression.quantize.ranges import CANDIDATES, Range, candidates
from rankine.compression.quantize.weights import column_scales, quantize_bias, quantize_weight
from unit.test_equalize import WIDTH, graph

ENDS = st.floats(-1e4, 1e4, width=32)


def observed(x: np.ndarray) -> Observed:
    return observe(graph(transposed=True), ["x"], {"x": x})["x"]


def heavy_tailed(rows: int = 2000) -> np.ndarray:
    """Nearly all values within 1, a few at 60."""
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (rows, WIDTH)).astype(np.float32)
    x[random.random(x.shape) < 1e-4] = 60
    return x


@given(ENDS, ENDS)
def test_zero_stays_zero_when_a_range_is_rounded_to(low: float, high: float) -> None:
    found = Range(min(low, high), max(low, high))
    zero = np.zeros(1, np.float32)
    assert found.rounded(zero) == zero


@given(st.floats(0, 1e3, width=32), st.floats(0, 1e3, width=32))
def test_values_are_within_one_step_when_inside_of_the_range(below: float, above: float) -> None:
    found = Range(-below, above)
    values = np.linspace(-below, above, 101, dtype=np.float32)
    assert np.abs(found.rounded(values) - values).max() <= 1.01 * found.scale


def test_candidates_hold_zero_and_lie_within_minmax_when_values_are_positive() -> None:
    x = np.random.default_rng(0).uniform(2, 3, (500, WIDTH)).astype(np.float32)
    for found in candidates(observed(x)).values():
        assert found.low == 0
        assert 0 < found.high <= x.max() + 1e-6


@pytest.mark.parametrize("method", ["percentile 99.9", "entropy"])
def test_outliers_are_clipped_when_they_are_few(method: str) -> None:
    assert CANDIDATES[method](observed(heavy_tailed())).high < 20


def test_mse_is_no_worse_than_minmax_when_measured_on_the_values() -> None:
    x = np.random.default_rng(0).standard_t(3, (20000, WIDTH)).astype(np.float32)
    errors = {name: np.square(option.rounded(x) - x).mean() for name, option in candidates(observed(x)).items()}
    assert errors["mse"] == pytest.approx(min(errors.values()), rel=0.05)
    assert errors["mse"] < 0.95 * errors["minmax"]


@pytest.mark.parametrize("values", [0.0, 5.0, -5.0])
def test_ranges_are_usable_when_all_values_are_equal(values: float) -> None:
    x = np.full((100, WIDTH), values, np.float32)
    for name, found in candidates(observed(x)).items():
        np.testing.assert_allclose(found.rounded(x), x, rtol=0.01, err_msg=name)


def test_auto_takes_the_least_error_of_the_layer_when_values_have_outliers() -> None:
    model, x = graph(transposed=True), heavy_tailed()
    layers, found = find_layers(read_graph(model)), {"x": observed(x)}
    errors = {
        method: choose_ranges(read_graph(model), layers, found, method)["x"].error
        for method in ("minmax", "percentile", "entropy", "mse")
    }
    chosen = choose_ranges(read_graph(model), layers, found, "auto")["x"]
    least = min(error for error in errors.values() if error is not None)
    assert chosen.error is not None
    assert chosen.error <= least
    assert errors["minmax"] is not None
    assert chosen.error < errors["minmax"] / 5


def test_histogram_and_sample_are_of_all_rows_when_rows_come_in_parts() -> None:
    x = np.random.default_rng(0).normal(size=(3000, WIDTH)).astype(np.float32)
    found = observed(x)
    assert (found.low, found.high) == (x.min(), x.max())
    assert found.counts.sum() == x.size
    assert found.sample.shape == x.shape


def test_positions_are_counted_when_they_lie_in_the_axis_of_the_rows() -> None:
    body = "{ flat = Reshape(x, merged) apart = Reshape(x, three) y = ReduceSum(x) }"
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> g (float[rows,12] x) => (float[1,1] y) '
        f"<int64[2] merged = {{-1, 4}}, int64[3] three = {{-1, 3, 4}}> {body}"
    )
    x = np.random.default_rng(0).normal(size=(1500, 12)).astype(np.float32)
    found = observe(model, ["x", "flat", "apart"], {"x": x})
    assert {name: each.positions for name, each in found.items()} == {"x": 1, "flat": 3, "apart": 3}


def test_bias_fits_and_is_exact_to_a_step_when_weights_of_a_column_are_nothing() -> None:
    weight, bias = np.zeros((4, 3), np.float32), np.array([0.5, 1e4, 0.0], np.float32)
    weight[:, 2] = 1e-12
    scale = column_scales(weight, bias, 0.01)
    codes = quantize_bias(bias, scale * np.float32(0.01))
    np.testing.assert_allclose(codes * (scale * 0.01), bias, rtol=1e-6)
    assert np.abs(quantize_weight(weight, scale)).max() == 127, "the column without a bias keeps its own scale"
