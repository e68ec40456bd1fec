"""Reference models as modules: names that users give, sizes that are refused, checkpoints on disk."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from rankine.config import parse
from rankine.errors import ArtifactError, ConfigError
from rankine.models.checkpoint import load_checkpoint, save_checkpoint
from rankine.models.export import OUTPUT, export_model
from rankine.models.schema import CategoricalFeature, DenseFeature, Schema
from rankine.models.zoo import ARCHITECTURES, build_model
from rankine.models.zoo.base import RankingModel, tables_of
from rankine.models.zoo.dcn_v2 import DcnV2Config

# Attributes of PyTorch's containers, and names that the exporter gives to values of its own.
ORDINARY = ("type", "items", "values", "keys", "train", "weight", "cat", "linear", "linear_1", "relu", "mul", "add")
SIZES = {"embedding_dim": 3, "hidden": [5], "cross_layers": 2, "dropout": 0.0}


def build(names: tuple[str, ...] = ("user",), **settings: Any) -> RankingModel:
    features = (
        *(CategoricalFeature(name=name, side="item") for name in names),
        DenseFeature(name="price", side="item"),
    )
    schema = Schema(features=features, item_id="sku")
    torch.manual_seed(0)
    return build_model(schema, dict.fromkeys(names, 4), {**SIZES, **settings}).eval()


def inputs_of(model: RankingModel) -> dict[str, torch.Tensor]:
    ids = torch.arange(4, dtype=torch.int32)
    return {f.name: ids[:, None] / 4 if f.kind == "dense" else ids for f in model.schema.features}


def test_model_is_built_and_exported_when_features_have_ordinary_names(tmp_path: Path) -> None:
    model = build(ORDINARY)
    assert list(tables_of(model)) == list(ORDINARY)
    onnx.save(export_model(model), tmp_path / "graph.onnx")
    graph = onnx.load(tmp_path / "graph.onnx").graph
    assert [value.name for value in graph.input] == [*ORDINARY, "price"]
    assert [value.name for value in graph.output] == [OUTPUT]
    from onnx.reference import ReferenceEvaluator

    with torch.no_grad():
        parts = model.embed(inputs_of(model))  # type: ignore[arg-type]
        expected = model.dense(parts).numpy()
    feed = {name: part.numpy() for name, part in zip([*ORDINARY, "price"], parts, strict=True)}
    outputs = ReferenceEvaluator(str(tmp_path / "graph.onnx")).run(None, feed)
    assert isinstance(outputs, list)
    np.testing.assert_allclose(np.asarray(outputs[0]), expected, atol=1e-5)


@pytest.mark.parametrize("hidden", [[0], [8, -1]])
def test_hidden_sizes_are_refused_when_not_positive(hidden: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"hidden\.[01]"):
        build(hidden=hidden)


def saved(folder: Path) -> Path:
    save_checkpoint(build(), parse(DcnV2Config, SIZES), folder)
    return folder


def test_checkpoint_gives_the_same_logits_when_loaded(tmp_path: Path) -> None:
    model, loaded = build(), load_checkpoint(saved(tmp_path))
    with torch.no_grad():
        assert torch.equal(model(inputs_of(model)), loaded(inputs_of(loaded)))


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"\xff" * 64])
@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_checkpoint_is_refused_with_the_file_named_when_damaged(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = saved(tmp_path) / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        load_checkpoint(tmp_path)


def test_reference_page_names_every_setting_and_default_when_compared_with_the_classes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for architecture in ARCHITECTURES:
        assert any(row.startswith(f"| `{architecture}`") for row in rows)
        module, config, _ = ARCHITECTURES[architecture].split(":")
        for key, field in getattr(import_module(module), config).model_fields.items():
            if key == "architecture":
                continue
            row = next(row for row in rows if row.startswith(f"| `{key}` |"))
            assert "all" in row.split("|")[3] or f"`{architecture}`" in row
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            assert str(default if default is not None else "none") in (page if key == "hidden" else row)
