"""The latency model over a table that is made by hand, and what it reads out of graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from rankine.compilation.operator_list import KINDS, LinearLayer, Operator, operators_of
from rankine.compilation.probe_graphs import linear_chain, operator_chain
from rankine.errors import ArtifactError, UsageError
from rankine.models.variant import Numeric
from rankine.planning.latency_model import LatencyModel, monotone
from rankine.planning.latency_table import EngineTable, LatencyTable, LinearCost, read_table, write_table
from rankine.planning.measure_latency import line_through, quantized, scale_of

ROWS, WIDTHS = (1, 64, 512), (8, 64, 256)
FREE = LinearCost(fixed_ms=0, element_ms=0)


def engine(ns_per_mac: float, call_ms: float, scale: Mapping[Numeric, float] | None = None) -> EngineTable:
    grid = np.einsum("r,w,c->rwc", ROWS, WIDTHS, WIDTHS) * ns_per_mac * 1e-6
    layers = tuple(tuple(tuple(row) for row in plane) for plane in grid.tolist())
    return EngineTable(
        version="1",
        layers={"fp32": layers, "int8": tuple(tuple(tuple(cell / 4 for cell in row) for row in p) for p in layers)},
        call_ms=(call_ms, call_ms, call_ms),
        operators=dict.fromkeys(KINDS, FREE),
        scale=scale or {},
    )


def table(**engines: EngineTable) -> LatencyTable:
    return LatencyTable(
        machine="m",
        rows=ROWS,
        widths=WIDTHS,
        engines=engines or {"quick": engine(0.01, 0.1), "lean": engine(0.02, 0.01)},
        lookup=dict.fromkeys(("dense", "float32", "int8", "int4"), FREE),
        checks=(),
        error=None,
        environment={},
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )


MODEL = LatencyModel(table())


def test_layer_is_exact_when_its_shape_was_measured() -> None:
    assert MODEL.layer_ms(64, 64, 256, "fp32") == pytest.approx(64 * 64 * 256 * 1e-8)


def test_layer_follows_the_work_when_its_shape_lies_between_or_beyond() -> None:
    assert MODEL.layer_ms(200, 100, 30, "fp32") == pytest.approx(200 * 100 * 30 * 1e-8, rel=1e-6)
    assert MODEL.layer_ms(2048, 1024, 512, "int8") == pytest.approx(2048 * 1024 * 512 * 0.25e-8, rel=1e-6)


def test_layers_never_get_faster_when_they_get_wider() -> None:
    noisy = np.random.default_rng(0).random((3, 3, 3)) + np.einsum("r,w,c->rwc", ROWS, WIDTHS, WIDTHS) * 1e-6
    smooth = monotone(noisy)
    for axis in range(3):
        assert (np.diff(smooth, axis=axis) >= 0).all()
    assert not (np.diff(noisy, axis=1) >= 0).all(), "the noise has to be something to smooth"


def test_smoothing_changes_nothing_when_times_grow() -> None:
    grid = np.einsum("r,w->rw", ROWS, WIDTHS).astype(np.float64)
    np.testing.assert_array_equal(monotone(grid), grid)


def test_numeric_form_is_refused_when_it_was_not_measured() -> None:
    with pytest.raises(UsageError, match=r"allowed: fp32, int8"):
        MODEL.layer_ms(1, 8, 8, "fp16")


def test_engine_with_the_least_sum_is_fastest_when_a_graph_is_predicted() -> None:
    chain = linear_chain(64, 256, 1)
    assert MODEL.fastest(chain, 1)[0] == "lean"
    name, latency_ms = MODEL.fastest(chain, 512)
    assert name == "quick"
    assert latency_ms == pytest.approx(0.1 + 2 * 512 * 64 * 256 * 1e-8)


def test_model_of_one_engine_predicts_by_it_alone_when_asked_for() -> None:
    chain = linear_chain(64, 256, 1)
    lean = MODEL.on(["lean", "absent"])
    assert lean.fastest(chain, 512) == ("lean", MODEL.by_engine(chain, 512)["lean"])
    assert lean.digest != MODEL.digest
    assert MODEL.on(["absent"]) is MODEL


def test_prediction_is_lower_when_a_graph_is_to_be_int8() -> None:
    chain = linear_chain(64, 256, 2)
    assert MODEL.latency_ms(replace(chain, numeric="int8"), 512) < 0.5 * MODEL.latency_ms(chain, 512)


def test_layers_are_scaled_by_their_numeric_form_when_whole_graphs_took_longer() -> None:
    plain = LatencyModel(table(one=engine(0.01, 0.1)))
    scaled = LatencyModel(table(one=engine(0.01, 0.1, {"int8": 1.5})))
    assert scaled.layer_ms(64, 64, 64, "int8") == pytest.approx(1.5 * plain.layer_ms(64, 64, 64, "int8"))
    assert scaled.layer_ms(64, 64, 64, "fp32") == plain.layer_ms(64, 64, 64, "fp32")
    chain = linear_chain(64, 256, 2)
    assert scaled.latency_ms(chain, 512) == plain.latency_ms(chain, 512)
    # Three of four equal layers are INT8, each at a quarter of the time of the head, which stays FP32.
    head_ms = plain.layer_ms(512, 64, 256, "fp32")
    assert scaled.layers_ms(quantized(chain), 512)["one"] == pytest.approx((1 + 0.75 * 1.5) * head_ms)
    assert scaled.latency_ms(quantized(chain), 512) == pytest.approx(0.1 + (1 + 0.75 * 1.5) * head_ms)


def test_scale_is_the_median_within_bounds_when_graphs_differ() -> None:
    assert scale_of([(3.0, 2.0), (1.0, 1.0), (4.0, 2.0)]) == 1.5
    assert scale_of([(-1.0, 1.0)]) == 0.25
    assert scale_of([(9.0, 1.0)]) == 4.0


def test_table_has_another_hash_when_it_is_scaled() -> None:
    plain, scaled = table(one=engine(0.01, 0.1)), table(one=engine(0.01, 0.1, {"int8": 1.5}))
    assert scaled.digest != plain.digest
    assert plain.digest == "78b78c8b9a93895e59170f62"


def test_operators_are_linear_layers_alone_when_bias_and_activation_are_fused() -> None:
    assert operators_of(linear_chain(16, 32, 1), rows=5) == [
        LinearLayer(5, 16, 32, "fp32"),
        LinearLayer(5, 32, 16, "fp32"),
    ]


def test_quantized_layers_are_told_from_the_head_when_a_graph_is_int8() -> None:
    layers = [
        part for part in operators_of(quantized(linear_chain(16, 32, 2)), rows=5) if isinstance(part, LinearLayer)
    ]
    assert [layer.numeric for layer in layers] == ["int8", "int8", "int8", "fp32"]


def test_products_of_activations_count_their_macs_when_listed() -> None:
    chain, macs = operator_chain("product", 64, 1)
    products = [part for part in operators_of(chain, rows=3) if isinstance(part, Operator) and part.kind == "product"]
    assert sum(part.elements for part in products) == 3 * macs


def test_line_has_no_negative_parts_when_times_are_noisy() -> None:
    amounts = np.array([1.0, 10.0, 100.0])
    for times in ([0.5, 0.4, 0.3], [1e-4, 0.2, 3.0]):
        found = line_through(amounts, np.array(times))
        assert found.fixed_ms >= 0
        assert found.element_ms >= 0
    exact = line_through(amounts, 0.1 + 0.02 * amounts)
    assert (exact.fixed_ms, exact.element_ms) == (pytest.approx(0.1), pytest.approx(0.02))


def test_table_reads_back_equal_when_written(tmp_path: Path) -> None:
    path = tmp_path / "state" / "latency.json"
    assert read_table(path) is None
    write_table(table(), path)
    assert read_table(path) == table()
    assert LatencyModel(table()).digest == MODEL.digest


def test_table_is_refused_with_what_to_do_when_the_file_is_another(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    path.write_text('{"schema_version": 1}')
    with pytest.raises(ArtifactError, match="measured anew"):
        read_table(path)
