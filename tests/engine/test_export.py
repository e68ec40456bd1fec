"""The exported graph: equal to the PyTorch module on every engine that runs graphs, and as costly as a traced one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from engine.families import FAMILIES, family_network
from engine.installed import installed_engine
from engine.small_model import small_batch, small_schema
from rankine.artifact import Artifact
from rankine.compilation.compile import compile_artifact, open_runner
from rankine.compilation.operator_list import operators_of
from rankine.compression.search.shapes import shape_of
from rankine.models.checkpoint import load_checkpoint
from rankine.models.export import OUTPUT, export_model
from rankine.models.inputs import torch_inputs
from rankine.models.macs import COUNTED_ROWS
from rankine.models.network import size_of
from rankine.models.schema import CategoricalFeature, DenseFeature, Schema
from rankine.models.variant import BASELINE, load_model
from rankine.models.zoo import build_model
from rankine.models.zoo.base import tables_of

pytestmark = pytest.mark.engine

# Attributes of PyTorch's containers, and names that the exporter gives to values of its own.
ORDINARY = ("type", "items", "values", "keys", "train", "weight", "cat", "linear", "linear_1", "relu", "mul", "add")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("rows", [1, 7, 512])
def test_exported_graph_equals_pytorch_when_rows_vary(zoo: Artifact, tmp_path: Path, engine: str, rows: int) -> None:
    installed_engine(engine)
    compiled = compile_artifact(zoo, engines=[engine], verify_batch=small_batch(64), out=tmp_path / "compiled")
    checkpoint = load_model(zoo, BASELINE).checkpoint
    assert checkpoint is not None
    batch = small_batch(rows)
    with torch.inference_mode():
        expected = load_checkpoint(checkpoint)(torch_inputs(batch, small_schema(history=True))).numpy()
    out = np.empty((rows, 1), np.float32)
    runner = open_runner(compiled, BASELINE, engine)
    runner.run(batch, out)
    runner.close()
    assert (np.abs(out - expected) / np.maximum(1, np.abs(expected))).max() <= 1e-5


def test_model_is_built_and_exported_when_features_have_ordinary_names(tmp_path: Path) -> None:
    features = (
        *(CategoricalFeature(name=name, side="item") for name in ORDINARY),
        DenseFeature(name="price", side="item"),
    )
    schema = Schema(features=features, item_id="sku")
    sizes = {"embedding_dim": 3, "hidden": [5], "cross_layers": 2, "dropout": 0.0}
    model = build_model(schema, dict.fromkeys(ORDINARY, 4), sizes).eval()
    assert list(tables_of(model)) == list(ORDINARY)
    onnx.save(export_model(model), tmp_path / "graph.onnx")
    graph = onnx.load(tmp_path / "graph.onnx").graph
    assert [value.name for value in graph.input] == [*ORDINARY, "price"]
    assert [value.name for value in graph.output] == [OUTPUT]
    ids = torch.arange(4, dtype=torch.int32)
    with torch.no_grad():
        parts = model.embed({**dict.fromkeys(ORDINARY, ids), "price": ids[:, None] / 4})
        expected = model.dense(parts).numpy()
    feed = {name: part.numpy() for name, part in zip([*ORDINARY, "price"], parts, strict=True)}
    (outputs,) = ReferenceEvaluator(str(tmp_path / "graph.onnx")).run(None, feed)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_traced_shape_has_the_operators_of_the_export_when_costed(name: str) -> None:
    exported = family_network(name)
    assert exported.module is not None
    assert operators_of(shape_of(exported.module, 64), 64) == operators_of(exported, 64)
    assert size_of(shape_of(exported.module, COUNTED_ROWS)).macs_per_row == size_of(exported).macs_per_row
