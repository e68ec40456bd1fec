"""Reference models as modules: sizes that are refused, checkpoints on disk, and the page that lists their settings."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from rankine.config import parse
from rankine.errors import ArtifactError, ConfigError
from rankine.models.checkpoint import load_checkpoint, save_checkpoint
from rankine.models.schema import CategoricalFeature, DenseFeature, Schema
from rankine.models.zoo import ARCHITECTURES, build_model
from rankine.models.zoo.base import RankingModel
from rankine.models.zoo.dcn_v2 import DcnV2Config

SIZES = {"embedding_dim": 3, "hidden": [5], "cross_layers": 2, "dropout": 0.0}


def build(**settings: Any) -> RankingModel:
    features = (CategoricalFeature(name="user", side="item"), DenseFeature(name="price", side="item"))
    schema = Schema(features=features, item_id="sku")
    torch.manual_seed(0)
    return build_model(schema, {"user": 4}, {**SIZES, **settings}).eval()


def inputs_of(model: RankingModel) -> dict[str, torch.Tensor]:
    ids = torch.arange(4, dtype=torch.int32)
    return {f.name: ids[:, None] / 4 if f.kind == "dense" else ids for f in model.schema.features}


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
