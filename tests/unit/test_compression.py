"""Recipes, drawn rows, and the INT8 forms of tables and graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest

from rankine.compression.compress import compress
from rankine.compression.context import draw_rows
from rankine.compression.quantize import quantize_graph
from rankine.compression.recipe import (
    DEFAULT_RECIPE,
    Distill,
    LowRank,
    Pass,
    Prune,
    Quantize,
    QuotientRemainder,
    Recipe,
    ShrinkTables,
    Tuning,
    read_recipe,
)
from rankine.compression.table_forms import quantize_table
from rankine.config import dump_yaml, parse
from rankine.data.synthetic import make_synthetic
from rankine.errors import ConfigError, UsageError
from rankine.events import Event, Started
from rankine.models.lookup_reference import reference_lookup
from rankine.models.variant import Table
from rankine.training.config import FitConfig
from unit.small_networks import batch_of, context_of, network


def test_recipe_round_trips_when_written_as_yaml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(DEFAULT_RECIPE))
    assert read_recipe(path) == DEFAULT_RECIPE


@pytest.mark.parametrize(
    "settings",
    [
        Distill(hidden=(9,), sizes={"embedding_dim": 4, "tower": [8]}, drawn_rows=2.0, hidden_weight=0.5),
        LowRank(macs=0.25, tune=None),
        ShrinkTables(bytes=0.5, tune=Tuning(teacher_weight=0.5, fit=FitConfig(learning_rate=1e-4))),
        QuotientRemainder(smallest=100, buckets=7, combine="sum"),
        Prune(macs=0.25, latency=0.5, what=("fields",), importance="taylor"),
        Quantize(sensitivity=1e-4, tune=Tuning(drawn_rows=0.0), tables="mixed", equalize=False),
    ],
    ids=lambda settings: settings.type,
)
def test_pass_round_trips_with_its_version_when_written_as_yaml_and_as_json(settings: Pass, tmp_path: Path) -> None:
    recipe, path = Recipe(name="one", passes=(settings,), seed=5), tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(recipe))
    assert "version: 1" in path.read_text()
    assert read_recipe(path) == recipe == Recipe.model_validate_json(recipe.model_dump_json())
    with pytest.raises(ConfigError, match=r"passes\.0\.version"):
        parse(Recipe, {"passes": [{"type": settings.type, "version": 2}]})


def test_timed_option_is_named_when_a_pass_has_a_budget_of_time() -> None:
    assert DEFAULT_RECIPE.timed_option is None
    assert Recipe(passes=(Distill(), Prune(latency=0.5))).timed_option == "passes.1.latency"
    assert Recipe(passes=(Quantize(only_where_faster=True),)).timed_option == "passes.0.only_where_faster"


@pytest.mark.parametrize("timed", [Prune(latency=0.5), Quantize(only_where_faster=True)], ids=lambda step: step.type)
def test_recipe_is_refused_before_anything_is_read_when_it_needs_costs_and_there_are_none(
    timed: Pass, tmp_path: Path
) -> None:
    artifact, dataset = (cast(Any, None) for _ in range(2))  # neither is opened
    with pytest.raises(UsageError, match=r"recipe 'small': passes\.1\..* costs .*measured on this machine"):
        compress(artifact, Recipe(passes=(Distill(), timed)), dataset, out=tmp_path / "small")


def test_baseline_scores_drawn_rows_once_when_several_passes_learn() -> None:
    told: list[Event] = []
    context = replace(context_of(network("dcn_v2"), rows=300), emit=told.append)
    first, second = (context.examples(1.0, 0.5) for _ in range(2))
    assert first.batch.rows == round(1.5 * context.train.batch.rows)
    np.testing.assert_array_equal(first.targets, second.targets)
    begun = [event.task for event in told if isinstance(event, Started)]
    assert begun == ["teacher on training rows", "teacher on drawn rows"]


def test_recipe_suggests_the_key_when_misspelt() -> None:
    with pytest.raises(ConfigError, match="calibration_rows"):
        parse(Recipe, {"passes": [{"type": "quantize", "calibration_row": 5}]})


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"passes": [{"type": "distill", "hidden": [64, 0]}]}, r"passes\.0\.hidden\.1"),
        ({"passes": [{"type": "distill", "drawn_rows": float("inf")}]}, r"passes\.0\.drawn_rows"),
        ({"passes": [{"type": "quantize", "calibraton_rows": 5}]}, r"passes\.0\.calibraton_rows: unknown key"),
        ({"passes": [{"type": "quantize", "tune": {}}]}, r"passes\.0: 'tune' needs 'sensitivity'"),
        ({"passes": [{"type": "quantise"}]}, r"passes\.0\.type: unknown type .*Did you mean 'quantize'"),
    ],
)
def test_recipe_is_refused_with_the_key_when_a_value_could_only_crash_later(values: Any, where: str) -> None:
    with pytest.raises(ConfigError, match=f"small.yaml: {where}"):
        parse(Recipe, {"passes": [{"type": "quantize"}], **values}, source="small.yaml")


def test_draw_rows_keeps_requests_and_items_when_recombined() -> None:
    dataset = make_synthetic(3000, users=30, items=50, seed=1)
    batch = dataset.encode(dataset.fit_transforms(np.arange(3000)))
    drawn = draw_rows(batch, 5000, seed=0)
    assert drawn is not None
    assert drawn.rows == 5000
    assert set(drawn.request_index) <= set(batch.request_index)
    assert set(drawn.item_index) <= set(batch.item_index)
    pairs = set(zip(batch.request_index, batch.item_index, strict=True))
    assert not set(zip(drawn.request_index, drawn.item_index, strict=True)) <= pairs


def test_quantized_table_is_a_third_or_less_when_rows_are_wide() -> None:
    table = Table(np.random.default_rng(0).normal(size=(100, 32)).astype(np.float32))
    assert quantize_table(table, "int8").size_bytes <= table.size_bytes / 3


def test_quantized_graph_is_canonical_when_written() -> None:
    whole = network("dcn_v2")
    inputs = reference_lookup(whole.schema, whole.tables, batch_of(64), np.float32)
    graph = quantize_graph(whole.graph, inputs).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    activations = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    weights = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    linear = [node for node in graph.node if node.op_type in ("Gemm", "MatMul")]
    assert {constants[node.input[2]].dtype for node in activations} == {np.dtype(np.uint8)}
    stored = [constants[node.input[0]] for node in weights if constants[node.input[0]].ndim == 2]
    assert len(stored) == 4, "two cross layers and two hidden layers; the head keeps FP32"
    assert all(weight.dtype == np.int8 for weight in stored)
    per_channel = [constants[node.input[1]].size for node in weights if constants[node.input[0]].ndim == 2]
    assert all(size > 1 for size in per_channel)
    head = next(node for node in linear if graph.output[0].name in node.output)
    produced = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    assert not produced & set(head.input)
