"""Where a model is cut: the cheapest place, under a limit, and in what form values are stored."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest

from rankine.compilation.binding import Binding, CostModel, Settings, split_graph
from rankine.compilation.binding.minimum_cut import SINK, SOURCE, Arc, minimum_cut
from rankine.compilation.binding.storage import restored
from rankine.errors import BadRequest, EngineError
from unit.binding_graphs import Sketch, in_float64, random_rows

_SIDES = {"i": Binding.CATALOG, "r": Binding.REQUEST}


def _layer(width: int = 64, out: int = 16) -> onnx.ModelProto:
    """A layer over an item's and a request's features, and the item's features once more."""
    sketch = Sketch(np.random.default_rng(0))
    sketch.feature("i", width)
    sketch.feature("r", width)
    joined = sketch.node("Concat", ["i", "r"], (2 * width,), axis=1)
    hidden = sketch.node("Gemm", [joined, sketch.weight(2 * width, out), sketch.weight(out)], (out,))
    return sketch.model(sketch.node("Relu", [hidden], (out,)))


@pytest.mark.parametrize("seed", range(30))
def test_minimum_cut_is_as_cheap_as_the_best_of_all_when_all_are_tried(seed: int) -> None:
    random = np.random.default_rng(seed)
    nodes = [SOURCE, "a", "b", "c", "d", SINK]
    arcs = [
        Arc(tail, head, float(random.integers(0, 9)))
        for tail, head in product(nodes, nodes)
        if tail != head and random.random() < 0.5
    ]

    def cost(side: set[object]) -> float:
        return sum(arc.cost for arc in arcs if arc.tail in side and arc.head not in side)

    tried = [{SOURCE, *(n for n, kept in zip("abcd", bits, strict=True) if kept)} for bits in product([0, 1], repeat=4)]
    assert cost(set(minimum_cut(arcs))) == min(map(cost, tried))


def test_partial_sum_is_stored_when_it_saves_more_than_it_costs() -> None:
    split = split_graph(_layer(), _SIDES)
    assert [(column.source, column.shape) for column in split.plan.catalog] == [("computed", (16,))]
    assert split.plan.work.candidate == 0


def test_features_are_fetched_and_multiplied_when_a_stored_sum_would_be_larger() -> None:
    dear = Settings(costs=CostModel(catalog_byte=100))
    split = split_graph(_layer(width=4, out=64), _SIDES, dear)
    assert [(column.source, column.shape) for column in split.plan.catalog] == [("input", (4,))]
    assert split.plan.stored_bytes_per_item == 0


@pytest.mark.parametrize(("catalog_bytes", "stored"), [(6400, 64), (6399, 0), (0, 0)])
def test_store_stays_within_its_limit_when_one_is_given(catalog_bytes: int, stored: int) -> None:
    split = split_graph(_layer(), _SIDES, Settings(catalog_bytes=catalog_bytes, items=100))
    assert split.plan.stored_bytes_per_item == stored


@pytest.mark.parametrize(("storage", "size", "error"), [("float16", 32, 2e-3), ("int8", 24, 3e-2)])
def test_store_is_smaller_and_scores_are_near_when_values_are_rounded(storage: str, size: int, error: float) -> None:
    model = _layer()
    split = split_graph(model, _SIDES, Settings.model_validate({"storage": storage}))
    rows = random_rows(model, _SIDES, 50, seed=0)
    (expected,) = in_float64(model, rows.gathered())
    assert split.plan.stored_bytes_per_item == size
    difference = np.abs(rows.split(split) - expected).max()
    assert 0 < difference < error * np.abs(expected).max()


def test_stored_rows_come_back_when_they_are_zero_or_large() -> None:
    values = np.array([[0.0, 0.0], [1e9, -5.0]], np.float32)
    assert np.array_equal(restored(values, "int8")[0], [0, 0])
    assert np.allclose(restored(values, "int8")[1], [1e9, -5.0], atol=1e9 / 255)
    assert restored(values, "float32") is values
    with pytest.raises(EngineError, match="Store it as float32"):
        restored(values, "float16")


def test_missing_feature_is_named_when_a_split_model_is_run() -> None:
    model = _layer()
    split = split_graph(model, _SIDES)
    rows = random_rows(model, _SIDES, 3, seed=0)
    del rows.columns[Binding.CATALOG]["i"]  # type: ignore[attr-defined]
    with pytest.raises(BadRequest, match=r"item\.i: a feature is missing"):
        rows.split(split)


def test_parts_are_empty_when_every_feature_is_of_the_pair() -> None:
    model = _layer()
    split = split_graph(model, dict.fromkeys(_SIDES, Binding.CANDIDATE))
    assert split.parts.catalog is None
    assert split.parts.request is None
    assert split.plan.work.candidate == split.plan.work.before
